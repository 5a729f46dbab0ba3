// Package retain decides which recovery points a policy keeps. It is pure: points and the time go in, a verdict for each comes out.
//
// The published grid goes by the policy's retention, as Azure Site Recovery's does:
//
//	retention      young points      then
//	0              only the latest
//	to 1 day       all for 2 hours   one an hour
//	to 7 days      all for 2 hours   one in 2 hours
//	longer         all for 2 hours   one in 2 hours to 7 days, then one in 4 hours
//
// Of each slot of the grid the newest point stays, and the newest app-consistent point besides: whoever wants either finds it, and more
// frequent app-consistent points are thinned by the same grid.
//
// Slots are cut from the Unix epoch on, the longer ones are multiples of the shorter, and a slot is thinned once all of it is old enough: "all
// for 2 hours" is at least that. So the newest of a slot is the newest of one of the slots that it is made of, and pruning at any pace, or not
// for a while, never deletes what one later pruning would have kept.
package retain

import (
	"fmt"
	"time"
)

// Point is a recovery point.
type Point struct {
	// At is the moment that it recovers to.
	At time.Time
	// App says that it is app-consistent; otherwise it is crash-consistent.
	App bool
	// Pinned points stay whatever their age, and stand for no slot.
	Pinned bool
}

// Policy says what to keep. The zero Policy keeps only the latest point.
type Policy struct {
	// Retention is the age up to which points are kept; 0 keeps only the latest.
	Retention time.Duration
	// Max bounds Retention, as a vault may; 0 is no bound.
	Max time.Duration
	// Grid thins the points; nil is the published grid of the retention in force.
	Grid []Band
}

// Band keeps one point in each Every; 0 keeps all. It begins with the first slot that is wholly older than UpTo of the band before, and ends
// where the next begins; the last has no end, whatever its UpTo.
type Band struct {
	UpTo, Every time.Duration
}

const day = 24 * time.Hour

// Young is the age up to which the published grid keeps every point.
const Young = 2 * time.Hour

// Published gives the published grid of a retention.
func Published(retention time.Duration) []Band {
	switch {
	case retention <= day:
		return []Band{{Young, 0}, {day, time.Hour}}
	case retention <= 7*day:
		return []Band{{Young, 0}, {7 * day, 2 * time.Hour}}
	}
	return []Band{{Young, 0}, {7 * day, 2 * time.Hour}, {retention, 4 * time.Hour}}
}

// InForce is the retention after Max.
func (p Policy) InForce() time.Duration {
	if p.Max > 0 && p.Retention > p.Max {
		return p.Max
	}
	return p.Retention
}

// Validate refuses what Keep cannot follow without breaking its promise. A refusal names the field.
func (p Policy) Validate() error {
	if p.Retention < 0 || p.Max < 0 {
		return fmt.Errorf("retention %v, max %v: want no negative ones", p.Retention, p.Max)
	}
	for i, b := range p.Grid {
		switch {
		case b.UpTo <= 0 || b.Every < 0:
			return fmt.Errorf("grid[%d]: up to %v, every %v: want an age above 0 and a slot of 0 or more", i, b.UpTo, b.Every)
		case i > 0 && b.UpTo <= p.Grid[i-1].UpTo:
			return fmt.Errorf("grid[%d].upTo %v: want more than the band before, %v", i, b.UpTo, p.Grid[i-1].UpTo)
		case i > 0 && p.Grid[i-1].Every > 0 && (b.Every == 0 || b.Every%p.Grid[i-1].Every != 0):
			return fmt.Errorf("grid[%d].every %v: want a multiple of the band before, %v", i, b.Every, p.Grid[i-1].Every)
		}
	}
	return nil
}

// Keep says of each point whether it stays. The latest point always does, points of the future do, and pinned ones do. Points may be in any order;
// of two at the same time the one further back in points counts as the newer. policy is valid.
func Keep(points []Point, policy Policy, now time.Time) (keep []bool) {
	keep = make([]bool, len(points))
	grid, retention := policy.Grid, policy.InForce()
	if grid == nil {
		grid = Published(retention)
	}
	newest := map[slot]int{}
	latest := -1
	for i, p := range points {
		if latest < 0 || !p.At.Before(points[latest].At) {
			latest = i
		}
		s, every := slotOf(p, grid, now)
		switch age := now.Sub(p.At); {
		case p.Pinned:
			keep[i] = true
		case retention == 0 || age > retention:
		case every == 0 || age < 0:
			keep[i] = true
		default:
			if best, ok := newest[s]; !ok || !p.At.Before(points[best].At) {
				newest[s] = i
			}
		}
	}
	for _, i := range newest {
		keep[i] = true
	}
	if latest >= 0 {
		keep[latest] = true
	}
	return keep
}

// slot is one cell of the grid, for one kind of points.
type slot struct {
	band  int
	index int64
	app   bool
}

// slotOf gives the cell that p is in, and the cell's length; 0 means that p shares none.
func slotOf(p Point, grid []Band, now time.Time) (slot, time.Duration) {
	for i := len(grid) - 1; i >= 0; i-- {
		every := grid[i].Every
		if every == 0 {
			if i == 0 || now.Sub(p.At) > grid[i-1].UpTo {
				return slot{}, 0
			}
			continue
		}
		index := floorDiv(p.At.UnixNano(), int64(every))
		end := time.Unix(0, (index+1)*int64(every))
		if i == 0 || now.Sub(end) >= grid[i-1].UpTo {
			return slot{i, index, p.App}, every
		}
	}
	return slot{}, 0
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
