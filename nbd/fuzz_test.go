package nbd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// script is a connection that plays what was recorded and swallows what is sent.
type script struct{ io.Reader }

func (script) Write(p []byte) (int, error)      { return len(p), nil }
func (script) Close() error                     { return nil }
func (script) LocalAddr() net.Addr              { return nil }
func (script) RemoteAddr() net.Addr             { return nil }
func (script) SetDeadline(time.Time) error      { return nil }
func (script) SetReadDeadline(time.Time) error  { return nil }
func (script) SetWriteDeadline(time.Time) error { return nil }

// strict is a disk that fails the test when it is asked for what it must not be.
type strict struct {
	t *testing.T
	*memory
}

func (s strict) check(off, n int64) {
	if off < 0 || n <= 0 || off > s.Size() || n > s.Size()-off || (off|n)%512 != 0 {
		s.t.Errorf("asked for %d bytes at %d of %d", n, off, s.Size())
	}
}

func (s strict) ReadAt(ctx context.Context, p []byte, off int64) error {
	s.check(off, int64(len(p)))
	return s.memory.ReadAt(ctx, p, off)
}

func (s strict) WriteAt(ctx context.Context, p []byte, off int64, fua bool) error {
	s.check(off, int64(len(p)))
	return s.memory.WriteAt(ctx, p, off, fua)
}

func (s strict) Zero(ctx context.Context, off, n int64, mayTrim, fua bool) error {
	s.check(off, n)
	return s.memory.Zero(ctx, off, n, mayTrim, fua)
}

func (s strict) Trim(ctx context.Context, off, n int64, fua bool) error {
	return s.Zero(ctx, off, n, true, fua)
}

func (s strict) Extents(ctx context.Context, off, n int64, yield func(off, n int64, e Extent) bool) error {
	s.check(off, n)
	return s.memory.Extents(ctx, off, n, yield)
}

// FuzzServer plays whole connections: handshake and requests.
func FuzzServer(f *testing.F) {
	greet := "\x00\x00\x00\x03"
	opt := func(n int, data string) string { return "IHAVEOPT" + u32(int64(n)) + u32(int64(len(data))) + data }
	req := func(flags, cmd int, off uint64, n int64) string {
		return string(request{uint16(flags), uint16(cmd), 1, off, uint32(n)}.append(nil))
	}
	start := greet + opt(optStructuredReply, "") + opt(optSetMetaContext, str("d")+u32(1)+str(contextAllocation)) + opt(optGo, str("d")+u16(1)+u16(3))
	f.Add([]byte(start+req(0, cmdWrite, 512, 512)+string(make([]byte, 512))+req(0, cmdRead, 0, 65536)+req(0, cmdBlockStatus, 0, 1<<20)+req(0, cmdDisc, 0, 0)), false)
	f.Add([]byte(start+req(cmdFlagNoHole, cmdWriteZeroes, 0, 1<<20)+req(cmdFlagFUA, cmdTrim, 512, 1024)+req(0, cmdFlush, 0, 0)+req(1, 99, 5, 1<<32-1)), true)
	f.Add([]byte(greet+opt(optList, "")+opt(optInfo, str("d")+u16(0))+opt(99, "?")+opt(optStartTLS, "")+"IHAVEOPT"+u32(1)+u32(1)+"d"+req(0, cmdRead, 0, 512)), false)
	f.Add([]byte(greet+opt(optListMetaContext, str("d")+u32(0))+opt(optAbort, "")), false)
	f.Fuzz(func(t *testing.T, in []byte, blocking bool) {
		s := NewServer(Config{})
		if err := s.Add(Export{Name: "d", Backend: strict{t, newMemory(1 << 20)}, Blocking: blocking}); err != nil {
			t.Fatal(err)
		}
		c := newConn(context.Background(), s, nil, script{bytes.NewReader(in)})
		if err := c.talk(); err == nil && len(in) < 4+16 {
			t.Errorf("%q was taken for a session", in)
		}
	})
}

