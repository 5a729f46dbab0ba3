package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/engines"
	"github.com/understudy-ha/understudy/nbd"
	"github.com/understudy-ha/understudy/vault"
)

// runFailback cuts the line to the machine's site while the machine writes on there, fails it over to an older point, lets the
// old one come up by itself, and brings the machine home.
func runFailback(ctx context.Context, o Options) (r Result, err error) {
	if len(o.Faults) > 0 {
		return r, refuse("fault", fmt.Sprint(o.Faults), "none: the line is cut")
	}
	l, err := startMachine(ctx, o, &r, 20)
	defer func() { err = errors.Join(err, l.close()) }()
	if err != nil {
		return r, err
	}
	for _, part := range []func(context.Context) error{l.leave, l.comeUpAlone, l.reprotect, l.goHome, l.reEnable} {
		if err := part(ctx); err != nil {
			return r, err
		}
	}
	return r, nil
}

// points that the vault offers, newest first.
func (l *machineLab) points() (list api.PointList, err error) {
	err = l.desk.get("/v1/protectedmachines/"+machine+"/points", &list)
	return list, err
}

// leave cuts the line, lets the machine write what nobody gets, and fails it over to an older point.
func (l *machineLab) leave(ctx context.Context) error {
	var list api.PointList
	var err error
	if !waitFor(ctx, time.Minute, func() bool {
		list, err = l.points()
		return err == nil && len(list.Items) >= 6
	}) {
		return fmt.Errorf("the vault offers %d points after a minute, want 6 (%w)", len(list.Items), err)
	}
	older := list.Items[2]
	atCut, err := l.service(ctx, "p1", servicePort)
	if err != nil {
		return err
	}
	if err := l.cut(true); err != nil {
		return err
	}
	if err := sleep(ctx, 5*time.Second); err != nil {
		return err
	}
	alone, err := l.service(ctx, "p1", servicePort)
	if err != nil {
		return err
	}
	l.r.check("the source goes on alone", alone.Seq > atCut.Seq, "records %d to %d while the line was cut", atCut.Seq, alone.Seq)
	began := time.Now()
	job, err := l.operate(ctx, api.Operation{Operation: api.OpFailover, Point: &api.PointChoice{Kind: api.PointCustom, ID: older.ID}})
	if err != nil {
		return err
	}
	s, took, err := l.waitService(ctx, "r1", servicePort, began, bootLimit)
	if err != nil {
		_, jobErr := l.waitJob(ctx, job, time.Second)
		return errors.Join(err, jobErr)
	}
	if _, err := l.waitJob(ctx, job, jobLimit); err != nil {
		return err
	}
	l.r.figure(Figure{Name: "rto_p50", Value: milliseconds(took), Unit: "ms", Fault: "line"})
	l.r.check("it runs from the older point", s.Verified && s.Found < atCut.Seq, "record %d; the source had written %d (%s)", s.Found, alone.Seq, s.Wrong)
	l.say("  failed over to the point of %s: answers after %.1f s, from record %d", older.At.Format(time.TimeOnly), took.Seconds(), s.Found)
	_, err = l.do(ctx, api.Operation{Operation: api.OpCommit}, jobLimit)
	return err
}

// comeUpAlone restarts the old host while nobody can tell it anything, then joins the line.
func (l *machineLab) comeUpAlone(ctx context.Context) error {
	l.topo.spaces["p1"].killAll()
	<-l.procs["p1"].exit
	if err := l.startAgent(ctx, "p1"); err != nil {
		return err
	}
	if err := sleep(ctx, 5*time.Second); err != nil {
		return err
	}
	_, err := l.service(ctx, "p1", servicePort)
	l.r.check("the old machine does not come up by itself", err != nil, "its disk waits for a leader's word")
	if err := l.cut(false); err != nil {
		return err
	}
	var refused error
	ok := waitFor(ctx, time.Minute, func() bool {
		refused = l.writeOld(ctx)
		return errors.Is(refused, nbd.ErrReadOnly)
	})
	l.r.check("the old disk is refused for writing", ok, "a write is answered: %v", refused)
	return nil
}

// oldSocket is where the machine's disk is served at P.
func (l *machineLab) oldSocket() string {
	found, _ := filepath.Glob(filepath.Join(l.agentDir("p1"), "engines", "protect-*", "disk.sock"))
	return strings.Join(found, "")
}

// writeOld writes to the old primary's disk as its machine would.
func (l *machineLab) writeOld(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	c, err := nbd.Dial(ctx, "unix", l.oldSocket(), "root", nbd.DialOptions{})
	if err != nil {
		return err
	}
	defer c.Close()
	if c.ReadOnly() {
		return nbd.ErrReadOnly
	}
	return c.WriteAt(ctx, make([]byte, 512), c.Size()-512, true)
}

// reprotect ships what differs, and finds the old primary's own writes as a branch.
func (l *machineLab) reprotect(ctx context.Context) error {
	if _, err := l.do(ctx, api.Operation{Operation: api.OpReprotect}, jobLimit); err != nil {
		return err
	}
	s, err := l.waitMachine(ctx, "protected the other way", jobLimit, func(s api.MachineStatus) bool {
		return s.ProtectionState == api.Protected && s.ActiveLocation == api.Recovery
	})
	if err != nil {
		return err
	}
	info, err := os.Stat(l.disk)
	if err != nil {
		return err
	}
	l.r.figure(Figure{Name: "resync_bytes", Value: float64(s.Replication.ResyncBytes), Unit: "bytes"})
	l.r.figure(Figure{Name: "differing_bytes", Value: float64(s.Replication.DifferingBytes), Unit: "bytes"})
	l.r.check("only what differs is sent", s.Replication.DifferingBytes < info.Size()/4, "%d bytes compared, %d sent, of a disk of %d",
		s.Replication.ResyncBytes, s.Replication.DifferingBytes, info.Size())
	return l.readBranch(ctx)
}

