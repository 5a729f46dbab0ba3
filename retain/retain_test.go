package retain_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/retain"
)

const day = 24 * time.Hour

var now = time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)

// every gives points every step, over span, up to now: the newest first.
func every(step, span time.Duration) []retain.Point {
	var out []retain.Point
	for age := time.Duration(0); age <= span; age += step {
		out = append(out, retain.Point{At: now.Add(-age)})
	}
	return out
}

// kept counts what stays, by age: [from, to).
func kept(points []retain.Point, keep []bool, from, to time.Duration) (n int) {
	for i, p := range points {
		if age := now.Sub(p.At); keep[i] && age >= from && age < to {
			n++
		}
	}
	return n
}

// TestPublishedGrid counts, for points every 5 minutes over 20 days, what the published table says.
func TestPublishedGrid(t *testing.T) {
	type count struct {
		from, to time.Duration
		want     int
	}
	all := count{0, 2*time.Hour + time.Minute, 25} // 24 intervals of 5 minutes have 25 ends
	after := 2*time.Hour + time.Minute
	for _, c := range []struct {
		retention time.Duration
		counts    []count
	}{
		{0, []count{{0, 1, 1}, {1, 20 * day, 0}}},
		{day, []count{all, {after, day + time.Minute, 22}, {day + time.Minute, 20 * day, 0}}},
		{2 * day, []count{all, {after, 2*day + time.Minute, 23}, {2*day + time.Minute, 20 * day, 0}}},
		{7 * day, []count{all, {after, 7*day + time.Minute, 83}, {7*day + time.Minute, 20 * day, 0}}},
		{8 * day, []count{all, {after, 7*day + time.Minute, 83}, {7*day + time.Minute, 8*day + time.Minute, 6}, {8*day + time.Minute, 20 * day, 0}}},
		{15 * day, []count{all, {after, 7*day + time.Minute, 83}, {7*day + time.Minute, 15*day + time.Minute, 48}, {15*day + time.Minute, 20 * day, 0}}},
	} {
		points := every(5*time.Minute, 20*day)
		keep := retain.Keep(points, retain.Policy{Retention: c.retention}, now)
		for _, n := range c.counts {
			if got := kept(points, keep, n.from, n.to); got != n.want {
				t.Errorf("retention %v: %d points of age %v to %v, want %d", c.retention, got, n.from, n.to, n.want)
			}
		}
	}
}

// TestSmallCases reads "age[a][p] …": hours and minutes of age, a for app-consistent, p for pinned. Kept ones are repeated on the right.
func TestSmallCases(t *testing.T) {
	for _, c := range []struct {
		name   string
		policy retain.Policy
		points string
		want   string
	}{
		{"nothing", retain.Policy{Retention: day}, "", ""},
		{"retention 0 keeps the latest", retain.Policy{}, "3h 1h 1m", "1m"},
		{"the latest stays however old", retain.Policy{Retention: day}, "90h 80h", "80h"},
		{"older than the retention", retain.Policy{Retention: day}, "25h 24h 1m", "24h 1m"},
		{"the vault's maximum", retain.Policy{Retention: 15 * day, Max: day}, "25h 24h 1m", "24h 1m"},
		{"an hour that is not over", retain.Policy{Retention: day}, "2h59m 2h30m 2h10m 1m", "2h10m 1m"},
		{"an hour not yet wholly old", retain.Policy{Retention: 2 * day}, "3h50m 3h10m 2h10m 1m", "2h10m 1m"},
		{"the newest of an hour", retain.Policy{Retention: day}, "4h50m 4h40m 4h10m 3h50m 3h10m 1m", "4h10m 3h10m 1m"},
		{"the newest of two hours", retain.Policy{Retention: 7 * day}, "5h50m 5h10m 4h50m 4h10m 3h10m 1m", "4h10m 3h10m 1m"},
		{"app-consistent besides", retain.Policy{Retention: day}, "3h50ma 3h40ma 3h30m 3h10m 1m", "3h40ma 3h10m 1m"},
		{"app-consistent alone", retain.Policy{Retention: day}, "3h50ma 3h40ma 3h30ma 1m", "3h30ma 1m"},
		{"pinned stays, and stands for no slot", retain.Policy{Retention: day}, "90hp 3h50m 3h10mp 1m", "90hp 3h50m 3h10mp 1m"},
		{"of the future", retain.Policy{Retention: day}, "-1h -2h 1m", "-1h -2h 1m"},
		{"one grid of one's own", retain.Policy{Retention: day, Grid: []retain.Band{{UpTo: day, Every: 6 * time.Hour}}}, "8h 7h 1h 1m", "7h 1m"},
	} {
		var points []retain.Point
		words := strings.Fields(c.points)
		for _, w := range words {
			age, err := time.ParseDuration(strings.TrimRight(w, "ap"))
			if err != nil {
				t.Fatal(err)
			}
			points = append(points, retain.Point{At: now.Add(-age), App: strings.Contains(w, "a"), Pinned: strings.Contains(w, "p")})
		}
		var got []string
		for i, k := range retain.Keep(points, c.policy, now) {
			if k {
				got = append(got, words[i])
			}
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: kept %q, want %q", c.name, s, c.want)
		}
	}
}

