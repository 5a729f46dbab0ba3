package nbd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// raw is a client without manners.
type raw struct {
	t    testing.TB
	conn net.Conn
}

func dialRaw(t testing.TB, path string) *raw {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	r := &raw{t, c}
	if hello := r.read(18); string(hello) != "NBDMAGICIHAVEOPT\x00\x03" {
		t.Fatalf("hello %q", hello)
	}
	r.write("\x00\x00\x00\x03")
	return r
}

func (r *raw) write(s string) {
	r.t.Helper()
	if _, err := io.WriteString(r.conn, s); err != nil {
		r.t.Fatal(err)
	}
}

func (r *raw) read(n int) []byte {
	r.t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(r.conn, b); err != nil {
		r.t.Fatal(err)
	}
	return b
}

func u16(n int) string    { return string(binary.BigEndian.AppendUint16(nil, uint16(n))) }
func u32(n int64) string  { return string(binary.BigEndian.AppendUint32(nil, uint32(n))) }
func u64(n uint64) string { return string(binary.BigEndian.AppendUint64(nil, n)) }
func str(s string) string { return u32(int64(len(s))) + s }

// option sends an option and gives the kinds of the replies up to the last one.
func (r *raw) option(opt int, data string) (kinds []uint32, bodies []string) {
	r.t.Helper()
	r.write("IHAVEOPT" + u32(int64(opt)) + u32(int64(len(data))) + data)
	for {
		head := r.read(20)
		if got := binary.BigEndian.Uint32(head[8:]); binary.BigEndian.Uint64(head) != magicOptReply || got != uint32(opt) {
			r.t.Fatalf("reply %x to option %d", head, opt)
		}
		kind := binary.BigEndian.Uint32(head[12:])
		kinds = append(kinds, kind)
		bodies = append(bodies, string(r.read(int(binary.BigEndian.Uint32(head[16:])))))
		if kind == repAck || kind&(1<<31) != 0 {
			return kinds, bodies
		}
	}
}

// gone fails unless the server hangs up.
func (r *raw) gone() {
	r.t.Helper()
	if rest, err := io.ReadAll(r.conn); len(rest) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		r.t.Fatalf("the server did not hang up: %x, %v", rest, err)
	}
}

func TestOptionsAreAnsweredAsTheProtocolSays(t *testing.T) {
	_, path := serve(t, Config{}, Export{Name: "a", Description: "first", Backend: newMemory(1 << 20)}, Export{Name: "b", Backend: newMemory(4096)})
	base := str(contextAllocation)
	for _, c := range []struct {
		name string
		opt  int
		data string
		want string // kinds of the replies
		body string // of the first one
	}{
		{"unknown", 77, "xyz", "!1", ""},
		{"extended headers", 11, "", "!1", ""},
		{"starttls", optStartTLS, "", "!1", ""},
		{"starttls with data", optStartTLS, "x", "!3", ""},
		{"list", optList, "", "2 2 1", str("a") + "first"},
		{"list with data", optList, "x", "!3", ""},
		{"structured with data", optStructuredReply, "x", "!3", ""},
		{"info", optInfo, str("a") + u16(0), "3 3 1", u16(infoExport) + u64(1<<20) + u16(0x16d)},
		{"info, everything", optInfo, str("a") + u16(5) + u16(0) + u16(1) + u16(2) + u16(3) + u16(99), "3 3 3 3 1", ""},
		{"info of none", optInfo, str("c") + u16(0), "!6", ""},
		{"info of the default among two", optInfo, str("") + u16(0), "!6", ""},
		{"info, short", optInfo, "\x00\x00", "!3", ""},
		{"info, long name", optInfo, u32(1<<31) + "abc", "!3", ""},
		{"info, name beyond", optInfo, u32(9) + "abc" + u16(0), "!3", ""},
		{"info, requests beyond", optInfo, str("a") + u16(9) + u16(1), "!3", ""},
		{"info, rest", optInfo, str("a") + u16(0) + "x", "!3", ""},
		{"go for none", optGo, str("c") + u16(0), "!6", ""},
		{"context before structured", optSetMetaContext, str("a") + u32(1) + base, "!3", ""},
		{"too big", optList, strings.Repeat("x", maxOption+1), "!9", ""},
		{"structured", optStructuredReply, "", "1", ""},
		{"contexts", optListMetaContext, str("a") + u32(0), "4 1", u32(0) + contextAllocation},
		{"contexts of a namespace", optListMetaContext, str("a") + u32(1) + str("base:"), "4 1", ""},
		{"contexts of another namespace", optListMetaContext, str("a") + u32(1) + str("qemu:"), "1", ""},
		{"contexts of none", optListMetaContext, str("c") + u32(0), "!6", ""},
		{"set context", optSetMetaContext, str("a") + u32(2) + str("x:y") + base, "4 1", u32(1) + contextAllocation},
		{"set wildcard", optSetMetaContext, str("a") + u32(1) + str("base:"), "1", ""},
		{"set context, count beyond", optSetMetaContext, str("a") + u32(1<<31) + base, "!3", ""},
		{"abort", optAbort, "", "1", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := dialRaw(t, path)
			if strings.Contains(c.name, "contexts") || c.name[:3] == "set" {
				r.option(optStructuredReply, "")
			}
			kinds, bodies := r.option(c.opt, c.data)
			var got []string
			for _, k := range kinds {
				got = append(got, strings.Replace(fmt.Sprint(k&^(1<<31)), "", map[bool]string{true: "!"}[k&(1<<31) != 0], 1))
			}
			if s := strings.Join(got, " "); s != c.want || c.body != "" && bodies[0] != c.body {
				t.Errorf("replies %s, first %q: want %s, %q", s, bodies[0], c.want, c.body)
			}
			if c.opt == optAbort {
				r.gone()
				return
			}
			if kinds, _ := r.option(optGo, str("a")+u16(0)); kinds[len(kinds)-1] != repAck { // it goes on
				t.Errorf("GO afterwards: %d", kinds)
			}
		})
	}
}

