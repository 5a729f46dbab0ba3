package oracle

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

// logOf writes a log as the kernel does: entries of {sector, sectors, flags, data}.
func logOf(entries ...[]any) []byte {
	le := binary.LittleEndian
	b := le.AppendUint64(nil, superMagic)
	b = le.AppendUint64(b, superVersion)
	b = le.AppendUint64(b, uint64(len(entries)))
	b = le.AppendUint32(b, 512)
	pad := func() { b = append(b, make([]byte, (512-len(b)%512)%512)...) }
	pad()
	for _, e := range entries {
		data := e[3].([]byte)
		for _, v := range []int{e[0].(int), e[1].(int), e[2].(int), len(data)} {
			b = le.AppendUint64(b, uint64(v))
		}
		pad()
		b = append(b, data...)
	}
	return b
}

func TestReadLog(t *testing.T) {
	data := bytes.Repeat([]byte{7}, 1024)
	log := logOf([]any{4, 2, flagFUA, data}, []any{0, 0, flagMark, []byte{}}, []any{8, 100, flagDiscard, []byte{}}, []any{0, 0, flagFlush, []byte{}}, []any{1, 2, flagFlush, data})
	want := []string{"write [2048, +1024)", "zero [4096, +51200)", "flush", "flush", "write [512, +1024)"}
	var got []string
	for e, err := range ReadLog(bytes.NewReader(log)) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.String())
	}
	if len(got) != len(want) {
		t.Fatalf("read %v; want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("entry %d: %s; want %s", i, got[i], want[i])
		}
	}
	for _, bad := range [][]byte{nil, make([]byte, 512), log[:len(log)-1]} {
		var last error
		for _, err := range ReadLog(bytes.NewReader(bad)) {
			last = err
		}
		if !errors.Is(last, ErrLog) {
			t.Errorf("%d bytes: %v", len(bad), last)
		}
	}
}

func FuzzReadLog(f *testing.F) {
	f.Add(logOf([]any{4, 2, flagFUA, make([]byte, 1024)}, []any{0, 0, flagFlush, []byte{}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		for _, err := range ReadLog(bytes.NewReader(b)) {
			if n++; err != nil || n > 1000 {
				break
			}
		}
	})
}

// TestOrderOfOverlapping: the same writes in another order are told only where they overlap.
func TestOrderOfOverlapping(t *testing.T) {
	w := func(sector int, fill byte) []any { return []any{sector, 2, 0, bytes.Repeat([]byte{fill}, 1024)} }
	flush := []any{0, 0, flagFlush, []byte{}}
	total := func(mode Mode, a, b []byte) int {
		rep, err := Compare(ReadLog(bytes.NewReader(a)), ReadLog(bytes.NewReader(b)), 1<<20, mode)
		if err != nil {
			t.Fatal(err)
		}
		return rep.Total
	}
	if n := total(Flushed, logOf(w(0, 1), w(8, 2), flush), logOf(w(8, 2), w(0, 1), flush)); n != 0 {
		t.Errorf("writes apart, in another order: %d differences", n)
	}
	if n := total(Flushed, logOf(w(0, 1), w(1, 2), flush), logOf(w(1, 2), w(0, 1), flush)); n == 0 {
		t.Error("overlapping writes in another order: no difference")
	}
	late := logOf(w(0, 1), flush, w(8, 2), flush, w(9, 9), flush)
	early := logOf(w(0, 1), w(8, 2), flush, w(9, 9), flush)
	if n := total(Flushed, logOf(w(0, 1), w(8, 2), flush, w(16, 3), flush), logOf(w(0, 1), flush, w(8, 2), w(16, 3), flush)); n == 0 {
		t.Error("a write on the other side of a flush: no difference when none was overtaken")
	}
	if n := total(Overlapped, logOf(w(0, 1), w(8, 2), flush, w(16, 3), flush), logOf(w(0, 1), flush, w(8, 2), w(16, 3), flush)); n != 0 {
		t.Errorf("a write on the other side of a flush: %d differences when it may be", n)
	}
	if n := total(Exact, early, early); n != 0 || total(Exact, late, early) == 0 {
		t.Errorf("exact: %d differences from itself, or a flush that is missing is not seen", n)
	}
}
