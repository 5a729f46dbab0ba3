package engines

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// The requests at a control socket, a JSON object a line; each is answered by one line.
const (
	opState = "state" // how the engine is
	opSet   = "set"   // take up config.json
	opStop  = "stop"  // end in good order; the answer comes before the end
)

type request struct {
	Op string `json:"op"`
}

type reply struct {
	Error string           `json:"error,omitempty"`
	Busy  bool             `json:"busy,omitempty"` // what was asked for has begun, and goes on
	State *api.EngineState `json:"state,omitempty"`
}

// controlWait bounds one exchange.
const controlWait = 30 * time.Second

// Ask asks the engine of a home how it is.
func (h Home) Ask(ctx context.Context) (api.EngineState, error) {
	r, err := h.exchange(ctx, opState)
	if err != nil || r.State == nil {
		return api.EngineState{}, errors.Join(err, errNoState(r))
	}
	return *r.State, nil
}

func errNoState(r reply) error {
	if r.State == nil && r.Error == "" {
		return errors.New("the engine did not say how it is")
	}
	return nil
}

// ErrTaking of Set: the engine takes up its config, and that takes longer than one waits.
var ErrTaking = errors.New("the engine is still taking up its config")

// Set makes the engine take up its config. It tells whether that succeeded at once; the engine goes on trying.
func (h Home) Set(ctx context.Context) error {
	r, err := h.exchange(ctx, opSet)
	if err == nil && r.Busy {
		err = ErrTaking
	}
	return err
}

// Stop makes the engine end.
func (h Home) Stop(ctx context.Context) error {
	_, err := h.exchange(ctx, opStop)
	return err
}

func (h Home) exchange(ctx context.Context, op string) (r reply, err error) {
	ctx, cancel := context.WithTimeout(ctx, controlWait)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", h.Socket())
	if err != nil {
		return r, fmt.Errorf("engine %s: %w", op, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := json.NewEncoder(conn).Encode(request{op}); err != nil {
		return r, fmt.Errorf("engine %s: %w", op, err)
	}
	if err := json.NewDecoder(conn).Decode(&r); err != nil {
		return r, fmt.Errorf("engine %s: %w", op, err)
	}
	if r.Error != "" {
		return r, fmt.Errorf("engine %s: %s", op, r.Error)
	}
	return r, nil
}

// serveControl answers at the socket until ctx ends.
func serveControl(ctx context.Context, l net.Listener, handle func(request) reply) {
	var wg sync.WaitGroup
	defer wg.Wait()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors: no reason to end what serves disks
			time.Sleep(100 * time.Millisecond)
			continue
		}
		wg.Go(func() { serveConn(ctx, conn, handle) })
	}
}

func serveConn(ctx context.Context, conn net.Conn, handle func(request) reply) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Now()) })
	defer stop()
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		var q request
		r := reply{Error: "want a JSON object with op"}
		if json.Unmarshal(lines.Bytes(), &q) == nil {
			r = handle(q)
		}
		if json.NewEncoder(conn).Encode(r) != nil {
			return
		}
	}
}

// listenControl takes the home's socket, in place of one that a killed process left.
func listenControl(h Home) (net.Listener, error) {
	if err := os.Remove(h.Socket()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("engine home: %w", err)
	}
	l, err := net.Listen("unix", h.Socket())
	if err != nil {
		return nil, fmt.Errorf("engine home: %w", err)
	}
	return l, os.Chmod(h.Socket(), 0o600)
}