func TestWhatIsNoHandshakeIsHungUpOn(t *testing.T) {
	_, path := serve(t, Config{}, Export{Name: "a", Backend: newMemory(1 << 20)}, Export{Name: "b", Backend: newMemory(4096)})
	for name, s := range map[string]string{
		"option magic":       "IHAVEOPX" + u32(optList) + u32(0),
		"unknown export":     "IHAVEOPT" + u32(optExportName) + u32(1) + "z",
		"longer than memory": "IHAVEOPT" + u32(optList) + u32(1<<32-1),
	} {
		t.Run(name, func(t *testing.T) {
			r := dialRaw(t, path)
			r.write(s)
			r.gone()
		})
	}
	t.Run("client flags", func(t *testing.T) {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		r := &raw{t, c}
		r.read(18)
		r.write(u32(0x80))
		r.gone()
	})
}

// request sends one and gives the error of its reply, simple or structured, and the data.
func (r *raw) request(flags, cmd int, off uint64, n int64, payload []byte) (Code, []byte) {
	r.t.Helper()
	r.write(string(request{uint16(flags), uint16(cmd), 0x1122334455667788, off, uint32(n)}.append(nil)) + string(payload))
	switch magic := binary.BigEndian.Uint32(r.read(4)); magic {
	case magicSimple:
		b := r.read(12)
		if binary.BigEndian.Uint64(b[4:]) != 0x1122334455667788 {
			r.t.Fatalf("cookie %x", b[4:])
		}
		code := Code(binary.BigEndian.Uint32(b))
		if cmd == cmdRead && code == 0 {
			return 0, r.read(int(n))
		}
		return code, nil
	case magicStructured:
		b := r.read(16)
		body := r.read(int(binary.BigEndian.Uint32(b[12:])))
		if b[1]&replyFlagDone == 0 {
			r.t.Fatal("more than one chunk")
		}
		if binary.BigEndian.Uint16(b[2:]) == replyError {
			if want := int(binary.BigEndian.Uint16(body[4:])); want == 0 || want != len(body)-6 {
				r.t.Fatalf("words of %d in %d", want, len(body))
			}
			return Code(binary.BigEndian.Uint32(body)), nil
		}
		if len(body) == 0 {
			r.t.Fatal("a chunk without data: want a simple reply, which clients read at once")
		}
		return 0, body
	default:
		r.t.Fatalf("reply magic %#x", magic)
		return 0, nil
	}
}

