package notify_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/notify"
)

// receiver is a webhook that refuses the first refusals calls, and blocks while hold is open.
type receiver struct {
	mu       sync.Mutex
	refusals int
	got      chan string
	hold     chan struct{}
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if r.hold != nil {
		select {
		case <-r.hold:
		case <-req.Context().Done():
			return
		}
	}
	var e api.Event
	if err := json.NewDecoder(req.Body).Decode(&e); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refusals > 0 {
		r.refusals--
		http.Error(w, "later", http.StatusServiceUnavailable)
		return
	}
	r.got <- e.Code
}

func event(code string, s api.Severity) api.Event { return api.Event{Code: code, Severity: s} }

func TestWebhookIsTriedAgain(t *testing.T) {
	r := &receiver{refusals: 2, got: make(chan string, 10)}
	srv := httptest.NewServer(r)
	defer srv.Close()
	n := notify.New(notify.Config{Webhooks: []string{srv.URL}, MinSeverity: api.Warning, Pause: time.Millisecond})
	defer n.Close()
	n.Tell(event("Quiet", api.Info))
	n.Tell(event("MemberDown", api.Critical))
	if got := <-r.got; got != "MemberDown" {
		t.Fatalf("got %s", got)
	}
	n.Close()
	n.Close()
	n.Tell(event("Late", api.Critical))
}

func TestGivesUpAndSaysSo(t *testing.T) {
	r := &receiver{refusals: 1000, got: make(chan string, 1)}
	srv := httptest.NewServer(r)
	defer srv.Close()
	dropped := make(chan string, 1)
	n := notify.New(notify.Config{Webhooks: []string{srv.URL}, Tries: 3, Pause: time.Millisecond, Dropped: func(_, why string) { dropped <- why }})
	defer n.Close()
	n.Tell(event("A", api.Info))
	if why := <-dropped; why != "answered 503 Service Unavailable: later" {
		t.Fatalf("got %q", why)
	}
}

func TestWebhooksAreNamedWithoutTheirSecret(t *testing.T) {
	dropped := make(chan string, 1)
	n := notify.New(notify.Config{Webhooks: []string{"http://127.0.0.1:1/services/s3cret"}, Tries: 1,
		Dropped: func(receiver, why string) { dropped <- receiver + ": " + why }})
	defer n.Close()
	n.Tell(event("A", api.Info))
	if got := <-dropped; strings.Contains(got, "s3cret") || !strings.Contains(got, "webhook 127.0.0.1:1: ") {
		t.Fatalf("got %q", got)
	}
}

func TestFullQueueDropsTheOldest(t *testing.T) {
	r := &receiver{got: make(chan string, 10), hold: make(chan struct{})}
	srv := httptest.NewServer(r)
	defer srv.Close()
	var mu sync.Mutex
	drops := 0
	n := notify.New(notify.Config{Webhooks: []string{srv.URL}, Queue: 2, Dropped: func(string, string) { mu.Lock(); drops++; mu.Unlock() }})
	defer n.Close()
	for i := range 20 {
		n.Tell(event(fmt.Sprint(i), api.Info))
	}
	close(r.hold)
	last := ""
	for last != "19" {
		last = <-r.got
	}
	mu.Lock()
	defer mu.Unlock()
	if drops < 17 || drops > 18 {
		t.Errorf("%d dropped, want 17, or 18 if the first was not taken yet", drops)
	}
}

func TestExecGetsTheEvent(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	script := "#!/bin/sh\ncat > " + out + ".new && mv " + out + ".new " + out + "\n"
	if err := os.WriteFile(filepath.Join(dir, "tell"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	n := notify.New(notify.Config{Exec: []string{"tell"}, Dir: dir})
	defer n.Close()
	n.Tell(event("MemberDown", api.Critical))
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		b, err := os.ReadFile(out)
		if err == nil {
			var e api.Event
			if err := json.Unmarshal(b, &e); err != nil || e.Code != "MemberDown" {
				t.Fatalf("got %s, %v", b, err)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the program did not run")
		}
	}
}
