package lab

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"
)

// door is the way of one process to the object server. It can be shut, and it can watch for a request at which its process
// is to be killed: so a crash between the segment and its head comes where it is wanted.
type door struct {
	address string // host:port
	srv     *http.Server

	mu     sync.Mutex
	opened chan struct{} // closed: open
	trap   *trap
}

// trap acts at a request, once.
type trap struct {
	match func(*http.Request) bool
	// after: the server has carried the request out, and nobody is told. Else it never sees it.
	after bool
	act   func()
	done  chan struct{} // closed when it has
}

// openDoor leads to the object server at target, host:port.
func openDoor(target string) (*door, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d := &door{address: l.Addr().String(), opened: make(chan struct{})}
	close(d.opened)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: target})
			r.Out.Host = r.In.Host // it is signed
		},
		Transport:    &http.Transport{DisableCompression: true, DisableKeepAlives: true},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }, // the server is gone: so is the connection
	}
	d.srv = &http.Server{Handler: d.guard(proxy), ReadHeaderTimeout: time.Minute}
	go func() { _ = d.srv.Serve(l) }() // ends with close
	return d, nil
}

func (d *door) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		opened, t := d.opened, d.trap
		if t != nil && t.match(r) {
			d.trap = nil
		} else {
			t = nil
		}
		d.mu.Unlock()
		select {
		case <-opened:
		case <-r.Context().Done():
			return
		}
		if t == nil {
			next.ServeHTTP(w, r)
			return
		}
		if t.after {
			next.ServeHTTP(discard{}, r)
		}
		t.act()
		close(t.done)
		panic(http.ErrAbortHandler)
	})
}

// shut lets nothing pass any more until it is opened: what comes waits. Twice is safe.
func (d *door) shut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.isOpen() {
		d.opened = make(chan struct{})
	}
}

func (d *door) open() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.isOpen() {
		close(d.opened)
	}
}

func (d *door) isOpen() bool {
	select {
	case <-d.opened:
		return true
	default:
		return false
	}
}

// catch waits until the trap has acted, or takes it away when ctx ends; then it tells false.
func (d *door) catch(ctx context.Context, t trap) bool {
	t.done = make(chan struct{})
	d.mu.Lock()
	d.trap = &t
	d.mu.Unlock()
	select {
	case <-t.done:
		return true
	case <-ctx.Done():
	}
	d.mu.Lock()
	waiting := d.trap == &t
	d.trap = nil
	d.mu.Unlock()
	if !waiting { // it acts right now
		<-t.done
	}
	return !waiting
}

func (d *door) close() error {
	if err := d.srv.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// swapsHead matches the change of a stream's head.
func swapsHead(r *http.Request) bool {
	return r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/head")
}

// discard is an answer that nobody gets.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}
