package nbd

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"
)

// DialOptions of a client.
type DialOptions struct {
	// TLS, if set, is asked of the server before anything else; without it the connection fails. ServerName defaults to the
	// host of the address.
	TLS *tls.Config
	// Handshake is how long connecting and choosing the export may take in all. Default 30 s.
	Handshake time.Duration
}

// agreement is what a handshake came to.
type agreement struct {
	size       int64
	flags      uint16
	structured bool
	contextID  uint32 // of base:allocation
	status     bool   // base:allocation was agreed
	block      int64  // the smallest block, in bytes
	maximum    int64  // the longest READ or WRITE, in bytes
}

func (a agreement) has(flag uint16) bool { return a.flags&flag != 0 }

// Dial connects to an export. ctx is for connecting only. An export that is not there is ErrUnknownExport; a server that cannot be
// reached, or that hangs up, is ErrDisconnected.
func Dial(ctx context.Context, network, address, export string, opts DialOptions) (*Client, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(opts.Handshake, 30*time.Second))
	defer cancel()
	var d net.Dialer
	raw, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("nbd: %w: %w", ErrDisconnected, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	h := &greeting{conn: raw, in: newInbox(raw)}
	a, err := h.run(ctx, address, export, opts.TLS)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		err = errors.Join(err, ctx.Err())
		if !errors.Is(err, ErrProtocol) && !errors.Is(err, ErrUnknownExport) && !isRefusal(err) {
			err = fmt.Errorf("%w: %w", ErrDisconnected, err)
		}
		return nil, errors.Join(fmt.Errorf("nbd: %s: %w", URI(network, address, export), err), raw.Close())
	}
	return newClient(h.conn, h.in, a), nil
}

// greeting is the client's side of the handshake.
type greeting struct {
	conn net.Conn
	in   *inbox
}

// optionError is a server's refusal of an option.
type optionError struct {
	opt, kind uint32
	why       string
}

func (e *optionError) Error() string {
	return fmt.Sprintf("the server refuses option %d with error %d: %q", e.opt, e.kind&^(1<<31), e.why)
}

func (e *optionError) Is(target error) bool {
	return e.kind == repErrUnknown && target == ErrUnknownExport
}

func isRefusal(err error) bool {
	_, ok := errors.AsType[*optionError](err)
	return ok
}

func (g *greeting) run(ctx context.Context, address, export string, conf *tls.Config) (a agreement, err error) {
	if len(export) > maxName {
		return a, fmt.Errorf("%w: export name of %d bytes: want at most %d", ErrInvalid, len(export), maxName)
	}
	hello, err := g.in.next(18, 0)
	if err != nil {
		return a, err
	}
	flags := binary.BigEndian.Uint16(hello[16:])
	if binary.BigEndian.Uint64(hello) != magicServer || binary.BigEndian.Uint64(hello[8:]) != magicOption || flags&flagFixedNewstyle == 0 {
		return a, fmt.Errorf("%w: the server does not begin with a fixed newstyle handshake", ErrProtocol)
	}
	flags &= flagFixedNewstyle | flagNoZeroes
	if _, err := g.conn.Write(binary.BigEndian.AppendUint32(nil, uint32(flags))); err != nil {
		return a, err
	}
	if conf != nil {
		if err := g.startTLS(ctx, address, conf); err != nil {
			return a, err
		}
	}
	if err := g.contexts(&a, export); err != nil {
		return a, err
	}
	err = g.goTo(&a, export)
	if e, ok := errors.AsType[*optionError](err); ok && e.kind == repErrUnsup {
		err = g.exportName(&a, export, flags&flagNoZeroes != 0)
	}
	if err == nil {
		err = a.validate()
	}
	return a, err
}

func (g *greeting) startTLS(ctx context.Context, address string, conf *tls.Config) error {
	if err := g.ask(optStartTLS, nil, nil); err != nil {
		return err
	}
	// Replies are read without reading ahead: the buffer holds no plain text.
	conf = conf.Clone()
	if host, _, err := net.SplitHostPort(address); err == nil && conf.ServerName == "" {
		conf.ServerName = host
	}
	c := tls.Client(g.conn, conf)
	if err := c.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	g.conn, g.in.conn = c, c
	return nil
}

