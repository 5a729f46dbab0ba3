package nbd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func TestCloseAnswersWhatIsUnderWay(t *testing.T) {
	for _, blocking := range []bool{false, true} {
		t.Run(fmt.Sprintf("blocking=%v", blocking), func(t *testing.T) {
			m := newMemory(1 << 20)
			began, goOn := make(chan struct{}), make(chan struct{})
			m.before = func(op string) error {
				if op == "write" {
					close(began)
					<-goOn
				}
				return nil
			}
			s, path := serve(t, Config{}, Export{Backend: m, Blocking: blocking})
			c := dial(t, path, "")
			wrote := make(chan error, 1)
			go func() { wrote <- c.WriteAt(context.Background(), bytes.Repeat([]byte{1}, 512), 0, false) }()
			<-began
			closed := make(chan error, 1)
			go func() { closed <- s.Close() }()
			select {
			case <-closed:
				t.Fatal("Close did not wait")
			case <-time.After(50 * time.Millisecond):
			}
			close(goOn)
			if err := <-wrote; err != nil {
				t.Error("the write under way:", err)
			}
			if err := <-closed; err != nil {
				t.Error(err)
			}
			if err := c.Flush(context.Background()); !errors.Is(err, ErrDisconnected) {
				t.Errorf("afterwards: %v, want %v", err, ErrDisconnected)
			}
		})
	}
}

// TestCloseEndsCleanly: also for a client that goes on sending, so that replies on their way are not destroyed by a reset.
func TestCloseEndsCleanly(t *testing.T) {
	m := newMemory(1 << 20)
	began, goOn := make(chan struct{}, 1), make(chan struct{})
	m.before = func(string) error {
		began <- struct{}{}
		<-goOn
		return nil
	}
	s, path := serve(t, Config{}, Export{Backend: m})
	r := dialRaw(t, path)
	r.option(optGo, str("")+u16(0))
	r.write(string(request{cmd: cmdWrite, n: 512, cookie: 1}.append(nil)) + strings.Repeat("d", 512))
	<-began
	r.write(string(request{cmd: cmdRead, n: 512, cookie: 2}.append(nil)))
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	time.Sleep(20 * time.Millisecond)
	close(goOn)
	if got := r.read(simpleSize); string(got) != string(appendSimple(nil, 0, 1)) {
		t.Errorf("the write under way was answered %x", got)
	}
	if rest, err := io.ReadAll(r.conn); len(rest) > 0 || err != nil {
		t.Errorf("the end: %x, %v: want nothing and EOF", rest, err)
	}
	_ = r.conn.Close()
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// TestNobodyComesWhileAnExportLeaves: until Remove returns, the name is neither served nor free.
func TestNobodyComesWhileAnExportLeaves(t *testing.T) {
	h := hanging{newMemory(512)}
	s, path := serve(t, Config{Grace: 200 * time.Millisecond}, Export{Name: "h", Backend: h}, Export{Name: "b", Backend: newMemory(512)})
	c := dial(t, path, "h")
	go func() { _ = c.Flush(context.Background()) }() // cut in the end
	removed := make(chan error, 1)
	time.Sleep(20 * time.Millisecond)
	go func() { removed <- s.Remove(context.Background(), "h") }()
	time.Sleep(20 * time.Millisecond)
	if c, err := Dial(context.Background(), "unix", path, "h", DialOptions{}); !errors.Is(err, ErrUnknownExport) {
		t.Errorf("dial: %v, %v: want %v", c, err, ErrUnknownExport)
	}
	if err := s.Add(Export{Name: "h", Backend: h}); !errors.Is(err, ErrExists) {
		t.Errorf("add: %v, want %v", err, ErrExists)
	}
	if err := <-removed; err != nil {
		t.Error(err)
	}
	if err := s.Add(Export{Name: "h", Backend: h}); err != nil {
		t.Error("add afterwards:", err)
	}
}

// TestCloseCutsWhatHangs: a backend that waits for its context, and a client that reads no replies.
func TestCloseCutsWhatHangs(t *testing.T) {
	h := hanging{newMemory(64 << 20)}
	s, path := serve(t, Config{Grace: 50 * time.Millisecond}, Export{Name: "h", Backend: h}, Export{Name: "m", Backend: newMemory(64 << 20)})
	c := dial(t, path, "h")
	wrote := make(chan error, 1)
	go func() { wrote <- c.Flush(context.Background()) }()
	r := dialRaw(t, path)
	r.option(optGo, str("m")+u16(0))
	for range 8 {
		r.write(string(request{cmd: cmdRead, n: 8 << 20}.append(nil)))
	}
	for s.Clients("h") == 0 || s.Clients("m") == 0 {
		time.Sleep(time.Millisecond)
	}
	began := time.Now()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("Close took %v", took)
	}
	if err := <-wrote; err == nil {
		t.Error("the flush that hung succeeded")
	}
}

