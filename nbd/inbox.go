package nbd

import (
	"io"
	"net"
)

const inboxSize = 256 << 10

// inbox reads a connection through one large buffer, and lends out what lies in it.
type inbox struct {
	conn net.Conn
	buf  []byte
	r, w int
	// wait, if set, is called before every read that may block: the moment to send what is held back.
	wait func() error
}

func newInbox(c net.Conn) *inbox { return &inbox{conn: c, buf: make([]byte, inboxSize)} }

func (b *inbox) buffered() int { return b.w - b.r }

// next lends the next n bytes, at most inboxSize, until the following call. It reads up to n+ahead bytes if it has to read.
func (b *inbox) next(n, ahead int) ([]byte, error) {
	if b.buffered() == 0 {
		b.r, b.w = 0, 0
	} else if b.r+n > len(b.buf) {
		b.w = copy(b.buf, b.buf[b.r:b.w])
		b.r = 0
	}
	for b.buffered() < n {
		got, err := b.read(b.buf[b.w:min(len(b.buf), b.r+n+ahead)])
		b.w += got
		if b.buffered() >= n {
			break
		}
		if err != nil {
			if err == io.EOF && b.buffered() > 0 {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	p := b.buf[b.r : b.r+n : b.r+n]
	b.r += n
	return p, nil
}

// full fills p: first from the buffer, then from the connection.
func (b *inbox) full(p []byte) error {
	n := copy(p, b.buf[b.r:b.w])
	b.r += n
	for n < len(p) {
		got, err := b.read(p[n:])
		n += got
		if err != nil && n < len(p) {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// skip drops n bytes, however many, without memory for them.
func (b *inbox) skip(n int64) error {
	for n > 0 {
		part := int(min(n, inboxSize))
		if _, err := b.next(part, 0); err != nil {
			return err
		}
		n -= int64(part)
	}
	return nil
}

func (b *inbox) read(p []byte) (int, error) {
	if b.wait != nil {
		if err := b.wait(); err != nil {
			return 0, err
		}
	}
	return b.conn.Read(p)
}

// scratch is a buffer that is used again and again, grows to what is needed, and forgets its largest sizes.
type scratch struct{ b []byte }

const scratchKeeps = 2 << 20

// sized gives n bytes of undefined content; what it gave before is no longer valid.
func (s *scratch) sized(n int) []byte {
	if cap(s.b) < n {
		s.b = make([]byte, roundUp(n, 64<<10))
	}
	return s.b[:n]
}

// trim lets go of a buffer that was needed for an unusually large request only.
func (s *scratch) trim() {
	if cap(s.b) > scratchKeeps {
		s.b = nil
	}
}

func roundUp(n, to int) int { return (n + to - 1) / to * to }