// FuzzClient plays servers to a client. The first request has cookie 1.
func FuzzClient(f *testing.F) {
	ack := func(opt int) string { return u64(magicOptReply) + u32(int64(opt)) + u32(repAck) + u32(0) }
	rep := func(opt, kind int, data string) string {
		return u64(magicOptReply) + u32(int64(opt)) + u32(int64(kind)) + str(data)
	}
	hello := "NBDMAGICIHAVEOPT\x00\x03"
	start := hello + ack(optStructuredReply) + rep(optSetMetaContext, repMetaContext, u32(7)+contextAllocation) + ack(optSetMetaContext) +
		rep(optGo, repInfo, u16(infoExport)+u64(1<<20)+u16(0x1ff)) + rep(optGo, repInfo, u16(infoBlockSize)+u32(1)+u32(4096)+u32(1<<25)) + ack(optGo)
	chunk := func(flags, kind uint16, cookie uint64, data string) string {
		return string(appendChunk(nil, flags, kind, cookie, len(data))) + data
	}
	data := chunk(0, replyOffsetData, 1, u64(512)+string(make([]byte, 512)))
	f.Add([]byte(start+data+chunk(1, replyOffsetHole, 1, u64(1024)+u32(512))+chunk(1, replyBlockStatus, 2, u32(7)+u32(4096)+u32(3))), uint16(2))
	f.Add([]byte(start+chunk(0, replyErrorOffset, 1, u32(5)+u16(2)+"no"+u64(0))+chunk(1, replyNone, 1, "")), uint16(2))
	f.Add([]byte(start+chunk(1, replyOffsetData, 1, u64(1<<63)+"x")), uint16(8))
	f.Add([]byte(hello+rep(optStructuredReply, repErrUnsup, "")+rep(optGo, repErrUnsup, "")+u64(1<<20)+u16(1)+string(appendSimple(nil, 0, 1))+string(make([]byte, 1024))), uint16(2))
	f.Fuzz(func(t *testing.T, in []byte, sectors uint16) {
		conn := script{bytes.NewReader(in)}
		h := &greeting{conn: conn, in: newInbox(conn)}
		a, err := h.run(context.Background(), "", "d", nil)
		if err != nil {
			return
		}
		// The client receives before it asks, if it is let; so one call is put in its place first.
		c := &Client{agreement: a, conn: conn, in: h.in, sending: make(chan struct{}, 1), pending: map[uint64]*call{}, over: make(chan struct{})}
		guard := bytes.Repeat([]byte{0xee}, int(sectors)*512+128)
		read, status := newCall("read", request{cmd: cmdRead, off: 512, n: uint32(sectors) * 512, cookie: 1}), newCall("block status", request{cmd: cmdBlockStatus, n: 4096, cookie: 2})
		read.into = guard[64 : len(guard)-64]
		c.pending[1], c.pending[2], c.cookie = read, status, 2
		c.receive()
		if c.err == nil || !errors.Is(c.err, ErrDisconnected) && !errors.Is(c.err, ErrProtocol) {
			t.Errorf("ended with %v", c.err)
		}
		for _, b := range [][]byte{guard[:64], guard[len(guard)-64:]} {
			if !bytes.Equal(b, bytes.Repeat([]byte{0xee}, 64)) {
				t.Error("the client wrote outside of the caller's memory")
			}
		}
	})
}

func FuzzRequestCheck(f *testing.F) {
	f.Add(uint16(0), uint16(1), uint64(0), uint32(512), int64(1<<20))
	f.Fuzz(func(t *testing.T, flags, cmd uint16, off uint64, n uint32, size int64) {
		size = size & (1<<62 - 1) &^ 511
		r := request{flags, cmd, 9, off, n}
		back, err := decodeRequest(r.append(nil))
		if err != nil || back != r {
			t.Fatalf("%+v became %+v, %v", r, back, err)
		}
		if r.check(size, false, true, true) == nil && cmd != cmdFlush && (off > uint64(size) || uint64(n) > uint64(size)-off || n == 0) {
			t.Errorf("%+v was let through to %d bytes", r, size)
		}
		if binary.BigEndian.Uint32(r.append(nil)) != magicRequest {
			t.Error("magic")
		}
	})
}
