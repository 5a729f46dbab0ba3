package site

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/understudy-ha/understudy/api"
)

const (
	checkEvery   = 200 * time.Millisecond
	checkTimeout = 2 * time.Second // of one question
	reachEvery   = 100 * time.Millisecond
	answerWithin = 10 * time.Minute
)

// checker finds out when the machine's service answers.
type checker struct {
	mu       sync.Mutex
	of       api.ServiceCheck
	began    time.Time
	answered time.Duration // 0: not yet
	failed   error         // of the newest question
	late     bool
	shot     string
	cancel   context.CancelFunc
}

// begin starts to ask, unless the same is asked already.
func (c *checker) begin(ctx context.Context, work *sync.WaitGroup, q *api.ServiceCheck, reached reacher, screenshot func(context.Context) string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.began.IsZero() {
		c.began = time.Now()
	}
	if q == nil || c.cancel != nil && c.of == *q {
		return
	}
	if c.cancel != nil {
		c.cancel()
	}
	ctx, c.cancel = context.WithCancel(ctx)
	c.of, c.answered, c.late = *q, 0, false
	work.Go(func() { c.ask(ctx, *q, reached, screenshot) })
}

// end stops asking; what was answered is forgotten.
func (c *checker) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cancel != nil {
		c.cancel()
	}
	c.cancel, c.began, c.answered = nil, time.Time{}, 0
}

func (c *checker) ask(ctx context.Context, q api.ServiceCheck, reached reacher, screenshot func(context.Context) string) {
	limit := q.Timeout.D()
	if limit == 0 {
		limit = answerWithin
	}
	for ctx.Err() == nil {
		err := answers(ctx, q, reached)
		c.mu.Lock()
		c.failed = err
		if err == nil {
			c.answered = max(time.Millisecond, time.Since(c.began).Round(time.Millisecond))
		}
		first := err != nil && !c.late && time.Since(c.began) > limit
		c.late = c.late || first
		c.mu.Unlock()
		if err == nil || first {
			shot := screenshot(ctx)
			c.mu.Lock()
			c.shot = shot
			c.mu.Unlock()
		}
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(checkEvery):
		}
	}
}

// reacher tells whether a connection to a port of this host gets through to the guest: a hypervisor accepts those that it forwards
// before the guest is asked, and also if it never answers.
type reacher func(ctx context.Context, port uint16) (bool, error)

// answers asks the service once.
func answers(ctx context.Context, q api.ServiceCheck, reached reacher) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	if q.Address != "" {
		return accepts(ctx, q.Address, reached)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, q.URL, nil)
	if err != nil {
		return err
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(a.Body, 64<<10))
	if a.StatusCode < 200 || a.StatusCode > 299 {
		return fmt.Errorf("%s answers %s", q.URL, a.Status)
	}
	return nil
}

// accepts tells whether a connection is accepted, by the guest if it is one that the hypervisor forwards.
func accepts(ctx context.Context, address string, reached reacher) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	to, from := conn.RemoteAddr().(*net.TCPAddr), conn.LocalAddr().(*net.TCPAddr)
	if !to.IP.Equal(from.IP) {
		return nil // another host's, which no hypervisor here answers for
	}
	for {
		yes, err := reached(ctx, uint16(to.Port))
		switch {
		case yes:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("%s: the hypervisor accepts the connection, the guest does not", address)
		case err != nil:
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(reachEvery):
		}
	}
}

// reached implements reacher.
func (e *engine) reached(ctx context.Context, port uint16) (bool, error) {
	e.mu.Lock()
	m := e.machine
	e.mu.Unlock()
	if m == nil || m.VM() == nil {
		return true, nil // no hypervisor of ours
	}
	hv, name := m.VM().Hypervisor()
	return hv.Reached(ctx, name, port)
}

// screenshot keeps what the machine's screen shows; "" if it shows nothing.
func (e *engine) screenshot(ctx context.Context) string {
	e.mu.Lock()
	m := e.machine
	e.mu.Unlock()
	if m == nil || m.VM() == nil {
		return ""
	}
	hv, name := m.VM().Hypervisor()
	png, err := hv.Screenshot(ctx, name)
	if err != nil {
		return ""
	}
	path := filepath.Join(string(e.home), "screenshot.png")
	if os.WriteFile(path, png, 0o600) != nil {
		return ""
	}
	return path
}
