package engines

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// rough is an engine that refuses its config some times, and takes its time when it has a gate.
type rough struct {
	mu     sync.Mutex
	refuse int
	gate   chan struct{}
	sets   int
}

func (r *rough) Set(ctx context.Context, _ Config) error {
	if r.gate != nil {
		select {
		case <-r.gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sets++; r.sets <= r.refuse {
		return errors.New("the vault does not answer")
	}
	return nil
}

func (r *rough) State() api.EngineState {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sets > r.refuse {
		return api.EngineState{Phase: "taken"}
	}
	return api.EngineState{Phase: "opening"}
}

func (r *rough) Close(context.Context) error { return nil }

func runRough(t *testing.T, r *rough) Home {
	t.Helper()
	dir, err := os.MkdirTemp("", "us") // short: a socket lives in it
	if err != nil {
		t.Fatal(err)
	}
	h := Home(dir)
	if err := h.WriteConfig(Config{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, h, "", func(context.Context, Home) (Engine, error) { return r, nil }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		os.RemoveAll(dir)
	})
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if _, err := h.Ask(t.Context()); err == nil {
			return h
		}
	}
	t.Fatal("the engine does not say how it is")
	return h
}

// TestRefusedConfigIsTriedAgain: what a config needs may come back without anybody changing the config.
func TestRefusedConfigIsTriedAgain(t *testing.T) {
	h := runRough(t, &rough{refuse: 3})
	var s api.EngineState
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if s, _ = h.Ask(t.Context()); s.Phase == "taken" {
			return
		}
	}
	t.Fatalf("still %+v", s)
}

// TestStateDoesNotWait: an engine that takes a long time over its config can be asked how it is, and told to stop.
func TestStateDoesNotWait(t *testing.T) {
	r := &rough{gate: make(chan struct{})}
	h := runRough(t, r)
	if s, err := h.Ask(t.Context()); err != nil || s.Phase != "opening" {
		t.Errorf("while it opens: %+v, %v", s, err)
	}
	began := time.Now()
	if err := h.Set(t.Context()); !errors.Is(err, ErrTaking) {
		t.Errorf("set while it opens: %v after %v, want %v", err, time.Since(began), ErrTaking)
	}
	close(r.gate)
	if err := h.Set(t.Context()); err != nil {
		t.Errorf("set when it has opened: %v", err)
	}
}

// TestTrimLog: a log does not grow for ever, and its newest lines stay.
func TestTrimLog(t *testing.T) {
	h := Home(t.TempDir())
	f, err := os.OpenFile(h.Log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.Write(bytes.Repeat([]byte("x"), 1000))
	f.Write([]byte("newest"))
	if err := h.trimLog(1000); err != nil {
		t.Fatal(err)
	}
	f.Write([]byte("after"))
	now, _ := os.ReadFile(h.Log())
	old, _ := os.ReadFile(h.Log() + ".1")
	if string(now) != "after" || len(old) != 500 || !bytes.HasSuffix(old, []byte("newest")) {
		t.Errorf("log %q, before it %d bytes", now, len(old))
	}
}

// TestKeyIsNotQuoted: what is wrong with a key is said without the key.
func TestKeyIsNotQuoted(t *testing.T) {
	c := Config{Secrets: map[string]map[string]string{"k": {"identity": "hunter2secret1qqqq"}}}
	_, err := c.Identity(api.VaultAccess{Name: "v", KeyRef: "k"})
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}
