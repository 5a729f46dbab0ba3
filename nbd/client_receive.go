package nbd

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// call is a request that waits for its answer.
type call struct {
	op      string
	r       request
	into    []byte // where a READ goes
	got     int64  // bytes of into that were answered
	extents []extentRun
	failed  *RemoteError // the first error chunk
	filling bool         // its answer has begun to arrive; under Client.mu
	err     error        // valid once done
	done    chan struct{}
}

type extentRun struct {
	n uint32
	e Extent
}

func newCall(op string, r request) *call { return &call{op: op, r: r, done: make(chan struct{})} }

func (k *call) remote(code Code, why string) *RemoteError {
	return &RemoteError{Op: k.op, Off: int64(k.r.off), Len: int64(k.r.n), Code: code, Message: why}
}

// receive takes replies until the connection is over. What a server says is checked before it is believed: nothing is written
// outside of what the caller of a READ gave, and no memory is taken by a length that was received beyond fixed limits.
func (c *Client) receive() {
	for {
		b, err := c.in.next(4, inboxSize)
		if err == nil {
			switch magic := binary.BigEndian.Uint32(b); {
			case magic == magicSimple:
				err = c.simple()
			case magic == magicStructured && c.structured:
				err = c.chunk()
			default:
				err = fmt.Errorf("%w: reply magic %#x", ErrProtocol, magic)
			}
		}
		if err != nil {
			c.fail(err)
			return
		}
	}
}

// claim finds the call that a reply is for; nil if its caller has given up.
func (c *Client) claim(cookie uint64) (*call, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cookie == 0 || cookie > c.cookie {
		return nil, fmt.Errorf("%w: reply to a request %d that was not made", ErrProtocol, cookie)
	}
	k := c.pending[cookie]
	if k != nil {
		k.filling = true
	}
	return k, nil
}

// finish settles a call.
func (c *Client) finish(k *call, err error) {
	c.mu.Lock()
	delete(c.pending, k.r.cookie)
	c.mu.Unlock()
	k.err = err
	close(k.done)
}

// simple takes the rest of a simple reply. A READ whose caller has given up can only be told apart while it is remembered, so
// such replies end the connection unless structured replies were agreed.
func (c *Client) simple() error {
	b, err := c.in.next(simpleSize-4, inboxSize)
	if err != nil {
		return err
	}
	code := Code(binary.BigEndian.Uint32(b))
	k, err := c.claim(binary.BigEndian.Uint64(b[4:]))
	switch {
	case err != nil:
		return err
	case k == nil && c.structured:
		return nil
	case k == nil:
		return errors.New("a reply of unknown length to a request that was given up")
	case code != 0:
		c.finish(k, k.remote(code, ""))
		return nil
	case k.r.cmd == cmdBlockStatus || k.into != nil && c.structured:
		return fmt.Errorf("%w: a simple reply to a %s", ErrProtocol, k.op)
	}
	if err := c.in.full(k.into); err != nil {
		return err
	}
	c.finish(k, nil)
	return nil
}

// chunk takes the rest of a structured reply's chunk.
func (c *Client) chunk() error {
	b, err := c.in.next(structuredSize-4, inboxSize)
	if err != nil {
		return err
	}
	flags, kind := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	cookie, n := binary.BigEndian.Uint64(b[4:]), binary.BigEndian.Uint32(b[12:])
	k, err := c.claim(cookie)
	if err != nil {
		return err
	}
	if n > maxPayload+8 {
		return fmt.Errorf("%w: a chunk of %d bytes", ErrProtocol, n)
	}
	if k == nil {
		return c.in.skip(int64(n))
	}
	if err := c.content(k, kind, int64(n)); err != nil {
		return err
	}
	if flags&replyFlagDone != 0 {
		c.finish(k, k.result())
	}
	return nil
}

// result of a structured reply that is complete.
func (k *call) result() error {
	switch {
	case k.failed != nil:
		return k.failed
	case k.got != int64(len(k.into)):
		return k.remote(CodeEIO, fmt.Sprintf("the server answered %d of %d bytes", k.got, len(k.into)))
	case k.r.cmd == cmdBlockStatus && len(k.extents) == 0:
		return k.remote(CodeEIO, "the server told no extents")
	}
	return nil
}

func (c *Client) content(k *call, kind uint16, n int64) error {
	switch {
	case kind == replyNone && n == 0:
		return nil
	case kind == replyOffsetData && n > 8:
		return c.offsetData(k, n-8)
	case kind == replyOffsetHole && n == 12:
		return c.offsetHole(k)
	case kind == replyBlockStatus && n >= 12 && n%8 == 4 && n <= 4+8*(1<<20):
		return c.blockStatusChunk(k, n)
	case kind&(1<<15) != 0 && n >= 6 && n <= 6+maxName+8:
		return c.errorChunk(k, int(n))
	}
	return fmt.Errorf("%w: a chunk of type %d and %d bytes for a %s", ErrProtocol, kind, n, k.op)
}

// target is where a chunk of a READ goes.
func (k *call) target(off uint64, n int64) ([]byte, error) {
	if off < k.r.off || n > int64(len(k.into)) || off-k.r.off > uint64(int64(len(k.into))-n) {
		return nil, fmt.Errorf("%w: %d bytes at %d for a %s of %d at %d", ErrProtocol, n, off, k.op, len(k.into), k.r.off)
	}
	k.got += n
	return k.into[off-k.r.off:][:n], nil
}

func (c *Client) offsetData(k *call, n int64) error {
	b, err := c.in.next(8, inboxSize)
	if err != nil {
		return err
	}
	p, err := k.target(binary.BigEndian.Uint64(b), n)
	if err != nil {
		return err
	}
	return c.in.full(p)
}

func (c *Client) offsetHole(k *call) error {
	b, err := c.in.next(12, inboxSize)
	if err != nil {
		return err
	}
	p, err := k.target(binary.BigEndian.Uint64(b), int64(binary.BigEndian.Uint32(b[8:])))
	clear(p)
	return err
}

func (c *Client) blockStatusChunk(k *call, n int64) error {
	b, err := c.in.next(4, inboxSize)
	if err != nil {
		return err
	}
	if id := binary.BigEndian.Uint32(b); k.r.cmd != cmdBlockStatus || id != c.contextID || k.extents != nil {
		return fmt.Errorf("%w: a block status of context %d for a %s", ErrProtocol, id, k.op)
	}
	for range (n - 4) / 8 {
		b, err := c.in.next(8, inboxSize)
		if err != nil {
			return err
		}
		k.extents = append(k.extents, extentRun{binary.BigEndian.Uint32(b), Extent(binary.BigEndian.Uint32(b[4:]))})
	}
	return nil
}

// errorChunk keeps the first error. An unknown kind of error is one all the same.
func (c *Client) errorChunk(k *call, n int) error {
	b, err := c.in.next(n, inboxSize)
	if err != nil {
		return err
	}
	words := int(binary.BigEndian.Uint16(b[4:]))
	if words > n-6 {
		return fmt.Errorf("%w: an error of %d bytes with %d of words", ErrProtocol, n, words)
	}
	if k.failed == nil {
		code := Code(binary.BigEndian.Uint32(b))
		if code == 0 {
			code = CodeEIO
		}
		k.failed = k.remote(code, string(b[6:6+words]))
	}
	return nil
}
