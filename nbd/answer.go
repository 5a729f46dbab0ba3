package nbd

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
)

// answerer turns requests into backend calls, and their results into replies. It holds no state of a connection but what was
// agreed in the handshake, and is safe for concurrent use.
type answerer struct {
	disk       Backend
	size       int64
	readOnly   bool
	structured bool // structured replies were agreed
	status     bool // base:allocation was agreed
}

// answer carries out one request and appends its reply to dst. payload is the data of a WRITE, and nil if check refuses it.
func (a *answerer) answer(ctx context.Context, dst []byte, r request, payload []byte) []byte {
	if no := r.check(a.size, a.readOnly, a.structured, a.status); no != nil {
		return a.fail(dst, r, no.code, no.why)
	}
	start := len(dst)
	off, n, fua := int64(r.off), int64(r.n), r.has(cmdFlagFUA)
	var err error
	switch r.cmd {
	case cmdRead:
		dst, err = a.read(ctx, dst, r)
	case cmdBlockStatus:
		dst, err = a.blockStatus(ctx, dst, r)
	case cmdWrite:
		err = a.disk.WriteAt(ctx, payload, off, fua)
	case cmdFlush:
		err = a.disk.Flush(ctx)
	case cmdTrim:
		err = a.disk.Trim(ctx, off, n, fua)
	case cmdWriteZeroes:
		err = a.disk.Zero(ctx, off, n, !r.has(cmdFlagNoHole), fua)
	}
	switch {
	case err != nil:
		return a.fail(dst[:start], r, CodeOf(err), err.Error())
	case len(dst) > start:
		return dst // the reply carries data, and is written
	}
	// Simple even where structured replies were agreed, which only READ and BLOCK_STATUS must have: libnbd reads a simple reply with
	// one system call and a chunk with two.
	return appendSimple(dst, 0, r.cookie)
}

// fail appends a refusal: with words, where the client understands them.
func (a *answerer) fail(dst []byte, r request, code Code, why string) []byte {
	if !a.structured {
		if code == CodeEOVERFLOW {
			code = CodeEINVAL // only for structured replies
		}
		return appendSimple(dst, code, r.cookie)
	}
	why = why[:min(len(why), 1024)]
	dst = appendChunk(dst, replyFlagDone, replyError, r.cookie, 6+len(why))
	dst = binary.BigEndian.AppendUint32(dst, uint32(code))
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(why)))
	return append(dst, why...)
}

func appendSimple(b []byte, code Code, cookie uint64) []byte {
	b = binary.BigEndian.AppendUint32(b, magicSimple)
	b = binary.BigEndian.AppendUint32(b, uint32(code))
	return binary.BigEndian.AppendUint64(b, cookie)
}

func appendChunk(b []byte, flags, kind uint16, cookie uint64, n int) []byte {
	b = binary.BigEndian.AppendUint32(b, magicStructured)
	b = binary.BigEndian.AppendUint16(b, flags)
	b = binary.BigEndian.AppendUint16(b, kind)
	b = binary.BigEndian.AppendUint64(b, cookie)
	return binary.BigEndian.AppendUint32(b, uint32(n))
}

// Reads of at least holesFrom bytes are first asked about; zeroes of at least as many bytes are told instead of sent.
const holesFrom = 64 << 10

func (a *answerer) read(ctx context.Context, dst []byte, r request) ([]byte, error) {
	off, n := int64(r.off), int64(r.n)
	if !a.structured {
		return a.data(ctx, appendSimple(dst, 0, r.cookie), off, n)
	}
	if n < holesFrom || r.has(cmdFlagDF) {
		return a.dataChunk(ctx, dst, r, off, n, replyFlagDone)
	}
	return a.sparse(ctx, dst, r)
}

// data reads the disk straight into the reply.
func (a *answerer) data(ctx context.Context, dst []byte, off, n int64) ([]byte, error) {
	dst = slices.Grow(dst, int(n))
	start := len(dst)
	dst = dst[:start+int(n)]
	return dst, a.disk.ReadAt(ctx, dst[start:], off)
}