// contexts asks for structured replies and base:allocation; servers may have neither.
func (g *greeting) contexts(a *agreement, export string) error {
	if err := g.ask(optStructuredReply, nil, nil); err != nil {
		if isRefusal(err) {
			return nil
		}
		return err
	}
	a.structured = true
	b := appendString(nil, export)
	b = binary.BigEndian.AppendUint32(b, 1)
	b = appendString(b, contextAllocation)
	err := g.ask(optSetMetaContext, b, func(kind uint32, data []byte) error {
		if kind != repMetaContext || len(data) < 4 || string(data[4:]) != contextAllocation {
			return fmt.Errorf("%w: reply %d to SET_META_CONTEXT", ErrProtocol, kind)
		}
		a.status, a.contextID = true, binary.BigEndian.Uint32(data)
		return nil
	})
	if isRefusal(err) {
		return nil // GO says better what is wrong
	}
	return err
}

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

func (g *greeting) goTo(a *agreement, export string) error {
	b := appendString(nil, export)
	b = binary.BigEndian.AppendUint16(b, 1)
	b = binary.BigEndian.AppendUint16(b, infoBlockSize)
	seen := false
	err := g.ask(optGo, b, func(kind uint32, data []byte) error {
		if kind != repInfo || len(data) < 2 {
			return fmt.Errorf("%w: reply %d to GO", ErrProtocol, kind)
		}
		switch binary.BigEndian.Uint16(data) {
		case infoExport:
			if len(data) != 12 {
				return fmt.Errorf("%w: export information of %d bytes", ErrProtocol, len(data))
			}
			a.size, a.flags, seen = int64(binary.BigEndian.Uint64(data[2:])), binary.BigEndian.Uint16(data[10:]), true
		case infoBlockSize:
			if len(data) != 14 {
				return fmt.Errorf("%w: block sizes of %d bytes", ErrProtocol, len(data))
			}
			a.block, a.maximum = int64(binary.BigEndian.Uint32(data[2:])), int64(binary.BigEndian.Uint32(data[10:]))
		}
		return nil
	})
	if err == nil && !seen {
		return fmt.Errorf("%w: the server does not say what the export is", ErrProtocol)
	}
	return err
}

// exportName is the old way, for servers that do not know GO. They hang up on names they do not know.
func (g *greeting) exportName(a *agreement, export string, noZeroes bool) error {
	if err := g.send(optExportName, []byte(export)); err != nil {
		return err
	}
	n := 10 + 124
	if noZeroes {
		n = 10
	}
	b, err := g.in.next(n, 0)
	if err != nil {
		return err
	}
	a.size, a.flags = int64(binary.BigEndian.Uint64(b)), binary.BigEndian.Uint16(b[8:])
	return nil
}

func (g *greeting) send(opt uint32, data []byte) error {
	b := binary.BigEndian.AppendUint64(nil, magicOption)
	b = binary.BigEndian.AppendUint32(b, opt)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	_, err := g.conn.Write(append(b, data...))
	return err
}

// ask sends an option and takes replies until the server acknowledges or refuses it.
func (g *greeting) ask(opt uint32, data []byte, take func(kind uint32, data []byte) error) error {
	if err := g.send(opt, data); err != nil {
		return err
	}
	for {
		head, err := g.in.next(20, 0)
		if err != nil {
			return err
		}
		magic, of, kind := binary.BigEndian.Uint64(head), binary.BigEndian.Uint32(head[8:]), binary.BigEndian.Uint32(head[12:])
		n := binary.BigEndian.Uint32(head[16:])
		if magic != magicOptReply || of != opt || n > maxOption {
			return fmt.Errorf("%w: reply %d of %d bytes to option %d, for option %d", ErrProtocol, kind, n, of, opt)
		}
		body, err := g.in.next(int(n), 0)
		switch {
		case err != nil:
			return err
		case kind == repAck:
			return nil
		case kind&(1<<31) != 0:
			return &optionError{opt, kind, string(body[:min(len(body), maxName)])}
		case take == nil:
			return fmt.Errorf("%w: reply %d to option %d", ErrProtocol, kind, opt)
		}
		if err := take(kind, body); err != nil {
			return err
		}
	}
}

// validate what the server says, and fill in the defaults of "Block size constraints".
func (a *agreement) validate() error {
	a.block, a.maximum = cmp.Or(a.block, 1), cmp.Or(a.maximum, maxPayload)
	a.maximum = min(a.maximum, maxPayload) / sectorSize * sectorSize
	switch {
	case a.size < 0 || a.size > 1<<62 || a.size%sectorSize != 0:
		return fmt.Errorf("%w: size of %d bytes: want a multiple of %d", ErrNotSupported, uint64(a.size), sectorSize)
	case a.block > sectorSize:
		return fmt.Errorf("%w: smallest block of %d bytes: want at most %d", ErrNotSupported, a.block, sectorSize)
	case a.maximum < sectorSize:
		return fmt.Errorf("%w: longest request of %d bytes: want at least %d", ErrProtocol, a.maximum, sectorSize)
	}
	return nil
}
