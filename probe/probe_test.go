package probe

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain lets the benchmark start this program again as the target.
func TestMain(m *testing.M) {
	if os.Getenv("PROBE_TARGET") == "" {
		os.Exit(m.Run())
	}
	ok := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	plain, secure := httptest.NewServer(ok), httptest.NewTLSServer(ok)
	fmt.Println(plain.Listener.Addr(), secure.Listener.Addr())
	_, _ = bufio.NewReader(os.Stdin).ReadByte() // until the parent closes it
}

func target(p Protocol, addr string) Target {
	return Target{ID: "a", Protocol: p, Address: netip.MustParseAddrPort(addr), Interval: 10 * time.Millisecond, Timeout: time.Second, Fall: 5}
}

// once asks once.
func once(t Target) *failure {
	return attempt{t, time.Now().Add(t.Timeout), func(*conn) {}}.ask()
}

// server answers every connection with a text, then holds it open.
func server(t *testing.T, text string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				for part := range strings.SplitSeq(text, "|") {
					_, _ = c.Write([]byte(part))
					time.Sleep(5 * time.Millisecond)
				}
				_, _ = c.Read(make([]byte, 4096))
				_, _ = c.Read(make([]byte, 4096))
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String()
}

func TestProtocols(t *testing.T) {
	status := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/bad" {
			w.WriteHeader(503)
		}
	})
	plain, secure := httptest.NewServer(status), httptest.NewTLSServer(status)
	defer plain.Close()
	defer secure.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing := l.Addr().String()
	l.Close()
	http1, https1 := plain.Listener.Addr().String(), secure.Listener.Addr().String()
	mute := server(t, "")
	for _, c := range []struct {
		name, addr, path, want string
		protocol               Protocol
	}{
		{"tcp", http1, "", "", TCP},
		{"tcp of a mute server", mute, "", "", TCP},
		{"tcp refused", refusing, "", "connection refused", TCP},
		{"http", http1, "", "", HTTP},
		{"http 503", http1, "/bad", "answered 503, want 200 to 299", HTTP},
		{"http refused", refusing, "", "connection refused", HTTP},
		{"http of a mute server", mute, "", "no answer in time", HTTP},
		{"http in pieces", server(t, "HTT|P/1.1 2|04 No Con|tent\r|\n\r\n"), "", "", HTTP},
		{"http of a liar", server(t, "SSH-2.0-x\r\n"), "", "not HTTP", HTTP},
		{"http of a chatterer", server(t, strings.Repeat("x", 600)), "", "not HTTP", HTTP},
		{"https", https1, "", "", HTTPS},
		{"https resumed", https1, "", "", HTTPS},
		{"https 503", https1, "/bad", "answered 503", HTTPS},
		{"https of plain http", http1, "", "tls: ", HTTPS},
		{"https of a mute server", mute, "", "no answer in time", HTTPS},
	} {
		t.Run(c.name, func(t *testing.T) {
			tg := target(c.protocol, c.addr)
			tg.Path, tg.Timeout = c.path, 300*time.Millisecond
			f := once(tg)
			switch {
			case c.want == "" && f != nil:
				t.Fatalf("failed: %v", f.err)
			case c.want != "" && f == nil:
				t.Fatalf("succeeded, want %q", c.want)
			case f != nil && !strings.Contains(f.err.Error(), c.want):
				t.Fatalf("got %q, want %q", f.err, c.want)
			case f != nil && (f.own || f.reset != strings.Contains(c.name, "refused")):
				t.Fatalf("own %v, reset %v", f.own, f.reset)
			}
		})
	}
}

func TestNoRouteIsTheProbersOwnFault(t *testing.T) {
	done := make(chan error)
	go func() { // on a thread in an empty network namespace, which goes with the goroutine
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		for _, addr := range []string{"192.0.2.1:80", "[2001:db8::1]:80"} {
			if f := once(target(TCP, addr)); f == nil || !f.own {
				done <- fmt.Errorf("%s: got %+v", addr, f)
			}
		}
		close(done)
	}()
	for err := range done {
		t.Error(err)
	}
}

