package agent

import (
	"testing"
	"time"

	"github.com/understudy-ha/understudy/clock"
)

// A process stopped between a decision and its effect must not hold an address for longer than was decided.
func TestWhatIsDoneLateLastsNoLonger(t *testing.T) {
	now := clock.System()
	for name, at := range map[string]clock.Instant{
		"stopped":                      {Mono: now.Mono - 5*time.Second, Wall: now.Wall.Add(-5 * time.Second)},
		"stopped with the machine":     {Mono: now.Mono, Wall: now.Wall.Add(-5 * time.Second)},
		"the time of day was set back": {Mono: now.Mono - 5*time.Second, Wall: now.Wall.Add(time.Hour)},
	} {
		l := &loop{at: at}
		if left := l.left(3 * time.Second); left > -2*time.Second {
			t.Errorf("%s 5s ago: %v left of 3s, want none", name, left)
		}
	}
	if left := (&loop{at: now}).left(3 * time.Second); left < 2*time.Second {
		t.Errorf("%v left of 3s at once", left)
	}
}
