package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// sendStream keeps one TCP connection and writes a record a beat. When the connection breaks (reset, or nothing
// acknowledged for 20 s) that is recorded and a new one is made. again makes it drop the connection on purpose.
func sendStream(ctx context.Context, f Flow, record *sent, again <-chan struct{}) {
	for ctx.Err() == nil {
		conn, err := dialStream(ctx, f)
		if err != nil {
			select {
			case <-ctx.Done():
			case <-again:
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		if writeStream(ctx, conn, f, record, again) {
			record.addBreak(time.Now())
		}
		// A close with zero linger says RST, so that no half-open connection keeps the state of the pair busy.
		_ = conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
}

func dialStream(ctx context.Context, f Flow) (net.Conn, error) {
	d := net.Dialer{Timeout: time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(f.Local)}}
	conn, err := d.DialContext(ctx, "tcp4", fmt.Sprintf("%s:%d", f.Remote, f.Port))
	if err != nil {
		return nil, err
	}
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 20_000)
		})
	}
	return conn, nil
}

// writeStream writes until the connection breaks (true), or until it shall end.
func writeStream(ctx context.Context, conn net.Conn, f Flow, record *sent, again <-chan struct{}) (broke bool) {
	gone := make(chan struct{})
	go func() { // the far side never writes: a read returns when the connection broke
		defer close(gone)
		_, _ = conn.Read(make([]byte, 1))
	}()
	defer func() { conn.Close(); <-gone }()
	pace := newPace(f.Interval)
	b := make([]byte, frameSize)
	for pace.wait(ctx) {
		select {
		case <-again:
			return false
		case <-gone:
			return true
		default:
		}
		now := time.Now()
		frame{f.ID, record.add(now), now.UnixNano()}.put(b)
		_ = conn.SetWriteDeadline(time.Now().Add(20 * time.Second))
		if _, err := conn.Write(b); err != nil {
			return true
		}
	}
	return false
}

// receiveStreams accepts connections until l is closed and records what they carry.
func receiveStreams(ctx context.Context, l net.Listener, records map[uint16]*arrived) {
	done := make(chan struct{})
	open := 0
	defer func() {
		for range open {
			<-done
		}
	}()
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		open++
		go func() {
			defer func() { done <- struct{}{} }()
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			defer stop()
			defer conn.Close()
			b := make([]byte, frameSize)
			for {
				if _, err := io.ReadFull(conn, b); err != nil {
					return
				}
				if f, err := readFrame(b); err == nil && records[f.flow] != nil {
					records[f.flow].add(f, time.Now().UnixNano())
				}
			}
		}()
	}
}

func isClosed(err error) bool { return errors.Is(err, net.ErrClosed) }
