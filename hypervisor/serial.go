package hypervisor

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"
)

// serialEvery is how often AwaitSerial reads, aliveEvery how often it looks whether the machine is there.
const (
	serialEvery = 50 * time.Millisecond
	aliveEvery  = 20 // reads
)

// AwaitSerial waits until a whole line with marker is on the machine's serial port, and answers the line. It gives up when ctx ends
// or the machine is gone.
func AwaitSerial(ctx context.Context, h Hypervisor, name, marker string) (string, error) {
	var seen []byte
	for n, gone := 1, false; ; n++ {
		b, err := h.Serial(ctx, name, int64(len(seen)))
		if err != nil {
			return "", err
		}
		seen = append(seen, b...)
		if l, ok := lineWith(seen, marker); ok {
			return l, nil
		}
		if gone {
			return "", fmt.Errorf("machine %s stopped before it said %q: %w", name, marker, ErrNotRunning)
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("machine %s has not said %q: %w", name, marker, ctx.Err())
		case <-time.After(serialEvery):
		}
		if n%aliveEvery == 0 {
			s, err := h.Status(ctx, name)
			gone = err == nil && s.State == Stopped // what it left is read once more
		}
	}
}

// lineWith finds the first whole line that holds marker.
func lineWith(b []byte, marker string) (string, bool) {
	i := bytes.Index(b, []byte(marker))
	if i < 0 {
		return "", false
	}
	end := bytes.IndexByte(b[i:], '\n')
	if end < 0 {
		return "", false
	}
	start := bytes.LastIndexByte(b[:i], '\n') + 1
	return strings.TrimRight(string(b[start:i+end]), "\r"), true
}
