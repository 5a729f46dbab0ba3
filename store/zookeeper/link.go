package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-zookeeper/zk"
)

// errLost is the error of a request whose connection broke: it may or may not have been done.
var errLost = errors.New("zookeeper: connection lost")

// link is one TCP connection with one session. When it breaks the session is given up with it: a session
// that goes on would send requests later that their callers have long given up, and its
// watches would go on from the newest answer seen, which may be past what they should tell.
type link struct {
	conn   *zk.Conn
	raw    net.Conn
	notify func(path string)
	ready  chan struct{} // closed when the session is there
	lost   chan struct{} // closed when the connection is broken

	onceReady, onceLost sync.Once

	turn sync.Mutex // held by the barrier that is under way
	mu   sync.Mutex
	next *wait // who comes now can still join it; nil: nobody waits
}

// wait is one barrier and all who share it.
type wait struct {
	done chan struct{}
	err  error
}

// newLink connects to server within ctx. notify gets the path of each znode whose watch fired; it must not block.
func newLink(ctx context.Context, cfg Config, server string, notify func(path string)) (*link, error) {
	raw, err := cfg.dial(ctx, server)
	if err != nil {
		return nil, err
	}
	l := &link{raw: raw, notify: notify, ready: make(chan struct{}), lost: make(chan struct{})}
	var used atomic.Bool
	once := func(string, string, time.Duration) (net.Conn, error) {
		if used.Swap(true) {
			return nil, errLost
		}
		return raw, nil
	}
	l.conn, _, err = zk.Connect([]string{server}, cfg.SessionTimeout, zk.WithDialer(once),
		zk.WithHostProvider(&one{}), zk.WithLogger(silent{}), zk.WithLogInfo(false), zk.WithEventCallback(l.event))
	if err != nil {
		raw.Close()
		return nil, err
	}
	select {
	case <-l.ready:
	case <-l.lost:
		err = fmt.Errorf("%s does not serve: %w", server, errLost)
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err == nil && cfg.User != "" {
		err = l.conn.AddAuth("digest", []byte(cfg.User+":"+cfg.Password))
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *link) event(e zk.Event) {
	switch {
	case e.Type != zk.EventSession:
		l.notify(e.Path)
	case e.State == zk.StateHasSession:
		l.onceReady.Do(func() { close(l.ready) })
	case e.State == zk.StateDisconnected, e.State == zk.StateExpired, e.State == zk.StateAuthFailed:
		l.onceLost.Do(func() { close(l.lost) })
	}
}

// close ends the session, if the server still listens, and the connection. It takes up to a second.
func (l *link) close() {
	select {
	case <-l.lost:
		l.raw.Close()
	case <-l.ready:
	default:
		l.raw.Close()
	}
	l.conn.Close()
	l.raw.Close()
}

// one is the list of a single server, which newLink has connected to already. When the library asks
// for it again, it is told that the list is through, which makes it fail what waits.
type one struct {
	server string
	asked  bool
}

func (o *one) Init(servers []string) error { o.server = servers[0]; return nil }
func (o *one) Len() int                    { return 1 }
func (o *one) Connected()                  {}

func (o *one) Next() (server string, retryStart bool) {
	retryStart, o.asked = o.asked, true
	return o.server, retryStart
}

type silent struct{}

func (silent) Printf(string, ...any) {}

// barrier returns when the server of this link has everything that was acknowledged anywhere before the call.
// It writes a znode, because a server that answers a write has all that was committed before. ZooKeeper's own
// sync does not go through the queue of commits when it is sent to the leader, and needs no majority. Calls
// that come while one is under way share the next one.
func (l *link) barrier(path string) error {
	l.mu.Lock()
	w := l.next
	first := w == nil
	if first {
		w = &wait{done: make(chan struct{})}
		l.next = w
	}
	l.mu.Unlock()
	if first {
		l.turn.Lock()
		l.mu.Lock()
		l.next = nil // who comes from here on may have seen a write that this barrier does not
		l.mu.Unlock()
		_, w.err = l.conn.Set(path, []byte{}, -1)
		l.turn.Unlock()
		close(w.done)
	}
	<-w.done
	return w.err
}
