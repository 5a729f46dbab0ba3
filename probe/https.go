package probe

import (
	"bufio"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"
)

// sessions of earlier handshakes: a resumed one spares both sides the certificate's arithmetic. One cache serves all
// targets, since it is keyed by the target's address.
var sessions = sync.OnceValue(func() tls.ClientSessionCache { return tls.NewLRUClientSessionCache(256) })

// askHTTPS does not verify the certificate: it asks whether the target works, and tells it nothing.
func (a attempt) askHTTPS() *failure {
	raw, f := a.dial()
	if f != nil {
		return f
	}
	defer raw.close()
	c := tls.Client(netConn{raw}, &tls.Config{
		InsecureSkipVerify: true,
		ServerName:         a.Address.String(),
		ClientSessionCache: sessions(),
	})
	if err := c.SetDeadline(a.deadline); err != nil {
		return ioFailure(err)
	}
	if _, err := c.Write(request(a.Target)); err != nil {
		return ioFailure(err)
	}
	line, err := bufio.NewReaderSize(c, maxStatusLine).ReadSlice('\n')
	if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
		return ioFailure(err)
	}
	return judge(line)
}

// netConn is a conn as crypto/tls wants it.
type netConn struct{ c *conn }

func (n netConn) Read(b []byte) (int, error)         { return n.c.file.Read(b) }
func (n netConn) Write(b []byte) (int, error)        { return n.c.file.Write(b) }
func (n netConn) Close() error                       { return nil } // askHTTPS closes
func (n netConn) LocalAddr() net.Addr                { return nil }
func (n netConn) RemoteAddr() net.Addr               { return nil }
func (n netConn) SetDeadline(t time.Time) error      { return n.c.file.SetDeadline(t) }
func (n netConn) SetReadDeadline(t time.Time) error  { return n.c.file.SetReadDeadline(t) }
func (n netConn) SetWriteDeadline(t time.Time) error { return n.c.file.SetWriteDeadline(t) }
