package nbd

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
)

// handshake is the server's side of the option haggling ("Newstyle negotiation", fixed).
type handshake struct {
	conn net.Conn
	in   *inbox
	tls  *tls.Config // not nil: nothing but STARTTLS is served until TLS runs ("FORCEDTLS mode")
	find func(name string) *export
	list func() []Export

	secure     bool
	noZeroes   bool
	structured bool
	// context is the export for which base:allocation was chosen; nil: for none.
	context *string
}

// errGone: the client ended the handshake in an orderly way.
var errGone = errors.New("the client left")

// run talks until the client has chosen an export, which it returns; the session starts with the next byte.
func (h *handshake) run(ctx context.Context) (*export, error) {
	hello := binary.BigEndian.AppendUint64(nil, magicServer)
	hello = binary.BigEndian.AppendUint64(hello, magicOption)
	hello = binary.BigEndian.AppendUint16(hello, flagFixedNewstyle|flagNoZeroes)
	if _, err := h.conn.Write(hello); err != nil {
		return nil, err
	}
	b, err := h.in.next(4, 0)
	if err != nil {
		return nil, err
	}
	flags := binary.BigEndian.Uint32(b)
	if flags&^(flagFixedNewstyle|flagNoZeroes) != 0 {
		return nil, fmt.Errorf("%w: client flags %#x: want a subset of %#x", ErrProtocol, flags, flagFixedNewstyle|flagNoZeroes)
	}
	h.noZeroes = flags&flagNoZeroes != 0
	for {
		opt, data, err := h.option()
		if err != nil {
			return nil, err
		}
		if e, err := h.serve(ctx, opt, data); e != nil || err != nil {
			return e, err
		}
	}
}

// option reads one option. Options that are too long to be meant are refused here, and the next one is read.
func (h *handshake) option() (opt uint32, data []byte, err error) {
	for {
		head, err := h.in.next(16, 0)
		if err != nil {
			return 0, nil, err
		}
		if magic := binary.BigEndian.Uint64(head); magic != magicOption {
			return 0, nil, fmt.Errorf("%w: option magic %#x", ErrProtocol, magic)
		}
		opt = binary.BigEndian.Uint32(head[8:])
		n := binary.BigEndian.Uint32(head[12:])
		if n <= maxOption {
			data, err = h.in.next(int(n), 0)
			return opt, data, err
		}
		if opt == optExportName || n > maxPayload {
			return 0, nil, fmt.Errorf("%w: option %d of %d bytes", ErrProtocol, opt, n)
		}
		if err := errors.Join(h.in.skip(int64(n)), h.reply(opt, repErrTooBig, []byte("the option is too long"))); err != nil {
			return 0, nil, err
		}
	}
}

// serve answers one option; with an export the handshake is over.
func (h *handshake) serve(ctx context.Context, opt uint32, data []byte) (*export, error) {
	if h.tls != nil && !h.secure && opt != optStartTLS && opt != optAbort {
		if opt == optExportName {
			return nil, fmt.Errorf("%w: EXPORT_NAME before TLS", ErrProtocol)
		}
		return nil, h.refuse(opt, repErrTLSReqd, "this server wants TLS: send STARTTLS first")
	}
	switch opt {
	case optExportName:
		return h.exportName(string(data))
	case optGo, optInfo:
		return h.info(opt, data)
	case optAbort:
		return nil, errors.Join(errGone, h.reply(opt, repAck, nil))
	}
	if (opt == optStartTLS || opt == optStructuredReply || opt == optList) && len(data) > 0 {
		return nil, h.refuse(opt, repErrInvalid, "the option takes no data")
	}
	switch opt {
	case optStartTLS:
		return nil, h.startTLS(ctx)
	case optStructuredReply:
		h.structured = true
		return nil, h.reply(opt, repAck, nil)
	case optList:
		return nil, h.listExports()
	case optListMetaContext, optSetMetaContext:
		return nil, h.metaContext(opt, data)
	}
	return nil, h.refuse(opt, repErrUnsup, "this server does not know the option")
}

