// Package clock is the time that decisions see.
//
// Pure code never asks for the time; it is handed an Instant. An Instant carries
// two readings, because each of them lies in its own way: the monotonic reading
// stands still while a machine is suspended or its virtual CPU is paused, the
// wall reading is stepped by people and by NTP.
package clock

import "time"

// Instant is one reading of one machine's clocks. Two Instants may be compared
// only when the same machine took both.
type Instant struct {
	// Mono counts from an arbitrary start and never goes back (CLOCK_BOOTTIME).
	Mono time.Duration
	// Wall is the time of day, for people, and the second witness of a pause.
	Wall time.Time
}

// Add gives the Instant d later.
func (i Instant) Add(d time.Duration) Instant {
	return Instant{Mono: i.Mono + d, Wall: i.Wall.Add(d)}
}

// Since is the monotonic time from earlier to i. Whoever waits for somebody
// else's right to end counts by it.
func (i Instant) Since(earlier Instant) time.Duration { return i.Mono - earlier.Mono }

// AtMostSince is the longest time that can have passed since earlier: the larger
// of both readings' differences. Whoever holds a right that ends counts by it, so
// that a pause which stopped the monotonic clock still ends the right. A wall
// clock stepped forward ends it early, which is safe.
func (i Instant) AtMostSince(earlier Instant) time.Duration {
	return max(i.Mono-earlier.Mono, i.Wall.Sub(earlier.Wall))
}

// Before tells whether i's monotonic reading is before o's.
func (i Instant) Before(o Instant) bool { return i.Mono < o.Mono }

// IsZero tells whether i was never set.
func (i Instant) IsZero() bool { return i.Mono == 0 && i.Wall.IsZero() }
