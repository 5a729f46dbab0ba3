package replication

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// link is a TCP way that can be cut: then connections break, or hang.
type link struct {
	lis   net.Listener
	to    func() string
	mu    sync.Mutex
	conns map[net.Conn]bool
	down  bool
}

func newLink(t testing.TB, to func() string) *link {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	l := &link{lis: lis, to: to, conns: map[net.Conn]bool{}}
	go l.run()
	t.Cleanup(func() { lis.Close(); l.cut() })
	return l
}

func (l *link) address() string { return l.lis.Addr().String() }

func (l *link) run() {
	for {
		a, err := l.lis.Accept()
		if err != nil {
			return
		}
		go l.pass(a)
	}
}

func (l *link) pass(a net.Conn) {
	defer a.Close()
	b, err := net.Dial("tcp", l.to())
	if err != nil {
		return
	}
	defer b.Close()
	l.mu.Lock()
	if l.down {
		l.mu.Unlock()
		return
	}
	l.conns[a], l.conns[b] = true, true
	l.mu.Unlock()
	go func() {
		_, _ = io.Copy(a, b)
		a.Close()
	}()
	_, _ = io.Copy(b, a)
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, a)
	delete(l.conns, b)
}

// cut breaks what is open.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		c.Close()
	}
}

func (l *link) set(down bool) {
	l.mu.Lock()
	l.down = down
	l.mu.Unlock()
	if down {
		l.cut()
	}
}

// TestWhateverBreaksTheStreamIsAPrefix breaks the link, the vault, and the process server (whose spool is sometimes deleted), under load. Once
// quiet, the vault's stream must be the source's.
func TestWhateverBreaksTheStreamIsAPrefix(t *testing.T) {
	s := newSite(t)
	var mu sync.Mutex
	trouble := 0 // in a hundred appends
	s.vault.fail = func() (error, bool) {
		mu.Lock()
		defer mu.Unlock()
		if rand.N(100) < trouble {
			return errors.New("the object store does not answer"), rand.N(2) == 0
		}
		return nil, false
	}
	dir := filepath.Join(fastDir(t), "spool")
	cfg := s.serverConfig(dir)
	cfg.SpoolBytes, cfg.RotateBytes = 2<<20, 64<<10
	_, at, stop := serve(t, cfg, "")
	address := at // stays
	l := newLink(t, func() string { return address })
	src := newFakeSource(64, 200)
	send(t, s.senderConfig(src, l.address()))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { load(ctx, src, 20*time.Microsecond) })
	wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			src.point("p")
			time.Sleep(10 * time.Millisecond)
		}
	})
	for i := range 16 {
		mu.Lock()
		trouble = []int{0, 10, 60}[rand.N(3)]
		mu.Unlock()
		time.Sleep(rand.N(200 * time.Millisecond))
		switch i % 4 {
		case 0:
			l.cut()
		case 1:
			l.set(true)
			time.Sleep(rand.N(300 * time.Millisecond))
			l.set(false)
		case 2:
			stop()
			_, _, stop = serve(t, cfg, address)
		case 3:
			stop()
			must(t, os.RemoveAll(dir))
			_, _, stop = serve(t, cfg, address)
		}
	}
	cancel()
	wg.Wait()
	mu.Lock()
	trouble = 0
	mu.Unlock()
	eventually(t, "quiet", src.quiet)
	s.vault.check(t, s.info.Stream, src)
	if src.gaps == 0 {
		t.Error("no gap: nothing was shown")
	}
	t.Logf("%d writes, %d gaps", src.writes, src.gaps)
}

func TestALinkThatIsCutForLongStallsNothing(t *testing.T) {
	s := newSite(t)
	ps, at, _ := serve(t, s.serverConfig(fastDir(t)), "")
	l := newLink(t, func() string { return at })
	src := newFakeSource(64, 500)
	snd := send(t, s.senderConfig(src, l.address()))
	eventually(t, "open", func() bool { return snd.Status().Connected })
	l.set(true)
	cutAt := time.Now()
	for range 3000 { // six times what the queue holds: a source that waited for us would never come to the end
		src.write(rand.N(64))
	}
	if src.gaps != 1 {
		t.Errorf("%d gaps", src.gaps)
	}
	eventually(t, "5 seconds", func() bool { return time.Since(cutAt) > 5*time.Second })
	if c := snd.Status().Conditions; len(c) != 1 || c[0].Code != ProcessServerUnreachable {
		t.Errorf("conditions %+v", c)
	}
	if r := ps.Status().Machines[0].RPO.Now; r < 3*time.Second {
		t.Errorf("the received RPO is %s after 5 seconds of silence", r)
	}
	l.set(false)
	eventually(t, "quiet", src.quiet)
	s.vault.check(t, s.info.Stream, src)
	if c := snd.Status().Conditions; len(c) != 0 {
		t.Errorf("conditions %+v", c)
	}
}

func TestAVaultThatIsAwayFillsTheSpool(t *testing.T) {
	s := newSite(t)
	var mu sync.Mutex
	away := false
	s.vault.fail = func() (error, bool) {
		mu.Lock()
		defer mu.Unlock()
		if away {
			return errors.New("the object store does not answer"), false
		}
		return nil, false
	}
	cfg := s.serverConfig(fastDir(t))
	ps, at, _ := serve(t, cfg, "")
	src := newFakeSource(64, 1000)
	snd := send(t, s.senderConfig(src, at))
	src.write(1)
	eventually(t, "quiet", src.quiet)
	mu.Lock()
	away = true
	mu.Unlock()
	for range 2000 { // many times what the source holds: the spool takes them, while no vault answers
		src.write(rand.N(64))
		time.Sleep(100 * time.Microsecond)
	}
	eventually(t, "spooled", func() bool { return snd.Status().Spooled == src.seq })
	m := ps.Status().Machines[0]
	if src.gaps != 0 || m.Stored != 1 || m.WaitingBytes == 0 {
		t.Errorf("%d gaps, %+v", src.gaps, m)
	}
	if len(m.Conditions) != 1 || m.Conditions[0].Code != VaultUnreachable {
		t.Errorf("conditions %+v", m.Conditions)
	}
	mu.Lock()
	away = false
	mu.Unlock()
	eventually(t, "quiet", src.quiet)
	s.vault.check(t, s.info.Stream, src)
	if m := ps.Status().Machines[0]; len(m.Conditions) != 0 || m.WaitingBytes != 0 {
		t.Errorf("%+v", m)
	}
}
