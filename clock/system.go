package clock

import (
	"time"

	"golang.org/x/sys/unix"
)

// System reads this machine's clocks. CLOCK_BOOTTIME counts suspended time, which
// Go's own monotonic clock does not.
func System() Instant {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("clock: no CLOCK_BOOTTIME: " + err.Error()) // Linux has it since 2.6.39
	}
	return Instant{Mono: time.Duration(ts.Nano()), Wall: time.Now().Round(0)}
}