func (a *answerer) dataChunk(ctx context.Context, dst []byte, r request, off, n int64, flags uint16) ([]byte, error) {
	dst = appendChunk(dst, flags, replyOffsetData, r.cookie, 8+int(n))
	return a.data(ctx, binary.BigEndian.AppendUint64(dst, uint64(off)), off, n)
}

// sparse answers a read in chunks of data and of holes.
func (a *answerer) sparse(ctx context.Context, dst []byte, r request) ([]byte, error) {
	start, end := int64(r.off), int64(r.off)+int64(r.n) // start: what is not yet answered
	for at := start; at < end; {
		off, n, e, err := a.firstRun(ctx, at, end)
		if err != nil {
			return dst, err
		}
		at = off + n
		if e&Zeros == 0 || n < holesFrom {
			continue // data, with whatever follows
		}
		if off > start {
			if dst, err = a.dataChunk(ctx, dst, r, start, off-start, 0); err != nil {
				return dst, err
			}
		}
		done := uint16(0)
		if at == end {
			done = replyFlagDone
		}
		dst = appendChunk(dst, done, replyOffsetHole, r.cookie, 12)
		dst = binary.BigEndian.AppendUint64(dst, uint64(off))
		dst = binary.BigEndian.AppendUint32(dst, uint32(n))
		start = at
	}
	if start == end {
		return dst, nil
	}
	return a.dataChunk(ctx, dst, r, start, end-start, replyFlagDone)
}

var errNoExtents = errors.New("the disk's extents do not follow each other")

// firstRun joins the extents from at that are zero alike, or not.
func (a *answerer) firstRun(ctx context.Context, at, end int64) (off, n int64, e Extent, err error) {
	off = at
	err = a.disk.Extents(ctx, at, end-at, func(xoff, xn int64, x Extent) bool {
		if xoff != at || xn <= 0 {
			err = errNoExtents
			return false
		}
		if n > 0 && (x^e)&Zeros != 0 {
			return false
		}
		xn = min(xn, end-at)
		at, n, e = at+xn, n+xn, x
		return at < end
	})
	if err == nil && n == 0 {
		err = errNoExtents
	}
	return off, n, e, err
}

// blockStatus reports base:allocation from the request's offset, as far as the backend goes and the reply's limit allows.
func (a *answerer) blockStatus(ctx context.Context, dst []byte, r request) ([]byte, error) {
	head := len(dst)
	dst = appendChunk(dst, replyFlagDone, replyBlockStatus, r.cookie, 0) // the length follows
	body := len(dst)
	dst = binary.BigEndian.AppendUint32(dst, allocationID)
	at, end := int64(r.off), int64(r.off)+int64(r.n)
	limit := maxBlockExtents
	if r.has(cmdFlagReqOne) {
		limit = 1
	}
	extents, last := 0, Extent(0)
	var n uint32
	var bad error
	err := a.disk.Extents(ctx, at, end-at, func(xoff, xn int64, x Extent) bool {
		if xoff != at || xn <= 0 {
			bad = errNoExtents
			return false
		}
		xn = min(xn, end-at)
		at += xn
		if extents > 0 && x == last {
			n += uint32(xn)
			binary.BigEndian.PutUint32(dst[len(dst)-8:], n)
			return at < end
		}
		if extents == limit {
			return false
		}
		n, last = uint32(xn), x
		extents++
		dst = binary.BigEndian.AppendUint32(dst, n)
		dst = binary.BigEndian.AppendUint32(dst, uint32(x))
		return at < end
	})
	if err == nil && extents == 0 {
		bad = errNoExtents
	}
	binary.BigEndian.PutUint32(dst[head+structuredSize-4:], uint32(len(dst)-body))
	return dst, errors.Join(err, bad)
}
