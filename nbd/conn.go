package nbd

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// conn is one client's connection, from accept to its end.
type conn struct {
	server   *Server
	listener net.Listener
	raw      net.Conn
	ctx      context.Context // ends when the connection is cut
	cancel   context.CancelFunc
	done     chan struct{} // closed when nothing of the connection runs any more
	export   *export       // once chosen; under Server.mu

	mu       sync.Mutex
	draining bool // deadlines for reading stay in the past
}

func newConn(ctx context.Context, s *Server, l net.Listener, raw net.Conn) *conn {
	c := &conn{server: s, listener: l, raw: raw, done: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancel(ctx)
	return c
}

func (c *conn) run() {
	defer close(c.done)
	defer c.cancel()
	log := c.server.cfg.Log.With("from", c.raw.RemoteAddr().String())
	err := c.talk()
	if c.isDraining() && errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
		c.linger()
	}
	err = errors.Join(err, c.raw.Close())
	c.server.mu.Lock()
	e := c.export
	delete(c.server.conns, c)
	c.server.mu.Unlock()
	if e != nil {
		log = log.With("export", e.Name)
	}
	switch {
	case err == nil, errors.Is(err, errGone), e == nil && errors.Is(err, io.EOF):
		log.Debug("nbd: client left")
	default:
		log.Info("nbd: connection broke", "error", err)
	}
}

// talk runs both phases.
func (c *conn) talk() error {
	if err := c.limit(time.Now().Add(c.server.cfg.Handshake)); err != nil {
		return err
	}
	h := &handshake{conn: c.raw, in: newInbox(c.raw), tls: c.server.cfg.TLS, find: c.server.find, list: c.server.list}
	e, err := h.run(c.ctx)
	if err != nil {
		return err
	}
	if err := c.use(e); err != nil {
		return err
	}
	if err := c.limit(time.Time{}); err != nil {
		return err
	}
	s := newSession(c.ctx, h.conn, h.in, answerer{
		disk: e.Backend, size: e.Backend.Size(), readOnly: e.ReadOnly, structured: h.structured, status: h.context != nil,
	})
	if e.Blocking {
		s.workers = newWorkers()
	}
	return s.run()
}

// use marks the export as used by this connection, unless it is being removed.
func (c *conn) use(e *export) error {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	if e.gone {
		return ErrUnknownExport
	}
	c.export = e
	return nil
}

// limit sets the time until which reading and writing may take; once draining, reading may not wait.
func (c *conn) limit(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining {
		return os.ErrDeadlineExceeded
	}
	return c.raw.SetDeadline(t)
}

// drain lets the connection end once the requests that it has read are answered.
func (c *conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	_ = c.raw.SetReadDeadline(time.Unix(1, 0)) // fails if it has ended already
}

func (c *conn) isDraining() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.draining
}

// cut ends the connection and its requests at once.
func (c *conn) cut() {
	c.cancel()
	_ = c.raw.Close() // run reports how it ended
}

// linger waits for the client to hang up, up to a second: closing on what it sent would destroy the last replies on their way.
func (c *conn) linger() {
	half, ok := c.raw.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || c.raw.SetReadDeadline(time.Now().Add(time.Second)) != nil {
		return
	}
	_, _ = io.Copy(io.Discard, c.raw)
}

// isShortage: accept failed for want of files or memory, which may pass.
func isShortage(err error) bool {
	for _, errno := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