// open opens a vault with its key.
func (l *machineLab) open(ctx context.Context, name, site string) (*engines.OpenedVault, error) {
	c := engines.Config{Secrets: map[string]map[string]string{"key": {"identity": l.keys[name].String()}}}
	return c.OpenVault(ctx, api.VaultAccess{Name: name, URL: "file://" + l.vaultDir(site), KeyRef: "key"}, "")
}

// readBranch compares the branch with the old primary's disk, which has not been written since.
func (l *machineLab) readBranch(ctx context.Context) error {
	v, err := l.open(ctx, "vr", "r")
	if err != nil {
		return err
	}
	defer v.Close()
	streams, err := v.Streams(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(streams, func(s string) bool { return strings.Contains(s, "-b") })
	if i < 0 {
		l.r.check("the branch is readable", false, "the vault has %v", streams)
		return nil
	}
	info, err := v.Stream(ctx, streams[i])
	if err != nil {
		return err
	}
	view, err := v.View(ctx, streams[i], info.Seq)
	if err != nil {
		return err
	}
	defer view.Close()
	differ, err := l.compare(ctx, view, l.disk, nil)
	l.r.check("the branch is readable", err == nil && differ < 0, "stream %s and the old disk: %s", streams[i], difference(differ, err))
	return nil
}

func difference(at int64, err error) string {
	switch {
	case err != nil:
		return err.Error()
	case at < 0:
		return "every byte is the same"
	}
	return fmt.Sprintf("they differ at %d", at)
}

// compare gives the first byte in which a view and a file differ, -1 for none. Where under is given, the view tells only what its
// stream wrote, and under has the rest.
func (l *machineLab) compare(ctx context.Context, v *vault.View, path string, under *os.File) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	d := v.Disk(0)
	const step = 1 << 20
	want, got := make([]byte, step), make([]byte, step)
	for off := int64(0); off < d.Size(); off += step {
		n := min(step, d.Size()-off)
		if _, err := f.ReadAt(want[:n], off); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if under != nil {
			if _, err := under.ReadAt(got[:n], off); err != nil && !errors.Is(err, io.EOF) {
				return 0, err
			}
			err = d.InStream(ctx, off, n, func(o, m int64) bool {
				_, err = d.ReadAt(ctx, got[o-off:o-off+m], o)
				return err == nil
			})
		} else if _, err = d.ReadAt(ctx, got[:n], off); errors.Is(err, io.EOF) {
			err = nil
		}
		if err != nil {
			return 0, err
		}
		if !bytes.Equal(want[:n], got[:n]) {
			for i := range n {
				if want[i] != got[i] {
					return off + i, nil
				}
			}
		}
	}
	return -1, nil
}

// goHome stops the machine at R, compares byte by byte what will run at P, and runs it there.
func (l *machineLab) goHome(ctx context.Context) error {
	if _, err := l.do(ctx, api.Operation{Operation: api.OpShutdown}, jobLimit); err != nil {
		return err
	}
	if err := l.compareHome(ctx); err != nil {
		return err
	}
	began := time.Now()
	if _, err := l.do(ctx, api.Operation{Operation: api.OpFailback}, jobLimit); err != nil {
		return err
	}
	s, took, err := l.waitService(ctx, "p1", servicePort, began, bootLimit)
	if err != nil {
		return err
	}
	l.r.figure(Figure{Name: "rto_p50", Value: milliseconds(took), Unit: "ms", Fault: "failback"})
	l.r.check("it is home", s.Verified, "record %d and all before it (%s)", s.Found, s.Wrong)
	l.say("  home: answers after %.1f s, from record %d", took.Seconds(), s.Found)
	_, err = l.do(ctx, api.Operation{Operation: api.OpCommit}, jobLimit)
	return err
}

// compareHome compares the disk at R with the old disk under what was shipped.
func (l *machineLab) compareHome(ctx context.Context) error {
	s, err := l.waitMachine(ctx, "everything is stored and local", jobLimit, func(s api.MachineStatus) bool {
		return s.Replication != nil && s.Replication.Dirty == 0 && s.Run != nil && s.Run.Progress == 100
	})
	if err != nil {
		return err
	}
	v, err := l.open(ctx, "vp", "p")
	if err != nil {
		return err
	}
	defer v.Close()
	end, err := v.Stream(ctx, s.Replication.Stream) // the machine is down: nothing comes after
	if err != nil {
		return err
	}
	view, err := v.View(ctx, end.ID, end.Seq)
	if err != nil {
		return err
	}
	defer view.Close()
	old, err := os.Open(l.disk)
	if err != nil {
		return err
	}
	defer old.Close()
	there, _ := filepath.Glob(filepath.Join(l.agentDir("r1"), "engines", "site-*", "data", "disk-root.raw"))
	if len(there) != 1 {
		return fmt.Errorf("the disk at r: found %v", there)
	}
	at, err := l.compare(ctx, view, there[0], old)
	l.r.check("byte by byte the same", err == nil && at < 0, "the disk at r, and the old disk under what was shipped: %s", difference(at, err))
	return nil
}

// reEnable protects the machine as in the beginning.
func (l *machineLab) reEnable(ctx context.Context) error {
	if _, err := l.do(ctx, api.Operation{Operation: api.OpReEnable}, jobLimit); err != nil {
		return err
	}
	_, err := l.waitMachine(ctx, "protected as in the beginning", jobLimit, func(s api.MachineStatus) bool {
		return s.ProtectionState == api.Protected && s.ActiveLocation == api.Primary
	})
	l.r.check("it is protected again", err == nil, "shipped to r again (%v)", err)
	return nil
}
