package nbd

import (
	"context"
	"errors"
	"io"
	"net"
)

// session is one connection in the transmission phase. One goroutine runs it; nothing of it is shared but with its workers.
type session struct {
	answerer
	ctx  context.Context
	conn net.Conn
	in   *inbox
	out  []byte // replies that are not yet sent
	data scratch
	// ahead is how much may be read beyond a request's head: little after a long WRITE, so that the next one's payload is
	// read to where it belongs and not copied.
	ahead int
	// workers, if the export blocks; then nothing is held back in out.
	workers *workers
}

// longPayload is from where on a payload is read past the inbox.
const longPayload = 64 << 10

func newSession(ctx context.Context, conn net.Conn, in *inbox, a answerer) *session {
	s := &session{answerer: a, ctx: ctx, conn: conn, in: in, ahead: inboxSize, out: make([]byte, 0, inboxSize)}
	in.wait = s.flush
	return s
}

// run serves requests until the client leaves (nil), or the connection is broken or drained. Every request that came in whole
// before that is answered.
func (s *session) run() error {
	for {
		r, err := s.next()
		if err == nil && r.cmd == cmdDisc {
			err = io.EOF
		}
		if err == nil {
			err = s.serve(r)
		}
		if err != nil {
			if s.workers != nil {
				err = errors.Join(ignoreEOF(err), s.workers.wait())
			}
			return errors.Join(ignoreEOF(err), s.flush())
		}
	}
}

func ignoreEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

func (s *session) next() (request, error) {
	head, err := s.in.next(requestSize, s.ahead)
	if err != nil {
		return request{}, err
	}
	return decodeRequest(head)
}

// serve takes a request's payload and answers it, or lets a worker answer it.
func (s *session) serve(r request) error {
	payload, err := s.payload(r)
	if err != nil {
		return err
	}
	if s.workers != nil {
		return s.workers.hand(s, r, payload)
	}
	if r.cmd == cmdRead && r.n <= maxPayload && len(s.out)+int(r.n)+64 > cap(s.out) {
		if err := s.flush(); err != nil {
			return err
		}
	}
	s.out = s.answer(s.ctx, s.out, r, payload)
	if len(s.out) < inboxSize {
		return nil
	}
	return s.flush()
}

// payload lends the data of a WRITE. That of one which will be refused is dropped as it comes.
func (s *session) payload(r request) ([]byte, error) {
	n := r.payload()
	if n <= longPayload {
		s.ahead = inboxSize
	}
	if n == 0 {
		return nil, nil
	}
	if r.check(s.size, s.readOnly, s.structured, s.status) != nil {
		return nil, s.in.skip(n)
	}
	if n <= longPayload {
		return s.in.next(int(n), inboxSize)
	}
	s.ahead = 0
	s.data.trim()
	p := s.data.sized(int(n))
	return p, s.in.full(p)
}

// flush sends what is held back.
func (s *session) flush() error {
	if len(s.out) == 0 {
		return nil
	}
	_, err := s.conn.Write(s.out)
	s.out = s.out[:0]
	if cap(s.out) > scratchKeeps {
		s.out = make([]byte, 0, inboxSize)
	}
	return err
}
