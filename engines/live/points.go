package live

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/capture"
	"github.com/understudy-ha/understudy/hypervisor"
	"github.com/understudy-ha/understudy/journal"
)

const (
	// pointRetry is the time between attempts at a point that was refused: in a gap there are none.
	pointRetry = 500 * time.Millisecond
	// freezeLimit bounds how long a machine may take to become consistent, and then to go on.
	freezeLimit = 60 * time.Second
)

// pointState is what of points is known; under Machine.mu.
type pointState struct {
	last     journal.PointInfo
	seq      uint64
	asked    uint64 // the one that was asked for last, until it is stored
	appErr   error  // of the newest attempt at an app-consistent one
	appErrAt time.Time
}

// keepPoints makes recovery points: at their intervals, and when one is asked for.
func (m *Machine) keepPoints() {
	var crash, app time.Time // when the next is due
	m.thawForgotten()
	tick := time.NewTimer(0)
	defer tick.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.poke[0]:
		case <-tick.C:
		}
		m.mu.Lock()
		s, ready := m.spec, m.sender != nil
		m.mu.Unlock()
		wait := time.Minute
		if ready {
			wait = m.duePoints(s, &crash, &app)
		}
		tick.Reset(wait)
	}
}

// duePoints makes what is due, and tells how long nothing more is.
func (m *Machine) duePoints(s Spec, crash, app *time.Time) time.Duration {
	now, retry := time.Now(), m.settlePoints()
	if s.PointNow != "" && m.marks.Get("point") != s.PointNow {
		retry = true // also to see what becomes of it
		if !m.goingDown(s) {
			_ = m.askedPoint(s)
		}
	}
	if s.AppEvery > 0 && !now.Before(*app) {
		if err := m.point(s, true, ""); errors.Is(err, capture.ErrInGap) {
			retry = true
		} else {
			*app = now.Add(s.AppEvery) // one that failed is a condition until the next
		}
	}
	if s.CrashEvery > 0 && !now.Before(*crash) {
		if m.point(s, false, "") == nil {
			*crash = now.Add(s.CrashEvery)
		} else {
			retry = true
		}
	}
	if retry {
		return pointRetry
	}
	return max(time.Millisecond, min(untilDue(s.AppEvery, *app), untilDue(s.CrashEvery, *crash)))
}

// askedPoint makes the point that is asked for. Its position is noted first: a process that finds no note makes it again.
func (m *Machine) askedPoint(s Spec) error {
	if err := m.point(s, s.PointApp, s.PointNow); err != nil {
		return err
	}
	m.mu.Lock()
	seq := m.points.seq
	m.points.asked = seq
	m.mu.Unlock()
	return errors.Join(m.marks.Set("pointSeq", strconv.FormatUint(seq, 10)), m.marks.Set("point", s.PointNow))
}

