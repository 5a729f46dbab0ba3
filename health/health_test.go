package health

import (
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/clock"
)

func TestJudge(t *testing.T) {
	for _, c := range []struct{ name, results, want string }{
		{"falls after three in a row", "...xxx", "D"},
		{"one miss resets the row of answers", ".x.x.x", "?"},
		{"inconclusive neither adds nor ends", "xx?x", "D"},
		{"a single answer ends a row of misses", "xx.xx", "?"},
		{"rises after two", "xxx..", "U"},
		{"one answer does not raise", "xxx.", "D"},
		{"an answer and misses again stays down", "xxx.x.x.", "D"},
	} {
		j := NewJudge(api.Ref{}, "a", 2, 3)
		for i, r := range c.results {
			j.Result(time.Unix(int64(i), 0), map[rune]Outcome{'.': OK, 'x': Fail, '?': Inconclusive}[r], "")
		}
		got := map[api.Health]string{api.Up: "U", api.Down: "D", api.Unknown: "?"}[j.Opinion().Health]
		if got != c.want {
			t.Errorf("%s: %s gives %s, want %s", c.name, c.results, got, c.want)
		}
	}
}

func TestJudgeDoubts(t *testing.T) {
	for results, want := range map[string]bool{"": false, "..": false, "..x": true, "..x.": false, "..x?": true, "..xxx": false, "..xxx.": true, "..xxx.x": false, "..xxx..": false, "x": false} {
		j := NewJudge(api.Ref{}, "a", 2, 3)
		for i, r := range results {
			j.Result(time.Unix(int64(i), 0), map[rune]Outcome{'.': OK, 'x': Fail, '?': Inconclusive}[r], "")
		}
		if got := j.Opinion().Doubt; got != want {
			t.Errorf("after %q doubt = %t, want %t", results, got, want)
		}
	}
}

func TestJudgeRemembersTheFirstMiss(t *testing.T) {
	j := NewJudge(api.Ref{}, "a", 2, 3)
	for i, o := range []Outcome{OK, OK, Fail, Fail, Fail} {
		j.Result(time.Unix(int64(i), 0), o, "timeout")
	}
	if got := j.Opinion().FirstMiss.Unix(); got != 2 {
		t.Errorf("first miss at %d, want 2", got)
	}
}

func TestTrackerDoubts(t *testing.T) {
	now := clock.Instant{Mono: time.Hour, Wall: time.Unix(1000, 0)}
	for _, c := range []struct {
		name   string
		health api.Health
		doubts []bool // by observer
		want   bool
	}{
		{"all are sure", api.Up, []bool{false, false, false}, false},
		{"one is in doubt, two are enough", api.Up, []bool{true, false, false}, false},
		{"two are in doubt", api.Up, []bool{true, true, false}, true},
		{"two are in doubt that it is down", api.Down, []bool{true, true, false}, true},
		{"two are sure that it is down", api.Down, []bool{false, false, true}, false},
	} {
		tr := NewTracker(0, 3)
		for i, doubt := range c.doubts {
			tr.Hear(now, string(rune('a'+i)), Opinion{Member: "m", Health: c.health, Doubt: doubt})
		}
		if v := tr.Verdict(now, "m"); v.Health != c.health || v.Doubt != c.want {
			t.Errorf("%s: %s, doubt %t, want %s, %t", c.name, v.Health, v.Doubt, c.health, c.want)
		}
	}
}

func TestTracker(t *testing.T) {
	now := clock.Instant{Mono: time.Hour, Wall: time.Unix(1000, 0)}
	down := Opinion{Member: "a", Health: api.Down, FirstMiss: time.Unix(990, 0), Detail: "timeout"}
	up := Opinion{Member: "a", Health: api.Up}
	for _, c := range []struct {
		name      string
		quorum, n int
		say       map[string]Opinion
		old       string // whose opinion is stale
		want      api.Health
	}{
		{"nobody has spoken", 0, 3, nil, "", api.Unknown},
		{"one of three", 0, 3, map[string]Opinion{"c1": down, "c2": up, "c3": up}, "", api.Up},
		{"two of three", 0, 3, map[string]Opinion{"c1": down, "c2": down, "c3": up}, "", api.Down},
		{"two of three, one stale", 0, 3, map[string]Opinion{"c1": down, "c2": down}, "c2", api.Unknown},
		{"one of one", 0, 1, map[string]Opinion{"c1": down}, "", api.Down},
		{"quorum of three", 3, 3, map[string]Opinion{"c1": down, "c2": down, "c3": up}, "", api.Unknown},
		{"quorum of one, more say up", 1, 3, map[string]Opinion{"c1": down, "c2": up, "c3": up}, "", api.Up},
	} {
		tr := NewTracker(c.quorum, c.n)
		for who, o := range c.say {
			when := now
			if who == c.old {
				when = now.Add(-StaleAfter - 1)
			}
			tr.Hear(when, who, o)
		}
		if got := tr.Verdict(now, "a"); got.Health != c.want {
			t.Errorf("%s: %s, want %s", c.name, got.Health, c.want)
		}
	}
}
