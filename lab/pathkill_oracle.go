package lab

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/capture/oracle"
	"github.com/understudy-ha/understudy/journal"
)

const (
	oracleWrites = 2000 // by default
	oracleChunk  = 2000 // writes that are compared at a time
	oracleDepth  = 16
)

// runPathOracle writes through QEMU's blklogwrites to a protected disk, while process server and object server are killed, and
// compares QEMU's log with the stream as it lies in the vault: one request at a time all of it, 16 at a time between flushes.
// Left-out records must be told. Rounds are writes.
func runPathOracle(ctx context.Context, o Options) (r Result, err error) {
	if len(o.Faults) > 0 {
		return r, refuse("fault", fmt.Sprint(o.Faults), "none: the process server and the object server are killed now and then")
	}
	if _, err := exec.LookPath("qemu-io"); err != nil {
		return r, fmt.Errorf("qemu-io is not installed: run make deps: %w", err)
	}
	l, err := newPathLab(o)
	defer func() { err = errors.Join(err, l.close()) }()
	if err != nil {
		return r, err
	}
	l.protect.QueueBytes = 0 // a gap would be right, and leave nothing to compare
	if err := l.configureProtect(); err != nil {
		return r, err
	}
	if err := l.startRoles(ctx, roleStore, rolePS, roleProtect); err != nil {
		return r, err
	}
	if err := l.whole(ctx); err != nil {
		return r, err
	}
	w := &witness{pathLab: l, rng: rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))}
	began, want := time.Now(), o.rounds(oracleWrites)
	for w.writes < want && (o.Duration == 0 || time.Since(began) < o.Duration) && len(w.differences) == 0 {
		depth := []int{1, oracleDepth}[w.chunks%2]
		if err := w.chunk(ctx, depth, min(oracleChunk/2, want-w.writes)); err != nil {
			return r, err
		}
		if w.chunks%10 == 0 {
			l.say("  %d of %d writes, %d differences", w.writes, want, len(w.differences))
		}
	}
	count := func(name string, n int) { r.figure(Figure{Name: name, Value: float64(n), Unit: "count"}) }
	count("writes", w.writes)
	count("flushes", w.flushes)
	count("kills", w.kills)
	count("mismatches", len(w.differences))
	r.figure(Figure{Name: "duration", Value: float64(time.Since(began).Round(100*time.Millisecond)) / float64(time.Second), Unit: "s"})
	r.check("the stream in the vault is what QEMU saw", len(w.differences) == 0 && w.writes > 0, "%d changes, %d flushes, in %d parts, %d kills: %s",
		w.writes, w.flushes, w.chunks, w.kills, orNone(w.differences))
	r.check("left-out records are told", w.told == w.chunks, "one in 40 was left out of each part: %d of %d told", w.told, w.chunks)
	return r, nil
}

// witness compares, part by part.
type witness struct {
	*pathLab
	rng                            *rand.Rand
	writes, flushes, chunks, kills int
	told                           int // parts whose spoilt stream was found out
	differences                    []string
}

// chunk writes n times, at a depth, waits until all of it is stored, and compares.
func (w *witness) chunk(ctx context.Context, depth, n int) error {
	before, err := w.ask(ctx, roleProtect)
	if err != nil {
		return err
	}
	killed := make(chan error, 1)
	part, done := context.WithCancel(ctx)
	go func() { killed <- w.kill(part) }()
	log, err := w.qemuIO(ctx, witnessCommands(w.rng, n, depth))
	done()
	if err := errors.Join(err, <-killed); err != nil {
		return err
	}
	defer os.Remove(log.Name())
	defer log.Close()
	recs, err := w.records(ctx, before.Captured)
	if err != nil {
		return err
	}
	mode := oracle.Exact
	if depth > 1 {
		mode = oracle.Flushed
	}
	rep, err := oracle.Compare(oracle.ReadLog(log), oracle.FromRecords(slices.Values(recs), 0), guestDiskSize, mode)
	if err != nil {
		return err
	}
	w.chunks, w.writes, w.flushes = w.chunks+1, w.writes+rep.Entries, w.flushes+rep.Flushes
	w.differences = append(w.differences, rep.Differences...)
	if rep.Entries < n/2 {
		w.differences = append(w.differences, fmt.Sprintf("QEMU saw %d changes of %d", rep.Entries, n))
	}
	spoilt, err := oracle.Compare(oracle.ReadLog(log), oracle.FromRecords(slices.Values(oneIn40LeftOut(recs)), 0), guestDiskSize, mode)
	if err == nil && spoilt.Total > 0 {
		w.told++
	}
	return err
}