// TestPace prunes random points at a random pace while they arrive, and compares with one pruning at the end.
func TestPace(t *testing.T) {
	for seed := range uint64(150) {
		rng := rand.New(rand.NewPCG(seed, 1))
		policy := retain.Policy{Retention: []time.Duration{0, 3 * time.Hour, day, 2 * day, 7 * day, 9 * day, 15 * day}[rng.IntN(7)]}
		var all, left []retain.Point
		at := time.Unix(rng.Int64N(1<<31)-1<<30, 0)
		end := at.Add(time.Duration(1+rng.IntN(16)) * day)
		pace := rng.Float64() * rng.Float64()
		for at.Before(end) {
			at = at.Add(time.Duration(1 + rng.Int64N(int64(90*time.Minute))))
			p := retain.Point{At: at, App: rng.IntN(4) == 0, Pinned: rng.IntN(60) == 0}
			all, left = append(all, p), append(left, p)
			if rng.Float64() < pace {
				left = prune(left, policy, at.Add(-time.Duration(rng.Int64N(int64(30*time.Minute)))))
			}
		}
		now := at.Add(time.Duration(rng.Int64N(int64(3 * time.Hour))))
		want := prune(all, policy, now)
		got := prune(left, policy, now)
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d, retention %v: at the pace %d points, at once %d: %s", seed, policy.Retention, len(got), len(want), missing(want, got))
		}
		if again := prune(got, policy, now); !slices.Equal(again, got) {
			t.Fatalf("seed %d: pruning again leaves %d of %d", seed, len(again), len(got))
		}
	}
}

func prune(points []retain.Point, policy retain.Policy, now time.Time) (out []retain.Point) {
	for i, k := range retain.Keep(points, policy, now) {
		if k {
			out = append(out, points[i])
		}
	}
	return out
}

func missing(want, got []retain.Point) string {
	for _, p := range want {
		if !slices.Contains(got, p) {
			return fmt.Sprintf("%+v is missing", p)
		}
	}
	return "more than wanted"
}

func TestRefusals(t *testing.T) {
	h := time.Hour
	for want, p := range map[string]retain.Policy{
		"retention":     {Retention: -1},
		"grid[0]":       {Grid: []retain.Band{{0, h}}},
		"grid[1].upTo":  {Grid: []retain.Band{{h, 0}, {h, h}}},
		"grid[1].every": {Grid: []retain.Band{{h, 2 * h}, {2 * h, 3 * h}}},
		"grid[2].every": {Grid: []retain.Band{{h, 0}, {2 * h, h}, {3 * h, 0}}},
	} {
		if err := p.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", p, err, want)
		}
	}
	for _, r := range []time.Duration{0, h, day, 7 * day, 15 * day} {
		if err := (retain.Policy{Retention: r, Grid: retain.Published(r)}).Validate(); err != nil {
			t.Errorf("the published grid of %v: %v", r, err)
		}
	}
}