// hanging is a disk whose flush waits until it is cancelled.
type hanging struct{ *memory }

func (h hanging) Flush(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestRemove(t *testing.T) {
	m := newMemory(1 << 20)
	var uses atomic.Int32
	m.before = func(string) error {
		uses.Add(1)
		defer uses.Add(-1)
		time.Sleep(time.Millisecond)
		return nil
	}
	s, path := serve(t, Config{}, Export{Name: "a", Backend: m}, Export{Name: "b", Backend: newMemory(512)})
	a, b := dial(t, path, "a"), dial(t, path, "b")
	ctx := context.Background()
	ended := make(chan error, 1)
	go func() {
		for {
			if err := a.WriteAt(ctx, make([]byte, 512), 0, false); err != nil {
				ended <- err
				return
			}
		}
	}()
	time.Sleep(20 * time.Millisecond)
	if err := s.Remove(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if n := uses.Load(); n != 0 || s.Clients("a") != 0 {
		t.Errorf("%d requests and %d clients are left", n, s.Clients("a"))
	}
	if err := <-ended; !errors.Is(err, ErrDisconnected) {
		t.Errorf("the client: %v, want %v", err, ErrDisconnected)
	}
	if err := b.Flush(ctx); err != nil {
		t.Error("the other export:", err)
	}
	if _, err := Dial(ctx, "unix", path, "a", DialOptions{}); !errors.Is(err, ErrUnknownExport) {
		t.Errorf("dial: %v, want %v", err, ErrUnknownExport)
	}
	if err := s.Remove(ctx, "a"); !errors.Is(err, ErrUnknownExport) {
		t.Errorf("remove again: %v, want %v", err, ErrUnknownExport)
	}
	if err := s.Add(Export{Name: "b", Backend: m}); !errors.Is(err, ErrExists) {
		t.Errorf("add again: %v, want %v", err, ErrExists)
	}
	if err := s.Add(Export{Name: "c", Backend: newMemory(100)}); err == nil {
		t.Error("a disk of 100 bytes was taken")
	}
}

func TestErrorsArriveAsWhatTheyAre(t *testing.T) {
	m := newMemory(1 << 20)
	var next atomic.Pointer[error]
	m.before = func(string) error { return *next.Load() }
	_, path := serve(t, Config{}, Export{Backend: m})
	c := dial(t, path, "")
	for _, e := range []struct {
		err  error
		code Code
		is   error
	}{
		{ErrReadOnly, CodeEPERM, ErrReadOnly}, {fmt.Errorf("open: %w", syscall.EROFS), CodeEPERM, ErrReadOnly},
		{ErrNoSpace, CodeENOSPC, ErrNoSpace}, {&os.PathError{Err: syscall.EDQUOT}, CodeENOSPC, syscall.ENOSPC},
		{syscall.EINVAL, CodeEINVAL, ErrInvalid}, {syscall.ENOMEM, CodeENOMEM, syscall.ENOMEM}, {syscall.EOVERFLOW, CodeEOVERFLOW, syscall.EOVERFLOW},
		{ErrNotSupported, CodeENOTSUP, ErrNotSupported}, {ErrShutdown, CodeESHUTDOWN, ErrShutdown}, {syscall.EIO, CodeEIO, syscall.EIO},
		{errors.New("what?"), CodeEIO, syscall.EIO},
	} {
		next.Store(&e.err)
		err := c.WriteAt(context.Background(), make([]byte, 512), 512, false)
		var r *RemoteError
		if !errors.As(err, &r) || r.Code != e.code || !errors.Is(err, e.is) || r.Message != e.err.Error() {
			t.Errorf("%v arrived as %v, want %v", e.err, err, e.code)
		}
		if err := c.ReadAt(context.Background(), make([]byte, 512), 512); CodeOf(err) != e.code {
			t.Errorf("reading: %v arrived as %v, want %v", e.err, err, e.code)
		}
	}
}

func TestListenOnUnixSockets(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	l, err := Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v: want mode 0600", info, err)
	}
	if _, err := Listen("unix", path); !errors.Is(err, ErrInUse) {
		t.Errorf("a second server: %v, want %v", err, ErrInUse)
	}
	if c, err := net.Dial("unix", path); err != nil {
		t.Error("after the second one was refused:", err)
	} else {
		_ = c.Close()
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	if err := stale.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = Listen("unix", path); err != nil {
		t.Errorf("in place of a stale socket: %v", err)
	} else if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen("unix", path); err == nil {
		t.Error("a file was taken for a socket")
	}
	if b, err := os.ReadFile(path); string(b) != "precious" {
		t.Errorf("the file: %q, %v", b, err)
	}
}
