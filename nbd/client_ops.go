package nbd

import "context"

// maxRange is the longest request without data, in bytes: what fits the protocol's 32 bits in whole preferred blocks.
const maxRange = 1<<32 - preferredSize

// pieces calls do for a range in parts of at most limit bytes.
func pieces(off, n, limit int64, do func(off, n int64) error) error {
	for n > 0 {
		part := min(n, limit)
		if err := do(off, part); err != nil {
			return err
		}
		off, n = off+part, n-part
	}
	return nil
}

// ReadAt implements Backend.
func (c *Client) ReadAt(ctx context.Context, p []byte, off int64) error {
	start := off
	return pieces(off, int64(len(p)), c.maximum, func(off, n int64) error {
		k := newCall("read", request{cmd: cmdRead, off: uint64(off), n: uint32(n)})
		k.into = p[off-start:][:n]
		return c.do(ctx, k, nil)
	})
}

// WriteAt implements Backend.
func (c *Client) WriteAt(ctx context.Context, p []byte, off int64, fua bool) error {
	start := off
	return c.durable(ctx, fua, func(flags uint16) error {
		return pieces(off, int64(len(p)), c.maximum, func(off, n int64) error {
			k := newCall("write", request{flags: flags, cmd: cmdWrite, off: uint64(off), n: uint32(n)})
			return c.do(ctx, k, p[off-start:][:n])
		})
	})
}

// durable carries out changes with FUA if that is wanted, or with a flush after them where the server has no FUA.
func (c *Client) durable(ctx context.Context, fua bool, change func(flags uint16) error) error {
	if fua && c.has(flagSendFUA) {
		return change(cmdFlagFUA)
	}
	err := change(0)
	if err == nil && fua {
		err = c.Flush(ctx)
	}
	return err
}

// Zero implements Backend. To servers that cannot zero, zeroes are written.
func (c *Client) Zero(ctx context.Context, off, n int64, mayTrim, fua bool) error {
	if !c.has(flagSendWriteZeroes) {
		return pieces(off, n, int64(len(zeros)), func(off, n int64) error { return c.WriteAt(ctx, zeros[:n], off, fua) })
	}
	return c.durable(ctx, fua, func(flags uint16) error {
		if !mayTrim {
			flags |= cmdFlagNoHole
		}
		return c.ranges(ctx, "zero", request{flags: flags, cmd: cmdWriteZeroes}, off, n)
	})
}

// Trim implements Backend. What is trimmed is undefined, unless the server says more; one that cannot trim is not asked.
func (c *Client) Trim(ctx context.Context, off, n int64, fua bool) error {
	if !c.has(flagSendTrim) {
		return nil
	}
	return c.durable(ctx, fua, func(flags uint16) error {
		return c.ranges(ctx, "trim", request{flags: flags, cmd: cmdTrim}, off, n)
	})
}

func (c *Client) ranges(ctx context.Context, op string, r request, off, n int64) error {
	return pieces(off, n, maxRange, func(off, n int64) error {
		r.off, r.n = uint64(off), uint32(n)
		return c.do(ctx, newCall(op, r), nil)
	})
}

// Flush implements Backend. A server without FLUSH has nothing that a flush would save.
func (c *Client) Flush(ctx context.Context) error {
	if !c.has(flagHasFlags) || !c.has(flagSendFlush) {
		return nil
	}
	return c.do(ctx, newCall("flush", request{cmd: cmdFlush}), nil)
}

// Extents implements Backend: what one request tells. A server without base:allocation has data everywhere.
func (c *Client) Extents(ctx context.Context, off, n int64, yield func(off, n int64, e Extent) bool) error {
	if !c.status {
		yield(off, n, 0)
		return nil
	}
	n = min(n, maxRange)
	k := newCall("block status", request{cmd: cmdBlockStatus, off: uint64(off), n: uint32(n)})
	if err := c.do(ctx, k, nil); err != nil {
		return err
	}
	for _, x := range k.extents {
		part := min(int64(x.n), n) // the last one may reach beyond the request
		if part == 0 || !yield(off, part, x.e) {
			return nil
		}
		off, n = off+part, n-part
	}
	return nil
}
