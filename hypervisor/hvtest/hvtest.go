// Package hvtest is what every hypervisor must pass. Its machines have empty disks: nothing boots, and that is enough to see
// whether machines live, are found again and end as they should.
package hvtest

import (
	"bytes"
	"context"
	"errors"
	"image/png"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/hypervisor"
)

// limit of one test: a loaded machine is slow.
const limit = 2 * time.Minute

// Run the suite. open gives the same hypervisor each time it is called with the same directory, as another process would see it.
func Run(t *testing.T, open func(t *testing.T, dir string) hypervisor.Hypervisor) {
	for name, test := range map[string]func(*suite){
		"a machine lives and is found again": (*suite).lives,
		"another definition is refused":      (*suite).refusesAnother,
		"starts at once are one":             (*suite).startsOnce,
		"the unknown is not found":           (*suite).knowsNoOther,
		"a machine pauses and resumes":       (*suite).pauses,
		"a machine is stopped and started":   (*suite).stops,
		"a screen is seen":                   (*suite).shows,
		"an agent that is not there":         (*suite).missesAgent,
		"a kill does not wait for a stop":    (*suite).killsDuringStop,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			ctx, cancel := context.WithTimeout(context.Background(), limit)
			defer cancel()
			s := &suite{T: t, ctx: ctx, dir: dir, hv: open(t, dir), open: func() hypervisor.Hypervisor { return open(t, dir) }}
			defer s.removeAll()
			test(s)
		})
	}
}

type suite struct {
	*testing.T
	ctx  context.Context
	dir  string
	hv   hypervisor.Hypervisor
	open func() hypervisor.Hypervisor
}

func (s *suite) removeAll() {
	names, err := s.hv.List(context.Background())
	if err != nil {
		s.Error(err)
	}
	for _, name := range names {
		if err := s.hv.Remove(context.Background(), name); err != nil {
			s.Error(err)
		}
	}
}

// machine with an empty disk.
func (s *suite) machine(name string) hypervisor.Machine {
	disk := filepath.Join(s.dir, name+".img")
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		s.Fatal(err)
	}
	if err := os.Truncate(disk, 1<<20); err != nil {
		s.Fatal(err)
	}
	return hypervisor.Machine{Name: name, MemoryMiB: 32, CPUs: 1, Disks: []hypervisor.Disk{{ID: "root", File: disk}},
		NICs: []hypervisor.NIC{{Mode: hypervisor.Unplugged}, {Mode: hypervisor.Isolated}}}
}

func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) wants(err, want error) {
	s.Helper()
	var typed *hypervisor.Error
	if !errors.Is(err, want) || !errors.As(err, &typed) {
		s.Errorf("%v: want a *hypervisor.Error that is %q", err, want)
	}
}

func (s *suite) state(name string, want hypervisor.State) hypervisor.Status {
	s.Helper()
	st, err := s.hv.Status(s.ctx, name)
	s.must(err)
	if st.State != want {
		s.Errorf("%s is %s (%s), want %s", name, st.State, st.Reason, want)
	}
	return st
}

func (s *suite) lives() {
	m := s.machine("one")
	before := time.Now()
	s.must(s.hv.Start(s.ctx, m))
	st := s.state("one", hypervisor.Running)
	if st.PID == 0 || st.Started.Before(before.Add(-5*time.Second)) || st.Started.After(time.Now().Add(5*time.Second)) {
		s.Errorf("%+v, started at %v", st, before)
	}
	s.hv = s.open() // another process
	if again := s.state("one", hypervisor.Running); again.PID != st.PID {
		s.Errorf("process %d, was %d", again.PID, st.PID)
	}
	s.must(s.hv.Start(s.ctx, m)) // adopts
	if again := s.state("one", hypervisor.Running); again.PID != st.PID {
		s.Errorf("process %d after a second start, was %d", again.PID, st.PID)
	}
	found, err := s.hv.Discover(s.ctx)
	s.must(err)
	seen := 0
	for _, f := range found {
		if f.Ours && f.Machine.Equal(m) && f.Status.PID == st.PID {
			seen++
		}
	}
	if seen != 1 {
		s.Errorf("discovered %d times: %+v", seen, found)
	}
	s.must(s.hv.Remove(s.ctx, "one"))
	if _, err := os.Stat(m.Disks[0].File); err != nil {
		s.Error("removing a machine touched its disk: ", err)
	}
	_, err = s.hv.Status(s.ctx, "one")
	s.wants(err, hypervisor.ErrNotFound)
	s.must(s.hv.Remove(s.ctx, "one"))
}

