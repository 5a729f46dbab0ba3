package nbd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Client is a connection to an export, and a Backend. Concurrent calls share the connection: their requests are sent as they come
// and answered in any order. Once the connection breaks, every call fails with ErrDisconnected.
//
// A call whose context ends while its request is being sent breaks the connection, as the rest of the request is missing; one that
// ends while waiting for the answer does not.
type Client struct {
	agreement
	conn net.Conn
	in   *inbox

	sending chan struct{} // holds one token: whoever has it may send
	head    [requestSize]byte
	parts   net.Buffers // head and payload of the request being sent

	mu      sync.Mutex
	pending map[uint64]*call
	cookie  uint64
	err     error // why the connection is over
	over    chan struct{}
	read    sync.WaitGroup
}

func newClient(conn net.Conn, in *inbox, a agreement) *Client {
	c := &Client{agreement: a, conn: conn, in: in, sending: make(chan struct{}, 1), pending: map[uint64]*call{}, over: make(chan struct{})}
	c.sending <- struct{}{}
	c.read.Go(c.receive)
	return c
}

// Size implements Backend.
func (c *Client) Size() int64 { return c.size }

// ReadOnly says that the server refuses changes.
func (c *Client) ReadOnly() bool { return c.has(flagReadOnly) }

// MultiConn says that a flush on one connection covers what was answered on all connections to the export.
func (c *Client) MultiConn() bool { return c.has(flagCanMultiConn) }

// Close tells the server goodbye and ends the connection; calls under way fail. It may be called again.
func (c *Client) Close() error {
	select {
	case <-c.sending: // nobody is sending
		_ = c.conn.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = c.conn.Write(request{cmd: cmdDisc}.append(nil)) // a courtesy
		c.sending <- struct{}{}
	default:
	}
	c.fail(ErrClosed)
	c.read.Wait()
	return nil
}

// fail ends the connection and every call.
func (c *Client) fail(err error) {
	c.mu.Lock()
	if c.err == nil {
		if !errors.Is(err, ErrClosed) && !errors.Is(err, ErrProtocol) {
			err = fmt.Errorf("%w: %w", ErrDisconnected, err)
		}
		c.err = fmt.Errorf("nbd: %w", err)
		close(c.over)
	}
	c.mu.Unlock()
	_ = c.conn.Close() // its error adds nothing
}

// do sends a request and waits for its answer. With a payload it is a WRITE.
func (c *Client) do(ctx context.Context, k *call, payload []byte) error {
	if err := c.send(ctx, k, payload); err != nil {
		return err
	}
	select {
	case <-k.done:
		return k.err
	case <-c.over:
	case <-ctx.Done():
		if c.giveUp(k) {
			return ctx.Err()
		}
		// The answer is on its way into the caller's memory: see it through, or make sure that no more comes.
		select {
		case <-k.done:
			return k.err
		case <-c.over:
		case <-time.After(time.Second):
			c.fail(errors.New("an answer stopped half-way"))
		}
	}
	c.read.Wait() // whatever was being received is settled
	select {
	case <-k.done:
		return k.err
	default:
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return c.err
}

// giveUp forgets a call, unless its answer has begun to arrive.
func (c *Client) giveUp(k *call) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !k.filling {
		delete(c.pending, k.r.cookie)
	}
	return !k.filling
}

// send gives a call its cookie and its place among the pending ones, and sends it.
func (c *Client) send(ctx context.Context, k *call, payload []byte) error {
	select {
	case <-c.sending:
	case <-ctx.Done():
		return ctx.Err()
	case <-c.over:
		return c.err
	}
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		c.sending <- struct{}{}
		return c.err
	}
	c.cookie++
	k.r.cookie = c.cookie
	c.pending[k.r.cookie] = k
	c.mu.Unlock()
	stop := func() bool { return true }
	if ctx.Done() != nil {
		stop = context.AfterFunc(ctx, func() { c.fail(fmt.Errorf("given up while sending: %v", ctx.Err())) })
	}
	err := c.write(k.r, payload)
	// Whether the context ended in time to break the connection or not: from here on it only ends the wait.
	stop()
	if err != nil {
		c.fail(err)
	}
	c.sending <- struct{}{}
	return nil // a broken connection is found while waiting, where the answer may yet have come
}

func (c *Client) write(r request, payload []byte) error {
	head := r.append(c.head[:0])
	if len(payload) == 0 {
		_, err := c.conn.Write(head)
		return err
	}
	c.parts = append(c.parts[:0], head, payload)
	parts := c.parts
	_, err := parts.WriteTo(c.conn)
	clear(c.parts)
	return err
}
