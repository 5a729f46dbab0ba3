package agent

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// The health endpoint answers plain HTTP, one request a connection:
//
//	GET /healthz          200 when the agent has taken up what its directory says
//	GET /active           200 when, besides, some owner's role here is Active; 503 when it is Passive or Draining
//	GET /active/OWNER     the same of one owner: /active/ApplianceGroup/default/dmz
//
// It is written by hand because balancers and observers ask it hundreds of times a second. The endpoint lives as long as
// the agent: whoever takes it for the appliance's health takes an agent's restart for a failure.

// roles is what the node is, by owner.
type roles struct {
	mu      sync.Mutex
	ready   bool
	byOwner map[string]api.Role
}

func (r *roles) set(owner string, role api.Role) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byOwner == nil {
		r.byOwner = map[string]api.Role{}
	}
	r.byOwner[owner] = role
}

func (r *roles) setReady() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ready = true
}

// ok answers one path; known is false for paths that are none.
func (r *roles) ok(path string) (ok, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case path == "/healthz":
		return r.ready, true
	case path == "/active":
		for _, role := range r.byOwner {
			ok = ok || role == api.RoleActive
		}
		return ok && r.ready, true
	case strings.HasPrefix(path, "/active/"):
		return r.ready && r.byOwner[strings.TrimPrefix(path, "/active/")] == api.RoleActive, true
	}
	return false, false
}

const (
	maxRequest  = 4096
	requestTime = 2 * time.Second
	// maxConns are served at a time; more wait in the kernel's queue.
	maxConns = 256
)

// serveHealth answers until ctx ends.
func serveHealth(ctx context.Context, ln net.Listener, r *roles) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	slots := make(chan struct{}, maxConns)
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil { // out of descriptors, or a client that went away at once
			time.Sleep(time.Millisecond)
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			answerHealth(c, r)
		})
	}
}

func answerHealth(c net.Conn, r *roles) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(requestTime))
	var buf [maxRequest]byte
	have := 0
	for !bytes.Contains(buf[:have], []byte("\r\n\r\n")) {
		n, err := c.Read(buf[have:])
		if err != nil || have+n == len(buf) {
			return
		}
		have += n
	}
	_, _ = c.Write([]byte(healthAnswer(buf[:have], r)))
}

func healthAnswer(request []byte, r *roles) string {
	line, _, _ := bytes.Cut(request, []byte("\r\n"))
	parts := strings.Split(string(line), " ")
	if len(parts) != 3 || !strings.HasPrefix(parts[2], "HTTP/1.") || parts[0] != "GET" && parts[0] != "HEAD" {
		return response("400 Bad Request", "want GET\n", false)
	}
	path, _, _ := strings.Cut(parts[1], "?")
	head := parts[0] == "HEAD"
	switch ok, known := r.ok(path); {
	case ok:
		return response("200 OK", "ok\n", head)
	case known:
		return response("503 Service Unavailable", "no\n", head)
	}
	return response("404 Not Found", "want /healthz or /active\n", head)
}

func response(status, body string, head bool) string {
	h := "HTTP/1.1 " + status + "\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
	if head {
		return h
	}
	return h + body
}
