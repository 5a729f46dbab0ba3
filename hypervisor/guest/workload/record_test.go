package workload

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestRecordsAreRecognised(t *testing.T) {
	b := encodeRecord(7, 42)
	if n, at, ok := decodeRecord(b); n != 7 || at != 42 || !ok {
		t.Fatal(n, at, ok)
	}
	for _, i := range []int{0, 9, 17, 100, RecordSize - 1} {
		b[i] ^= 1
		if _, _, ok := decodeRecord(b); ok {
			t.Errorf("a flipped bit in byte %d passed", i)
		}
		b[i] ^= 1
	}
}

func TestJudge(t *testing.T) {
	fill := func(last uint64, slots int) []slotState {
		out := make([]slotState, slots)
		for n := uint64(1); n <= last; n++ {
			out[n%uint64(slots)].n = n
		}
		return out
	}
	for _, last := range []uint64{0, 1, 7, 8, 9, 30} {
		if got, wrong := judge(fill(last, 8)); got != last || wrong != "" {
			t.Errorf("last %d: %d, %s", last, got, wrong)
		}
		torn := fill(last, 8)
		torn[(last+1)%8] = slotState{torn: true}
		if got, wrong := judge(torn); got != last || wrong != "" {
			t.Errorf("last %d, torn after it: %d, %s", last, got, wrong)
		}
		if last == 0 {
			continue
		}
		lost := fill(last+2, 8) // an acknowledged record in the middle is gone
		lost[(last+1)%8] = slotState{torn: true}
		if _, wrong := judge(lost); wrong == "" {
			t.Errorf("last %d: a lost record passed", last+2)
		}
		old := fill(last+2, 8)
		old[(last+1)%8] = slotState{n: last}
		if _, wrong := judge(old); wrong == "" {
			t.Errorf("last %d: a record in another's place passed", last+2)
		}
	}
}

func TestVolumesMustAgree(t *testing.T) {
	for _, c := range []struct {
		lasts []uint64
		good  bool
	}{{[]uint64{5}, true}, {[]uint64{5, 5}, true}, {[]uint64{6, 5}, true}, {[]uint64{6, 6, 5}, true}, {[]uint64{7, 5}, false}, {[]uint64{5, 6}, false}, {[]uint64{6, 5, 4}, false}} {
		var vs []*volume
		for _, l := range c.lasts {
			vs = append(vs, &volume{name: "v", last: l})
		}
		if seq, wrong := verify(vs); (wrong == "") != c.good || c.good && seq != c.lasts[len(c.lasts)-1] {
			t.Errorf("%v: seq %d, %q", c.lasts, seq, wrong)
		}
	}
}

func TestRecorderGoesOnAfterACrashBetweenVolumes(t *testing.T) {
	dirs := []string{t.TempDir(), t.TempDir()}
	open := func() []*volume {
		var out []*volume
		for _, d := range dirs {
			v, err := openVolume("v", d)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, v)
		}
		return out
	}
	r := newRecorder("g", open())
	if err := r.write(3); err != nil {
		t.Fatal(err)
	}
	if err := r.volumes[0].write(4, 1); err != nil { // the crash comes before the second volume has it
		t.Fatal(err)
	}
	r = newRecorder("g", open())
	if s := r.now(); s.Seq != 3 || !s.Verified {
		t.Fatalf("%+v", s)
	}
	web := httptest.NewServer(handler(r))
	defer web.Close()
	resp, err := http.Post(web.URL+"/write?n=2", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if !strings.Contains(string(b), `"seq":5,`) || !strings.Contains(string(b), `"verified":true`) {
		t.Errorf("%s", b)
	}
	if s := newRecorder("g", open()).now(); s.Found != 5 || !s.Verified {
		t.Errorf("%+v", s)
	}
}

type fakeMachine struct{ cold, off bool }

func (m *fakeMachine) freeze() (int, error) { m.cold = true; return 2, nil }
func (m *fakeMachine) thaw() (int, error)   { m.cold = false; return 2, nil }
func (m *fakeMachine) frozen() bool         { return m.cold }
func (m *fakeMachine) shutdown()            { m.off = true }

func TestAgentAnswers(t *testing.T) {
	host, port := net.Pipe()
	m := &fakeMachine{}
	go func() { _ = serveAgent(port, m) }()
	in := bufio.NewReader(host)
	for _, c := range [][2]string{
		{`{"execute":"guest-sync","arguments":{"id":123456}}`, `{"return":123456}`},
		{`{"execute":"guest-fsfreeze-freeze"}`, `{"return":2}`},
		{`{"execute":"guest-fsfreeze-status"}`, `{"return":"frozen"}`},
		{`{"execute":"guest-fsfreeze-thaw"}`, `{"return":2}`},
		{`{"execute":"guest-exec"}`, `{"error":{"class":"CommandNotFound","desc":"The command guest-exec has not been found"}}`},
	} {
		if _, err := io.WriteString(host, c[0]+"\n"); err != nil {
			t.Fatal(err)
		}
		if line, err := in.ReadString('\n'); err != nil || strings.TrimSpace(line) != c[1] {
			t.Errorf("%s: %s %v", c[0], line, err)
		}
	}
	host.Close()
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add(encodeRecord(1, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == RecordSize {
			decodeRecord(b)
		}
	})
}