func (s *suite) refusesAnother() {
	m := s.machine("one")
	s.must(s.hv.Start(s.ctx, m))
	m.MemoryMiB *= 2
	s.wants(s.hv.Start(s.ctx, m), hypervisor.ErrDifferent)
	s.state("one", hypervisor.Running)
	s.must(s.hv.Kill(s.ctx, "one"))
	s.must(s.hv.Start(s.ctx, m))
	got, err := s.hv.Definition(s.ctx, "one")
	s.must(err)
	if !got.Equal(m) {
		s.Errorf("defined %+v, want %+v", got, m)
	}
	m.CPUs = 0
	if err := s.hv.Start(s.ctx, m); err == nil {
		s.Error("a machine without processors started")
	}
}

func (s *suite) startsOnce() {
	m := s.machine("one")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := s.open().Start(s.ctx, m); err != nil {
				s.Error(err)
			}
		})
	}
	wg.Wait()
	found, err := s.hv.Discover(s.ctx)
	s.must(err)
	n := 0
	for _, f := range found {
		for _, d := range f.Machine.Disks {
			if d.File == m.Disks[0].File {
				n++
			}
		}
	}
	if n != 1 {
		s.Errorf("%d machines on one disk", n)
	}
}

func (s *suite) knowsNoOther() {
	_, err := s.hv.Status(s.ctx, "nobody")
	s.wants(err, hypervisor.ErrNotFound)
	_, err = s.hv.Stop(s.ctx, "nobody", time.Second)
	s.wants(err, hypervisor.ErrNotFound)
	s.wants(s.hv.Kill(s.ctx, "nobody"), hypervisor.ErrNotFound)
	s.wants(s.hv.Pause(s.ctx, "../../etc"), hypervisor.ErrNotFound)
	_, err = s.hv.Serial(s.ctx, "nobody", 0)
	s.wants(err, hypervisor.ErrNotFound)
	if names, err := s.hv.List(s.ctx); err != nil || len(names) != 0 {
		s.Errorf("listed %v: %v", names, err)
	}
}

func (s *suite) pauses() {
	s.must(s.hv.Start(s.ctx, s.machine("one")))
	s.must(s.hv.Pause(s.ctx, "one"))
	s.state("one", hypervisor.Paused)
	s.must(s.hv.Pause(s.ctx, "one"))
	s.must(s.hv.Resume(s.ctx, "one"))
	s.state("one", hypervisor.Running)
	s.must(s.hv.Kill(s.ctx, "one"))
	s.wants(s.hv.Resume(s.ctx, "one"), hypervisor.ErrNotRunning)
}

func (s *suite) stops() {
	m := s.machine("one")
	s.must(s.hv.Start(s.ctx, m))
	clean, err := s.hv.Stop(s.ctx, "one", 500*time.Millisecond) // nobody in it hears the power button
	if err != nil || clean {
		s.Errorf("stopped cleanly %v: %v", clean, err)
	}
	s.state("one", hypervisor.Stopped)
	if clean, err := s.hv.Stop(s.ctx, "one", time.Second); err != nil || !clean {
		s.Errorf("stopping what is stopped: %v %v", clean, err)
	}
	if names, err := s.hv.List(s.ctx); err != nil || len(names) != 1 || names[0] != "one" {
		s.Errorf("listed %v: %v", names, err)
	}
	s.must(s.hv.Start(s.ctx, m))
	s.state("one", hypervisor.Running)
}

func (s *suite) shows() {
	s.must(s.hv.Start(s.ctx, s.machine("one")))
	b, err := s.hv.Screenshot(s.ctx, "one")
	s.must(err)
	if img, err := png.Decode(bytes.NewReader(b)); err != nil || img.Bounds().Dx() < 320 {
		s.Errorf("a screenshot of %d bytes: %v", len(b), err)
	}
}

func (s *suite) missesAgent() {
	s.must(s.hv.Start(s.ctx, s.machine("one")))
	_, err := s.hv.Freeze(s.ctx, "one")
	s.wants(err, hypervisor.ErrNoAgent)
	m := s.machine("two")
	m.GuestAgent = true
	s.must(s.hv.Start(s.ctx, m))
	_, err = s.hv.Freeze(s.ctx, "two") // it has the port, and nobody behind it
	s.wants(err, hypervisor.ErrNoAgent)
	if s.hv.AgentReady(s.ctx, "two") {
		s.Error("nobody answers as the guest's agent")
	}
}

func (s *suite) killsDuringStop() {
	s.must(s.hv.Start(s.ctx, s.machine("one")))
	done := make(chan error, 1)
	go func() {
		_, err := s.hv.Stop(s.ctx, "one", limit)
		done <- err
	}()
	time.Sleep(300 * time.Millisecond)
	begun := time.Now()
	s.must(s.hv.Kill(s.ctx, "one"))
	if took := time.Since(begun); took > limit/4 {
		s.Errorf("the kill took %v", took)
	}
	s.must(<-done)
}