// settlePoints forgets what a gap has taken, so that a point that was asked for is made again. It tells whether that may still
// happen.
func (m *Machine) settlePoints() (waiting bool) {
	p := m.capture.Position()
	m.mu.Lock()
	last, asked := m.lost(m.points)
	m.mu.Unlock()
	if asked && m.marks.Set("point", "") != nil { // first: it is not done while its position is not known any more
		return true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if last {
		m.points.last, m.points.seq = journal.PointInfo{}, 0
	}
	if asked || m.points.asked <= p.Stored {
		m.points.asked = 0
	}
	return m.points.asked != 0
}

// lost tells whether a gap has taken the newest point, and the one that was asked for.
func (m *Machine) lost(p pointState) (last, asked bool) {
	return p.seq != 0 && m.capture.PointLost(p.seq), p.asked != 0 && m.capture.PointLost(p.asked)
}

// recallPoint takes up the point that an earlier process was asked for. If that was killed before the point was stored, it may
// lie in the gap that this left, and is made again.
func (m *Machine) recallPoint() error {
	seq, err := strconv.ParseUint(m.marks.Get("pointSeq"), 10, 64)
	if err != nil {
		return nil // none was asked for
	}
	p := m.capture.Position()
	if p.InGap && p.GapFrom <= seq && p.Stored < seq {
		return m.marks.Set("point", "")
	}
	if p.Stored < seq {
		m.points.asked = seq
	}
	m.points.seq = seq
	return nil
}

// goingDown tells whether the machine is being shut down: its last point comes after that.
func (m *Machine) goingDown(s Spec) bool { return s.VM != nil && !s.Run && m.vm.Running(m.ctx) }

func untilDue(every time.Duration, at time.Time) time.Duration {
	if every <= 0 {
		return time.Minute
	}
	return time.Until(at)
}

// point makes one point. An app-consistent one finds the machine frozen.
func (m *Machine) point(s Spec, app bool, tag string) error {
	if m.capture.Position().InGap {
		return capture.ErrInGap
	}
	info := journal.PointInfo{ID: strings.ToLower(rand.Text()[:12]), At: time.Now().UTC(), Consistency: journal.Crash, Tag: tag}
	if app {
		info.Consistency = journal.App
		notes, thaw, err := m.freeze(s)
		m.mu.Lock()
		m.points.appErr, m.points.appErrAt = err, info.At
		m.mu.Unlock()
		if err != nil {
			return err
		}
		defer thaw()
		info.Notes, info.At = notes, time.Now().UTC()
	}
	seq, err := m.capture.Point(m.ctx, info)
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.points.last, m.points.seq = info, seq
	m.mu.Unlock()
	return nil
}

// freeze makes the machine's applications and file systems consistent until thaw is called: by the scripts that the policy
// names, and by the guest agent where there is one.
func (m *Machine) freeze(s Spec) (notes string, thaw func(), err error) {
	agent := s.VM != nil && s.VM.GuestAgent
	if !agent && s.PreScript == "" {
		return "", nil, errors.New("nothing makes this machine consistent: want vm.guestAgent, or scripts that freeze and thaw it")
	}
	// Should this process end before it thaws, the next one does.
	if err := m.marks.Set(markFrozen, frozenBy, markThaw, s.PostScript); err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithTimeout(m.ctx, freezeLimit)
	after := []func(){cancel, func() { _ = m.marks.Set(markFrozen, "") }} // not noted: the next process thaws once more
	undo := func() {
		for i := len(after) - 1; i >= 0; i-- {
			after[i]()
		}
	}
	if s.PreScript != "" {
		if s.PostScript != "" {
			after = append(after, func() { _ = script(context.WithoutCancel(ctx), s.Config.HooksDir, s.PostScript) })
		}
		if err := script(ctx, s.Config.HooksDir, s.PreScript); err != nil {
			undo()
			return "", nil, err
		}
		notes = "script " + s.PreScript
	}
	if agent {
		hv, name := m.vm.Hypervisor()
		after = append(after, func() { thawGuest(hv, name) })
		n, err := hv.Freeze(ctx, name)
		if err != nil {
			undo()
			return "", nil, err
		}
		notes = strings.TrimSpace(notes + fmt.Sprintf(" %d file systems frozen", n))
	}
	return notes, undo, nil
}

// The marks of a machine that may be frozen, and of the script that ends it.
const (
	markFrozen, frozenBy = "frozen", "yes"
	markThaw             = "thaw"
)

// thawForgotten lets a machine go on that an earlier process froze and did not live to thaw.
func (m *Machine) thawForgotten() {
	if m.marks.Get(markFrozen) == "" {
		return
	}
	m.mu.Lock()
	s := m.spec
	m.mu.Unlock()
	if s.VM != nil && s.VM.GuestAgent {
		thawGuest(m.vm.Hypervisor())
	}
	if name := m.marks.Get(markThaw); name != "" {
		_ = script(m.ctx, s.Config.HooksDir, name)
	}
	_ = m.marks.Set(markFrozen, "") // not noted: the next process thaws once more
}

// thawGuest lets the guest go on, whatever became of the freeze.
func thawGuest(hv hypervisor.Hypervisor, name string) {
	ctx, cancel := context.WithTimeout(context.Background(), freezeLimit)
	defer cancel()
	_, _ = hv.Thaw(ctx, name) // one that does not answer thaws by its own limit
}

// script runs a program of the agent's hooks directory, for at most freezeLimit.
func script(ctx context.Context, dir, name string) error {
	if name != filepath.Base(name) {
		return fmt.Errorf("script %q: want the name of a file in the agent's hooks directory", name)
	}
	ctx, cancel := context.WithTimeout(ctx, freezeLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(dir, name))
	cmd.Env = append(os.Environ(), "UNDERSTUDY=1")
	cmd.WaitDelay = time.Second // what it left running may keep its output open
	out, err := cmd.CombinedOutput()
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return fmt.Errorf("script %s: %w: %s", name, err, lastLine(out))
	}
	return nil
}

func lastLine(b []byte) string {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return lines[len(lines)-1]
}

// appCondition tells why there is no app-consistent point.
func (s pointState) appCondition() *api.Condition {
	if s.appErr == nil {
		return nil
	}
	return &api.Condition{Code: "NoAppConsistentPoint", Severity: api.Warning, Message: s.appErr.Error(), Since: s.appErrAt,
		Impacts: "recovery to an app-consistent point finds an older one"}
}