func TestStatusCode(t *testing.T) {
	for line, want := range map[string]int{
		"HTTP/1.1 200 OK\r": 200, "HTTP/1.0 204\r": 204, "HTTP/1.1 299": 299, "HTTP/1.1 503 x": 503,
		"HTTP/1.1 20": 0, "HTTP/1.1 2000": 0, "HTTP/2 200": 0, "HTTP/1.1  200": 0, "": 0, "HTTP/1.1 099 x": 0, "HTTP/1.1 +20 x": 0,
	} {
		if got, ok := statusCode([]byte(line)); got != want && ok || ok != (want != 0) {
			t.Errorf("%q: got %d, %v, want %d", line, got, ok, want)
		}
	}
}

func FuzzStatusCode(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, ok := statusCode(b); ok && (n < 100 || n > 999) {
			t.Fatalf("%q gave %d", b, n)
		}
	})
}

func TestConnectionsAreReset(t *testing.T) {
	addr := server(t, "HTTP/1.1 200 OK\r\n\r\n")
	for range 20 {
		if f := once(target(HTTP, addr)); f != nil {
			t.Fatal(f.err)
		}
	}
	time.Sleep(50 * time.Millisecond) // the server closes after us
	out, err := exec.Command("ss", "-tanH", "state", "time-wait", "sport", "=", addr[strings.LastIndex(addr, ":"):], "or", "dport", "=", addr[strings.LastIndex(addr, ":"):]).CombinedOutput()
	if err != nil {
		t.Fatalf("ss: %v: %s", err, out)
	}
	if len(out) > 0 {
		t.Fatalf("connections are left behind:\n%s", out)
	}
}

func TestAnswerThatIsThereCountsThoughItIsFetchedLate(t *testing.T) {
	a := attempt{target(HTTP, server(t, "HTTP/1.1 200 OK\r\n\r\n")), time.Now().Add(time.Second), func(*conn) {}}
	c, f := a.dial()
	if f != nil {
		t.Fatal(f.err)
	}
	defer c.close()
	time.Sleep(20 * time.Millisecond)
	if n, f := c.read(make([]byte, 100), time.Now().Add(-time.Second)); f != nil || n == 0 {
		t.Fatalf("read %d bytes, %+v", n, f)
	}
	if _, f := c.read(make([]byte, 100), time.Now().Add(-time.Second)); f == nil || f.err != errTimeout {
		t.Fatalf("no more is there: got %+v", f)
	}
}

func TestSessionsAreResumed(t *testing.T) {
	var resumed atomic.Int64
	s := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.TLS.DidResume {
			resumed.Add(1)
		}
	}))
	defer s.Close()
	for range 3 {
		if f := once(target(HTTPS, s.Listener.Addr().String())); f != nil {
			t.Fatal(f.err)
		}
	}
	if resumed.Load() != 2 {
		t.Fatalf("%d of 2 handshakes were resumed", resumed.Load())
	}
}

func TestValidate(t *testing.T) {
	good := target(HTTP, "127.0.0.1:80")
	for field, spoil := range map[string]func(*Target){
		"protocol": func(t *Target) { t.Protocol = "icmp" },
		"address":  func(t *Target) { t.Address = netip.AddrPort{} },
		"interval": func(t *Target) { t.Interval = time.Millisecond },
		"timeout":  func(t *Target) { t.Timeout = time.Hour },
		"fall":     func(t *Target) { t.Fall = 0 },
		"path":     func(t *Target) { t.Path = "/a b" },
	} {
		bad := good
		spoil(&bad)
		if err := bad.Validate(); err == nil || !strings.Contains(err.Error(), field+" ") {
			t.Errorf("%s: got %v", field, err)
		}
	}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
}

func BenchmarkProbe(b *testing.B) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "PROBE_TARGET=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() { in.Close(); _ = cmd.Wait() }()
	var plain, secure string
	if _, err := fmt.Fscan(out, &plain, &secure); err != nil {
		b.Fatal(err)
	}
	for p, addr := range map[Protocol]string{TCP: plain, HTTP: plain, HTTPS: secure} {
		b.Run(string(p), func(b *testing.B) {
			cpu := cpuTime(b)
			for b.Loop() {
				if f := once(target(p, addr)); f != nil {
					b.Fatal(f.err)
				}
			}
			b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/float64(b.N), "cpu-µs/op")
		})
	}
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
