package probe

import (
	"errors"
	"io"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// conn is a TCP connection on a bare socket: package net would say "timeout" for an answer that is there but was not
// fetched in time.
type conn struct {
	file *os.File
	raw  syscall.RawConn
}

// dial connects. Closing the connection resets it.
func (a attempt) dial() (*conn, *failure) {
	c, err := begin(a.Address)
	if err != nil {
		own := !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EHOSTUNREACH)
		return nil, &failure{err: err, own: own, reset: isReset(err)}
	}
	a.opened(c)
	if err := c.await(c.raw.Write, c.file.SetWriteDeadline, a.deadline, connected); err != nil {
		c.close()
		return nil, ioFailure(err)
	}
	return c, nil
}

// begin starts to connect. What fails here at once is mostly this host's doing.
func begin(to netip.AddrPort) (*conn, error) {
	family, sa := sockaddr(to)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	err = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // or TLS waits 40 ms for an acknowledgement
	}
	if err == nil {
		err = unix.Connect(fd, sa)
	}
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("connect", err)
	}
	f := os.NewFile(uintptr(fd), "probe")
	raw, err := f.SyscallConn()
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &conn{f, raw}, nil
}

func sockaddr(to netip.AddrPort) (family int, sa unix.Sockaddr) {
	if ip := to.Addr().Unmap(); ip.Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(to.Port()), Addr: ip.As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
}

// connected asks how connecting went.
func connected(fd int) (done bool, err error) {
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return true, err
	}
	if code != 0 {
		return true, os.NewSyscallError("connect", unix.Errno(code))
	}
	_, err = unix.Getpeername(fd)
	return err == nil, nil
}

func (c *conn) write(b []byte, deadline time.Time) *failure {
	err := c.await(c.raw.Write, c.file.SetWriteDeadline, deadline, func(fd int) (bool, error) {
		n, err := unix.Write(fd, b)
		if n > 0 {
			b = b[n:]
		}
		return len(b) == 0 || final(err), err
	})
	return ioFailure(err)
}

func (c *conn) read(b []byte, deadline time.Time) (n int, f *failure) {
	err := c.await(c.raw.Read, c.file.SetReadDeadline, deadline, func(fd int) (bool, error) {
		var err error
		if n, err = unix.Read(fd, b); err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		return n > 0 || final(err), err
	})
	return n, ioFailure(err)
}

// final tells errors from "not yet".
func final(err error) bool {
	return err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR)
}

// await tries op whenever the socket is ready, until it is done or the deadline is over; then once more, so that what came
// in time is not missed because this process was late.
func (c *conn) await(ready func(func(uintptr) bool) error, limit func(time.Time) error, deadline time.Time, op func(fd int) (bool, error)) error {
	var opErr error
	done := false
	try := func(fd uintptr) bool {
		done, opErr = op(int(fd))
		return done
	}
	if err := limit(deadline); err != nil {
		return err
	}
	err := ready(try)
	if errors.Is(err, os.ErrDeadlineExceeded) && !done {
		if lerr := limit(time.Time{}); lerr != nil {
			return lerr
		}
		if cerr := c.raw.Control(func(fd uintptr) { try(fd) }); cerr != nil {
			return cerr
		}
	}
	if done {
		return opErr
	}
	return err
}

func (c *conn) close() { _ = c.file.Close() }

func isReset(err error) bool {
	return errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE)
}

var errTimeout = errors.New("no answer in time")

func ioFailure(err error) *failure {
	if err == nil {
		return nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = errTimeout
	}
	return &failure{err: err, reset: isReset(err)}
}
