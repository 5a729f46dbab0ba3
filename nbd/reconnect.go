package nbd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// ReconnectOptions of a Reconnecting client.
type ReconnectOptions struct {
	DialOptions
	// Within is how long a call goes on trying while there is no connection. Default 1 minute.
	Within time.Duration
	// Every is the time between attempts to connect. Default 100 ms.
	Every time.Duration
}

// Reconnecting is a Backend that connects again when the connection breaks, and sends again what was not answered: a change may
// be carried out twice, so calls that overlap must not be under way together. What a server had answered but not flushed when its
// machine died is lost, as on any disk without a flush; a server that was merely killed loses nothing of it.
type Reconnecting struct {
	dial func(ctx context.Context) (*Client, error)
	opts ReconnectOptions
	size int64

	mu     sync.Mutex
	client *Client // nil: none yet, or broken
	closed bool
	slot   chan struct{} // holds one token: whoever has it may dial
}

// DialReconnecting connects as Dial does, trying for opts.Within also the first time.
func DialReconnecting(ctx context.Context, network, address, export string, opts ReconnectOptions) (*Reconnecting, error) {
	opts.Within = cmp.Or(opts.Within, time.Minute)
	opts.Every = cmp.Or(opts.Every, 100*time.Millisecond)
	r := &Reconnecting{opts: opts, size: -1, slot: make(chan struct{}, 1)}
	r.dial = func(ctx context.Context) (*Client, error) {
		return Dial(ctx, network, address, export, opts.DialOptions)
	}
	r.slot <- struct{}{}
	return r, r.try(ctx, func(ctx context.Context, c *Client) error { return nil })
}

// Size implements Backend.
func (r *Reconnecting) Size() int64 { return r.size }

// Close ends the connection; calls under way and later ones fail with ErrClosed. It may be called again.
func (r *Reconnecting) Close() error {
	r.mu.Lock()
	r.closed = true
	c := r.client
	r.mu.Unlock()
	if c == nil {
		return nil
	}
	return c.Close()
}

// passing tells errors that another connection may cure.
func passing(err error) bool {
	return errors.Is(err, ErrDisconnected) || errors.Is(err, ErrShutdown) || errors.Is(err, ErrUnknownExport)
}

// try calls do with a connected client, again and again until it succeeds, fails for good, or the time is over.
func (r *Reconnecting) try(ctx context.Context, do func(ctx context.Context, c *Client) error) error {
	var giveUp time.Time // set by the first failure
	for {
		c, err := r.connected(ctx)
		if err == nil {
			if err = do(ctx, c); err == nil {
				return nil
			}
		}
		if !passing(err) || ctx.Err() != nil || r.isClosed() {
			return err
		}
		if c != nil {
			r.drop(c)
		}
		now := time.Now()
		if giveUp.IsZero() {
			giveUp = now.Add(r.opts.Within)
		}
		if now.After(giveUp) {
			return fmt.Errorf("nothing helped for %v: %w", r.opts.Within, err)
		}
		select {
		case <-time.After(r.opts.Every):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

func (r *Reconnecting) isClosed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed
}

// current gives the client, if there is one.
func (r *Reconnecting) current() (*Client, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, fmt.Errorf("nbd: %w", ErrClosed)
	}
	return r.client, nil
}

// connected gives the client, or dials once. One caller dials; the others wait for what comes of it.
func (r *Reconnecting) connected(ctx context.Context) (*Client, error) {
	if c, err := r.current(); c != nil || err != nil {
		return c, err
	}
	select {
	case <-r.slot:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { r.slot <- struct{}{} }()
	if c, err := r.current(); c != nil || err != nil {
		return c, err
	}
	dialing, cancel := context.WithTimeout(ctx, r.opts.Within)
	defer cancel()
	c, err := r.dial(dialing)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return nil, errors.Join(fmt.Errorf("nbd: %w", ErrClosed), c.Close())
	case r.size >= 0 && c.Size() != r.size:
		return nil, errors.Join(fmt.Errorf("nbd: the disk was %d bytes long and is now %d: %w", r.size, c.Size(), ErrInvalid), c.Close())
	}
	if r.size < 0 {
		r.size = c.Size()
	}
	r.client = c
	return c, nil
}

// drop forgets a client that is broken.
func (r *Reconnecting) drop(c *Client) {
	r.mu.Lock()
	if r.client == c {
		r.client = nil
	}
	r.mu.Unlock()
	_ = c.Close() // it is broken
}

// ReadAt implements Backend.
func (r *Reconnecting) ReadAt(ctx context.Context, p []byte, off int64) error {
	return r.try(ctx, func(ctx context.Context, c *Client) error { return c.ReadAt(ctx, p, off) })
}

// WriteAt implements Backend.
func (r *Reconnecting) WriteAt(ctx context.Context, p []byte, off int64, fua bool) error {
	return r.try(ctx, func(ctx context.Context, c *Client) error { return c.WriteAt(ctx, p, off, fua) })
}

// Zero implements Backend.
func (r *Reconnecting) Zero(ctx context.Context, off, n int64, mayTrim, fua bool) error {
	return r.try(ctx, func(ctx context.Context, c *Client) error { return c.Zero(ctx, off, n, mayTrim, fua) })
}

// Trim implements Backend.
func (r *Reconnecting) Trim(ctx context.Context, off, n int64, fua bool) error {
	return r.try(ctx, func(ctx context.Context, c *Client) error { return c.Trim(ctx, off, n, fua) })
}

// Flush implements Backend.
func (r *Reconnecting) Flush(ctx context.Context) error {
	return r.try(ctx, func(ctx context.Context, c *Client) error { return c.Flush(ctx) })
}

// Extents implements Backend. Nothing is yielded twice: a client yields once it has the whole answer.
func (r *Reconnecting) Extents(ctx context.Context, off, n int64, yield func(off, n int64, e Extent) bool) error {
	return r.try(ctx, func(ctx context.Context, c *Client) error { return c.Extents(ctx, off, n, yield) })
}
