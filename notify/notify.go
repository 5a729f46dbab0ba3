// Package notify tells people and programs of events: by webhook (a POST of the event as
// JSON), by exec (a program that gets the event as JSON on standard input) and by mail.
//
// Each receiver has a queue and a goroutine of its own, so that a slow one delays no
// other, and nobody who reports an event ever waits.
package notify

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// Config of a Notifier.
type Config struct {
	// Webhooks are URLs; 200–299 is success.
	Webhooks []string
	// Exec names programs in Dir; exit status 0 is success.
	Exec []string
	Dir  string
	// Mail are the servers that each event is mailed by.
	Mail []Mail
	// MinSeverity of events that are told; "" means all. A Mail may have its own.
	MinSeverity api.Severity
	// Queue is how many events wait for one receiver; when it is full the oldest is dropped. Default 256.
	Queue int
	// Tries for one event before it is dropped, with growing pauses between them. Default 5.
	Tries int
	// Pause before the second try; it doubles from then on. Default 1s.
	Pause time.Duration
	// Timeout of one try. Default 10s.
	Timeout time.Duration
	// Dropped, if not nil, is told of each event that a receiver did not get, and why.
	Dropped func(receiver, why string)
}

// Notifier delivers events. Close it.
type Notifier struct {
	cfg       Config
	receivers []*receiver
	cancel    context.CancelFunc
	work      sync.WaitGroup
	mu        sync.Mutex
	closed    bool
}

type receiver struct {
	name    string
	least   api.Severity
	queue   chan []byte
	dropped atomic.Int64 // events that it did not get since it last got one
	try     func(ctx context.Context, event []byte, dropped int64) error
}

// New starts a notifier.
func New(cfg Config) *Notifier {
	setDefault(&cfg.Queue, 256)
	setDefault(&cfg.Tries, 5)
	setDefault(&cfg.Pause, time.Second)
	setDefault(&cfg.Timeout, 10*time.Second)
	if cfg.Dropped == nil {
		cfg.Dropped = func(string, string) {}
	}
	n := &Notifier{cfg: cfg}
	for _, u := range cfg.Webhooks {
		n.add("webhook "+hostOf(u), cfg.MinSeverity, func(ctx context.Context, event []byte, _ int64) error { return post(ctx, u, event) })
	}
	for _, e := range cfg.Exec {
		path := filepath.Join(cfg.Dir, filepath.Base(e))
		n.add("exec "+e, cfg.MinSeverity, func(ctx context.Context, event []byte, _ int64) error { return run(ctx, path, event) })
	}
	for _, m := range cfg.Mail {
		n.add("mail "+m.Server, cmp.Or(m.MinSeverity, cfg.MinSeverity), m.send)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	for _, r := range n.receivers {
		n.work.Go(func() { n.serve(ctx, r) })
	}
	return n
}

// hostOf names a webhook without its path, which is often the secret that opens it.
func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return "without a host"
	}
	return u.Host
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

func (n *Notifier) add(name string, least api.Severity, try func(context.Context, []byte, int64) error) {
	n.receivers = append(n.receivers, &receiver{name: name, least: least, queue: make(chan []byte, n.cfg.Queue), try: try})
}

var rank = map[api.Severity]int{api.Info: 0, api.Warning: 1, api.Critical: 2}

// Tell queues an event for every receiver. It never waits. After Close it does nothing.
func (n *Notifier) Tell(e api.Event) {
	doc, err := json.Marshal(e)
	if err != nil {
		slog.Error("encode an event", "err", err)
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return
	}
	for _, r := range n.receivers {
		if rank[e.Severity] >= rank[r.least] {
			n.enqueue(r, doc)
		}
	}
}

// enqueue makes room by dropping the oldest. Tell's lock makes it the only sender.
func (n *Notifier) enqueue(r *receiver, doc []byte) {
	for {
		select {
		case r.queue <- doc:
			return
		default:
		}
		select {
		case <-r.queue:
			r.dropped.Add(1)
			n.cfg.Dropped(r.name, "queue full")
		default:
		}
	}
}

func (n *Notifier) serve(ctx context.Context, r *receiver) {
	for {
		select {
		case <-ctx.Done():
			return
		case doc := <-r.queue:
			n.deliver(ctx, r, doc)
		}
	}
}

func (n *Notifier) deliver(ctx context.Context, r *receiver, doc []byte) {
	pause := n.cfg.Pause
	for try := 1; ; try++ {
		bounded, cancel := context.WithTimeout(ctx, n.cfg.Timeout)
		dropped := r.dropped.Load()
		err := r.try(bounded, doc, dropped)
		cancel()
		if err == nil {
			r.dropped.Add(-dropped)
			return
		}
		if ctx.Err() != nil {
			return
		}
		if try == n.cfg.Tries {
			r.dropped.Add(1)
			slog.Warn("notification dropped", "receiver", r.name, "tries", try, "err", err)
			n.cfg.Dropped(r.name, err.Error())
			return
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		pause *= 2
	}
}

// Close stops deliveries, also those under way, and waits. Close twice is safe.
func (n *Notifier) Close() {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.cancel()
	n.work.Wait()
}

// maxAnswer is how much of a receiver's answer an error repeats.
const maxAnswer = 256

func post(ctx context.Context, to string, event []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(event))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		if u := (*url.Error)(nil); errors.As(err, &u) {
			return u.Err // without the URL
		}
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("answered %s: %s", resp.Status, bytes.TrimSpace(b))
	}
	return nil
}

func run(ctx context.Context, path string, event []byte) error {
	cmd := exec.CommandContext(ctx, path)
	cmd.Stdin = bytes.NewReader(event)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // its children end with it
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return nil
}