// kill kills the process server or the object server now and then, until ctx ends; then both run.
func (w *witness) kill(ctx context.Context) error {
	for i := 0; sleep(ctx, time.Duration(200+w.kills*37%900)*time.Millisecond) == nil; i++ {
		role := []string{rolePS, roleStore}[i%2]
		w.procs[role].kill()
		w.kills++
		_ = sleep(ctx, 100*time.Millisecond)
		if err := w.start(role); err != nil {
			return err
		}
	}
	return nil
}

// records gives the stream after a position, from the vault, once everything that is captured now is stored.
func (w *witness) records(ctx context.Context, from uint64) (recs []journal.Record, err error) {
	now, err := w.ask(ctx, roleProtect)
	if err != nil {
		return nil, err
	}
	s, err := w.until(ctx, roleProtect, "stored", settleLimit, func(s api.EngineState) bool { return s.Stored >= now.Captured })
	if err != nil {
		return nil, err
	}
	if s.Protection != "protected" || !s.Changes.Hold() {
		return nil, fmt.Errorf("the stream has a gap, or its counters do not hold: %+v", s)
	}
	if !waitFor(ctx, 30*time.Second, w.storeAnswers) {
		return nil, fmt.Errorf("the object server does not answer: %s", w.tail(roleStore))
	}
	v, err := w.openVault(ctx)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	return recs, v.Records(ctx, pathStream, from, now.Captured, func(r *journal.Record) error {
		recs = append(recs, *r)
		return nil
	})
}

// qemuIO has qemu-io play commands through blklogwrites on the first disk, and gives the log.
func (w *witness) qemuIO(ctx context.Context, commands []string) (*os.File, error) {
	path := filepath.Join(w.dir, "witness.log")
	if err := writeFile(path, ""); err != nil {
		return nil, err
	}
	if err := os.Truncate(path, 4<<30); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "qemu-io", "--image-opts", "-t", "none", "driver=blklogwrites,file.driver=nbd,file.server.type=unix,file.server.path="+
		string(w.homes[roleProtect])+"/disk.sock,file.export="+guestDisks[0]+",file.discard=unmap,discard=unmap,log.driver=file,log.filename="+path)
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\nquit\n")
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "failed") || strings.Contains(string(out), "rror") {
		return nil, fmt.Errorf("qemu-io: %w: %s", err, out[max(0, len(out)-1000):])
	}
	return os.Open(path)
}

// witnessCommands writes commands for qemu-io. At a depth of more than one requests overlap, but none is under way across a flush.
func witnessCommands(r *rand.Rand, n, depth int) (commands []string) {
	async := ""
	if depth > 1 {
		async = "aio_"
	}
	flush := func() {
		if depth > 1 {
			commands = append(commands, "aio_flush")
		}
		commands = append(commands, "flush")
	}
	for i := range n {
		length := (1 + r.Int64N(32)) * sectorSize
		off := r.Int64N((guestDiskSize-length)/sectorSize) * sectorSize
		if r.IntN(2) == 0 {
			off /= 64 * sectorSize // half of all overlap
			off *= sectorSize
		}
		switch k := r.IntN(20); {
		case k == 0 && depth == 1:
			commands = append(commands, fmt.Sprintf("discard %d %d", off, length))
		case k == 1:
			commands = append(commands, fmt.Sprintf("%swrite -z %d %d", async, off, length))
		case k == 2:
			commands = append(commands, fmt.Sprintf("%swrite -f -P %d %d %d", async, 1+r.IntN(255), off, length))
		default:
			commands = append(commands, fmt.Sprintf("%swrite -P %d %d %d", async, 1+r.IntN(255), off, length))
		}
		if depth > 1 && i%depth == depth-1 {
			commands = append(commands, "aio_flush")
		}
		if r.IntN(25) == 0 {
			flush()
		}
	}
	flush()
	return commands
}

func oneIn40LeftOut(recs []journal.Record) (less []journal.Record) {
	changes := 0
	for _, r := range recs {
		if r.Kind == journal.Write || r.Kind == journal.Zero {
			if changes++; changes%40 == 0 {
				continue
			}
		}
		less = append(less, r)
	}
	return less
}
