package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// changeServer gives a machine another process server of its site while it writes.
func (l *planLab) changeServer(ctx context.Context) error {
	const name = "web"
	before := l.scribes[name].acked.Load()
	was, err := l.waitNamed(ctx, name, "protected", time.Minute, func(s api.MachineStatus) bool { return s.Replication != nil })
	if err != nil {
		return err
	}
	began := time.Now()
	if err := l.apply(ctx, l.planMachine(name, secondServer)); err != nil {
		return err
	}
	phases := map[string]bool{}
	var took time.Duration // until the other one has taken records
	s, err := l.waitNamed(ctx, name, "shipped through the other process server", time.Minute, func(s api.MachineStatus) bool {
		if s.Replication == nil {
			return false
		}
		phases[s.Replication.Phase] = true
		if took == 0 && l.spooled(secondServer, s.Replication.Stream) {
			took = time.Since(began)
		}
		// A point that was made after that comes through.
		return took > 0 && s.CurrentScenario == nil && s.Replication.LatestPointAt.After(began.Add(took+time.Second)) && l.serves(secondServer, name) && !l.serves("psp", name)
	})
	if err != nil {
		return err
	}
	acked := l.scribes[name].acked.Load()
	l.r.figure(Figure{Name: "change_server", Value: milliseconds(took), Unit: "ms", Fault: "process server"})
	l.r.check("the source goes on while its process server changes", l.scribes[name].err == nil && acked > before,
		"records %d to %d, the longest write took %.0f ms", before, acked, float64(l.scribes[name].slow.Load())/1e6)
	stream := s.Replication.Stream
	r := waitFor(ctx, 40*time.Second, func() bool { return !l.spooled("psp", stream) && l.spooled(secondServer, stream) })
	l.r.check("the old process server is drained", r, "its spool has nothing of stream %s any more, the other one's has", stream)
	last := l.scribes[name].stop()
	s, err = l.waitNamed(ctx, name, "everything is stored", time.Minute, func(s api.MachineStatus) bool {
		return s.ProtectionState == api.Protected && s.Replication != nil && s.Replication.Dirty == 0 && s.Replication.Stored >= s.Replication.Captured
	})
	if err != nil {
		return err
	}
	l.r.check("no gap, or a closed one", s.Replication.Phase == "protected", "seen: %v; %d bytes were read again", slices.Sorted(maps.Keys(phases)), s.Replication.ResyncBytes-was.Replication.ResyncBytes)
	err = l.sameInVault(ctx, name, s.Replication.Stream, last)
	l.r.check("nothing is lost", err == nil, "the vault's newest and the source's disk: %s", sameOr(err))
	if l.scribes[name], err = startScribe(ctx, l.socket(name, "p"), last); err != nil {
		return err
	}
	l.say("  %s changed its process server in %.1f s", name, took.Seconds())
	return nil
}

func sameOr(err error) string {
	if err == nil {
		return "every byte is the same"
	}
	return err.Error()
}

// serves tells whether a node's process server is told to take the machine's stream.
func (l *planLab) serves(node, name string) bool {
	found, _ := filepath.Glob(filepath.Join(l.agentDir(node), "engines", "processserver-*", "config.json"))
	if len(found) != 1 {
		return false
	}
	b, err := os.ReadFile(found[0])
	return err == nil && bytes.Contains(b, []byte(`"default/`+name+`"`))
}

// spooled tells whether a node's process server keeps anything of a stream.
func (l *planLab) spooled(node, stream string) bool {
	found, _ := filepath.Glob(filepath.Join(l.agentDir(node), "engines", "processserver-*", "data", "*", stream))
	return len(found) > 0
}

// sameInVault compares the newest state in the vault with the source's disk, byte by byte.
func (l *planLab) sameInVault(ctx context.Context, name, stream string, last uint64) (err error) {
	v, err := l.open(ctx, "vr", "r")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	info, err := v.Stream(ctx, stream)
	if err != nil {
		return err
	}
	view, err := v.View(ctx, stream, info.Seq)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, view.Close()) }()
	at, err := l.compare(ctx, view, l.diskFile(name), nil)
	if err != nil || at >= 0 {
		return errors.Join(err, fmt.Errorf("they differ at %d", at))
	}
	disk, err := os.ReadFile(l.diskFile(name))
	if err != nil {
		return err
	}
	if found, err := checkScribe(disk); err != nil || found < last {
		return errors.Join(err, fmt.Errorf("the source's disk has record %d, %d was acknowledged", found, last))
	}
	return nil
}