func TestRequestsAreRefusedAsTheProtocolSays(t *testing.T) {
	const size = 64 << 20
	m := newMemory(size)
	_, path := serve(t, Config{}, Export{Name: "rw", Backend: m}, Export{Name: "ro", Backend: m, ReadOnly: true}, Export{Name: "slow", Backend: m, Blocking: true})
	for _, structured := range []bool{false, true} {
		for _, export := range []string{"rw", "ro", "slow"} {
			t.Run(fmt.Sprintf("%s/structured=%v", export, structured), func(t *testing.T) {
				r := dialRaw(t, path)
				dfOrStatus := CodeEINVAL
				if structured {
					r.option(optStructuredReply, "")
					r.option(optSetMetaContext, str(export)+u32(1)+str(contextAllocation))
					dfOrStatus = 0
				}
				r.option(optGo, str(export)+u16(0))
				sector, big := make([]byte, 512), make([]byte, maxPayload+512)
				for _, c := range []struct {
					name       string
					flags, cmd int
					off        uint64
					n          int64
					payload    []byte
					want       Code
				}{
					{"read", 0, cmdRead, size - 512, 512, nil, 0},
					{"read beyond", 0, cmdRead, size, 512, nil, CodeEINVAL},
					{"read across the end", 0, cmdRead, size - 512, 1024, nil, CodeEINVAL},
					{"read that wraps", 0, cmdRead, 1<<64 - 512, 1024, nil, CodeEINVAL},
					{"read nothing", 0, cmdRead, 0, 0, nil, CodeEINVAL},
					{"read too much", 0, cmdRead, 0, maxPayload + 512, nil, CodeEINVAL},
					{"read 4 GiB", 0, cmdRead, 0, 1<<32 - 512, nil, CodeEINVAL},
					{"read misaligned", 0, cmdRead, 1, 512, nil, CodeEINVAL},
					{"read a part", 0, cmdRead, 0, 511, nil, CodeEINVAL},
					{"read with fua", cmdFlagFUA, cmdRead, 0, 512, nil, 0},
					{"read, no hole", cmdFlagNoHole, cmdRead, 0, 512, nil, CodeEINVAL},
					{"read, df", cmdFlagDF, cmdRead, 0, 512, nil, dfOrStatus},
					{"write", 0, cmdWrite, 0, 512, sector, 0},
					{"write, fua", cmdFlagFUA, cmdWrite, 0, 512, sector, 0},
					{"write beyond", 0, cmdWrite, size, 512, sector, CodeENOSPC},
					{"write misaligned", 0, cmdWrite, 100, 512, sector, CodeEINVAL},
					{"write too much", 0, cmdWrite, 0, maxPayload + 512, big, CodeEINVAL},
					{"write with df", cmdFlagDF, cmdWrite, 0, 512, sector, CodeEINVAL},
					{"zero", 0, cmdWriteZeroes, 0, size, nil, 0},
					{"zero, no hole, fua", cmdFlagNoHole | cmdFlagFUA, cmdWriteZeroes, 0, 512, nil, 0},
					{"zero fast", 1 << 4, cmdWriteZeroes, 0, 512, nil, CodeEINVAL},
					{"zero beyond", 0, cmdWriteZeroes, 0, size + 512, nil, CodeENOSPC},
					{"trim", 0, cmdTrim, 0, size, nil, 0},
					{"trim beyond", 0, cmdTrim, 512, size, nil, CodeEINVAL},
					{"flush", 0, cmdFlush, 0, 0, nil, 0},
					{"flush a range", 0, cmdFlush, 0, 512, nil, CodeEINVAL},
					{"status", cmdFlagReqOne, cmdBlockStatus, 0, size, nil, dfOrStatus},
					{"status of nothing", 0, cmdBlockStatus, 0, 0, nil, CodeEINVAL},
					{"cache", 0, 5, 0, 512, nil, CodeEINVAL},
					{"resize", 0, 8, 0, 512, nil, CodeEINVAL},
					{"unknown", 0, 4711, 0, 512, nil, CodeEINVAL},
				} {
					want := c.want
					if export == "ro" && (c.cmd == cmdWrite || c.cmd == cmdTrim || c.cmd == cmdWriteZeroes) {
						want = CodeEPERM
					}
					if got, _ := r.request(c.flags, c.cmd, c.off, c.n, c.payload); got != want {
						t.Errorf("%s: %v, want %v", c.name, got, want)
					}
				}
				r.write(string(request{cmd: cmdDisc}.append(nil)))
				r.gone()
			})
		}
	}
	r := dialRaw(t, path)
	r.option(optGo, str("rw")+u16(0))
	r.write(strings.Repeat("x", 28))
	r.gone()
}

func TestOldWayToChooseAnExport(t *testing.T) {
	m := newMemory(1 << 20)
	copy(m.b, "hello")
	_, path := serve(t, Config{}, Export{Name: "only", Backend: m})
	r := dialRaw(t, path)
	r.write("IHAVEOPT" + u32(optExportName) + u32(0)) // the default is the only one
	if got, want := r.read(10), []byte(u64(1<<20)+u16(0x16d)); !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
	if code, b := r.request(0, cmdRead, 0, 512, nil); code != 0 || string(b[:5]) != "hello" {
		t.Errorf("read: %v %q", code, b)
	}
}