// startTLS goes on encrypted. Whatever was agreed in plain text is forgotten. Options are read without reading ahead, so that nothing
// sent in plain text behind STARTTLS is taken as encrypted: it fails as TLS.
func (h *handshake) startTLS(ctx context.Context) error {
	if h.tls == nil {
		return h.refuse(optStartTLS, repErrUnsup, "this server has no TLS")
	}
	if h.secure {
		return h.refuse(optStartTLS, repErrInvalid, "TLS runs already")
	}
	if err := h.reply(optStartTLS, repAck, nil); err != nil {
		return err
	}
	c := tls.Server(h.conn, h.tls)
	if err := c.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	h.conn, h.in.conn = c, c
	h.secure, h.structured, h.context = true, false, nil
	return nil
}

func (h *handshake) listExports() error {
	for _, e := range h.list() {
		b := binary.BigEndian.AppendUint32(nil, uint32(len(e.Name)))
		if err := h.reply(optList, repServer, append(append(b, e.Name...), e.Description...)); err != nil {
			return err
		}
	}
	return h.reply(optList, repAck, nil)
}

// exportName is the old way to choose an export: it has no way to refuse but to hang up.
func (h *handshake) exportName(name string) (*export, error) {
	e := h.find(name)
	if e == nil {
		return nil, fmt.Errorf("export %q: %w", name, ErrUnknownExport)
	}
	b := binary.BigEndian.AppendUint64(nil, uint64(e.Backend.Size()))
	b = binary.BigEndian.AppendUint16(b, e.flags(h.structured))
	if !h.noZeroes {
		b = append(b, make([]byte, 124)...)
	}
	h.settle(name)
	_, err := h.conn.Write(b)
	return e, err
}

// info answers INFO and GO: what the export is, and for GO the end of the handshake.
func (h *handshake) info(opt uint32, data []byte) (*export, error) {
	f := fields{data}
	name, ok := f.str()
	requests, ok2 := f.uint16s()
	if !ok || !ok2 || len(f.b) > 0 {
		return nil, h.refuse(opt, repErrInvalid, "the option is malformed")
	}
	e := h.find(name)
	if e == nil {
		return nil, h.refuse(opt, repErrUnknown, fmt.Sprintf("there is no export %q", name))
	}
	b := binary.BigEndian.AppendUint16(nil, infoExport)
	b = binary.BigEndian.AppendUint64(b, uint64(e.Backend.Size()))
	b = binary.BigEndian.AppendUint16(b, e.flags(h.structured))
	err := h.reply(opt, repInfo, b)
	for _, r := range requests {
		switch r {
		case infoName:
			b = append(binary.BigEndian.AppendUint16(nil, r), e.Name...)
		case infoDescription:
			b = append(binary.BigEndian.AppendUint16(nil, r), e.Description...)
		default:
			continue // export was sent, block size will be, others are unknown
		}
		err = errors.Join(err, h.reply(opt, repInfo, b))
	}
	b = binary.BigEndian.AppendUint16(nil, infoBlockSize)
	for _, size := range []uint32{sectorSize, preferredSize, maxPayload} {
		b = binary.BigEndian.AppendUint32(b, size)
	}
	if err = errors.Join(err, h.reply(opt, repInfo, b), h.reply(opt, repAck, nil)); err != nil || opt == optInfo {
		return nil, err
	}
	h.settle(name)
	return e, nil
}

// settle drops a metadata context that was chosen for another export than the one that is used.
func (h *handshake) settle(name string) {
	if h.context != nil && *h.context != name {
		h.context = nil
	}
}

func (h *handshake) reply(opt, kind uint32, data []byte) error {
	b := make([]byte, 0, 20+len(data))
	b = binary.BigEndian.AppendUint64(b, magicOptReply)
	b = binary.BigEndian.AppendUint32(b, opt)
	b = binary.BigEndian.AppendUint32(b, kind)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	_, err := h.conn.Write(append(b, data...))
	return err
}

func (h *handshake) refuse(opt, kind uint32, why string) error {
	return h.reply(opt, kind, []byte(why[:min(len(why), maxName)]))
}
