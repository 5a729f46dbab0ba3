package nbd

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"
)

// Config of a server.
type Config struct {
	// TLS, if set, is demanded of every client before it learns or does anything (STARTTLS). Set ClientAuth and ClientCAs in it
	// to demand certificates.
	TLS *tls.Config
	// Handshake is how long a client may take until it has chosen an export. Default 1 minute.
	Handshake time.Duration
	// Grace is how long a connection that is to end may take for the requests under way; then it is cut. Default 10 s.
	Grace time.Duration
	// Log of connections that come, go and break. Default: none.
	Log *slog.Logger
}

// Server offers exports on any number of listeners. Its methods are safe for concurrent use.
type Server struct {
	cfg Config

	mu      sync.Mutex
	exports map[string]*export
	conns   map[*conn]bool
	closing chan struct{} // closed by Close
	serving sync.WaitGroup
}

// export is an Export that is offered.
type export struct {
	Export
	gone bool // no new connections; under Server.mu
}

// NewServer makes a server without exports.
func NewServer(cfg Config) *Server {
	cfg.Handshake = cmp.Or(cfg.Handshake, time.Minute)
	cfg.Grace = cmp.Or(cfg.Grace, 10*time.Second)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: cfg, exports: map[string]*export{}, conns: map[*conn]bool{}, closing: make(chan struct{})}
}

// Add offers an export from now on. It refuses a name that is taken (ErrExists) and disks that are not whole sectors long.
func (s *Server) Add(e Export) error {
	if err := e.validate(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.exports[e.Name] != nil {
		return fmt.Errorf("export %q: %w", e.Name, ErrExists)
	}
	s.exports[e.Name] = &export{Export: e}
	return nil
}

// Remove withdraws an export and returns when nothing uses its backend any more: connections answer what is under way and are
// closed, and those that have not ended when ctx does, or after Config.Grace, are cut. A name that is not offered is ErrUnknownExport.
// The name is taken until Remove returns.
func (s *Server) Remove(ctx context.Context, name string) error {
	s.mu.Lock()
	e := s.exports[name]
	if e == nil || e.gone {
		s.mu.Unlock()
		return fmt.Errorf("export %q: %w", name, ErrUnknownExport)
	}
	e.gone = true
	users := s.connsWhere(func(c *conn) bool { return c.export == e })
	s.mu.Unlock()
	s.end(ctx, users)
	s.mu.Lock()
	delete(s.exports, name)
	s.mu.Unlock()
	return nil
}

// Clients is the number of connections that use an export now.
func (s *Server) Clients(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.connsWhere(func(c *conn) bool { return c.export != nil && c.export.Name == name }))
}

// Serve answers clients of l until ctx ends, Close is called (then it returns nil) or l fails. It closes l, and returns when its
// connections have ended as in Close.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	s.mu.Lock()
	select {
	case <-s.closing:
		s.mu.Unlock()
		return errors.Join(ErrClosed, l.Close())
	default:
	}
	s.serving.Add(1)
	s.mu.Unlock()
	defer s.serving.Done()
	accepting := make(chan error, 1)
	go func() { accepting <- s.accept(ctx, l) }()
	var err error
	select {
	case err = <-accepting:
		err = errors.Join(err, l.Close())
	case <-ctx.Done():
		err = l.Close()
		<-accepting
	case <-s.closing:
		err = l.Close()
		<-accepting
	}
	s.mu.Lock()
	mine := s.connsWhere(func(c *conn) bool { return c.listener == l })
	s.mu.Unlock()
	s.end(context.WithoutCancel(ctx), mine)
	return err
}

// Close ends every Serve: no new clients, requests under way are answered, connections closed, and after Config.Grace cut. It
// returns when nothing uses any backend. It may be called again.
func (s *Server) Close() error {
	s.mu.Lock()
	select {
	case <-s.closing:
	default:
		close(s.closing)
	}
	s.mu.Unlock()
	s.serving.Wait()
	return nil
}

// accept clients until the listener is closed. Running out of files or memory is waited out.
func (s *Server) accept(ctx context.Context, l net.Listener) error {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			if ne, ok := errors.AsType[net.Error](err); !ok || !ne.Timeout() && !isShortage(err) {
				return err
			}
			s.cfg.Log.Warn("nbd: accept", "error", err)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			case <-s.closing:
			}
			continue
		}
		one := newConn(context.WithoutCancel(ctx), s, l, c)
		s.mu.Lock()
		s.conns[one] = true
		s.mu.Unlock()
		go one.run()
	}
}

// find gives the export that a client names; the empty name also means the only one there is.
func (s *Server) find(name string) *export {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.exports[name]
	if e == nil && name == "" && len(s.exports) == 1 {
		for _, e = range s.exports {
		}
	}
	if e == nil || e.gone {
		return nil
	}
	return e
}

// list the exports by name.
func (s *Server) list() []Export {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Export
	for _, name := range slices.Sorted(maps.Keys(s.exports)) {
		if e := s.exports[name]; !e.gone {
			all = append(all, e.Export)
		}
	}
	return all
}

// connsWhere lists connections; s.mu is held.
func (s *Server) connsWhere(match func(*conn) bool) (all []*conn) {
	for c := range s.conns {
		if match(c) {
			all = append(all, c)
		}
	}
	return all
}

// end connections in an orderly way, and cut those that take longer than ctx or the grace. It returns when all have ended.
func (s *Server) end(ctx context.Context, conns []*conn) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Grace)
	defer cancel()
	for _, c := range conns {
		c.drain()
	}
	for _, c := range conns {
		select {
		case <-c.done:
		case <-ctx.Done():
			c.cut()
			<-c.done
		}
	}
}
