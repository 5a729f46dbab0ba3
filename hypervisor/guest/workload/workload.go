package workload

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Settings of a guest, in /etc/understudy-guest.json on its root disk.
type Settings struct {
	Hostname string `json:"hostname"`
	// Addresses of the cards in order, each "dhcp", "" for a card left alone, or an address with its prefix length.
	Addresses []string `json:"addresses,omitempty"`
	// Gateway is the default route; "" for none, or what DHCP says.
	Gateway string `json:"gateway,omitempty"`
	// Rate is how many records are written a second; 0 for none, below 0 for as many as can be.
	Rate float64 `json:"rate"`
}

// SettingsPath on the root disk.
const SettingsPath = "/etc/understudy-guest.json"

// State of a guest, as it tells by HTTP at /state.
type State struct {
	Hostname string `json:"hostname"`
	// Seq is the last record that is on every volume. Time is when it was written, in nanoseconds.
	Seq  uint64 `json:"seq"`
	Time int64  `json:"time"`
	// Found is the record that the boot found last, Verified whether all that it found was in order, Wrong what was not.
	Found    uint64 `json:"found"`
	Verified bool   `json:"verified"`
	Wrong    string `json:"wrong,omitempty"`
	// Error that ended the writing of records; "" if there is none.
	Error string `json:"error,omitempty"`
	// Volumes that records are written to.
	Volumes       []string `json:"volumes"`
	UptimeSeconds float64  `json:"uptimeSeconds"`
}

// recorder writes records to all volumes.
type recorder struct {
	started time.Time

	writing sync.Mutex // held while one record is written
	volumes []*volume

	mu    sync.Mutex // guards state
	state State
}

func newRecorder(hostname string, volumes []*volume) *recorder {
	seq, wrong := verify(volumes)
	r := &recorder{started: time.Now(), volumes: volumes}
	r.state = State{Hostname: hostname, Seq: seq, Found: seq, Verified: wrong == "", Wrong: wrong}
	for _, v := range volumes {
		r.state.Volumes = append(r.state.Volumes, v.name)
	}
	return r
}

// now is the state.
func (r *recorder) now() State {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.state
	s.UptimeSeconds = time.Since(r.started).Seconds()
	return s
}

// write the next n records.
func (r *recorder) write(n int) error {
	r.writing.Lock()
	defer r.writing.Unlock()
	for range n {
		next, at := r.now().Seq+1, time.Now().UnixNano()
		for _, v := range r.volumes {
			if v.last == next { // before a crash it came this far
				continue
			}
			if err := v.write(next, at); err != nil {
				r.fail(err)
				return err
			}
		}
		r.mu.Lock()
		r.state.Seq, r.state.Time = next, at
		r.mu.Unlock()
	}
	return nil
}

func (r *recorder) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.Error = err.Error()
}

// run writes at a rate until ctx ends, or until a record cannot be written. What a boot found wrong is kept as it is.
func (r *recorder) run(ctx context.Context, rate float64) error {
	if !r.now().Verified {
		return errors.New("not writing over what is wrong")
	}
	var every <-chan time.Time
	if rate > 0 {
		t := time.NewTicker(time.Duration(float64(time.Second) / rate))
		defer t.Stop()
		every = t.C
	}
	for ctx.Err() == nil {
		if every != nil {
			select {
			case <-ctx.Done():
				return nil
			case <-every:
			}
		}
		if err := r.write(1); err != nil {
			return err
		}
	}
	return nil
}
