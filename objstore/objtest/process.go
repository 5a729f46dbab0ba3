package objtest

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/freeport"
	"github.com/understudy-ha/understudy/sourcetree"
)

// startLimit bounds a server's start; a busy machine takes a while to load node.
const startLimit = 2 * time.Minute

// Server is a server's process, on a port of loopback.
type Server struct {
	// URL is http://127.0.0.1:PORT.
	URL string
	// Env is what the client needs, by the names of credentials.
	Credentials map[string]string

	cmd  *exec.Cmd
	done chan struct{}
	out  *tail
}

// start runs a program that listens on port and waits until it answers HTTP. It ends with the test.
func start(t testing.TB, port int, program string, args ...string) *Server {
	t.Helper()
	s := &Server{URL: fmt.Sprintf("http://127.0.0.1:%d", port), cmd: exec.Command(program, args...), done: make(chan struct{}), out: &tail{}}
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.out
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() { // Pdeathsig follows the thread that started it
		runtime.LockOSThread()
		err := s.cmd.Start()
		started <- err
		if err == nil {
			_ = s.cmd.Wait()
		}
		close(s.done)
	}()
	if err := <-started; err != nil {
		t.Fatalf("start %s: %v", program, err)
	}
	t.Cleanup(s.Kill)
	deadline := time.Now().Add(startLimit)
	for {
		resp, err := http.Get(s.URL)
		if err == nil {
			_ = resp.Body.Close()
			return s
		}
		select {
		case <-s.done:
			t.Fatalf("%s ended at once:\n%s", program, s.out)
		case <-time.After(100 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not answer after %v: %v\n%s", program, startLimit, err, s.out)
		}
	}
}

// Kill ends the server as kill -9 does, and waits.
func (s *Server) Kill() {
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
	<-s.done
}

// freePort gives a port that nobody listens on now.
func freePort(t testing.TB) int {
	t.Helper()
	ports, err := freeport.Take(1)
	if err != nil {
		t.Fatal(err)
	}
	return ports[0]
}

// tool gives the path of what make deps puts under .cache. Without it the test fails with its name.
func tool(t testing.TB, parts ...string) string {
	t.Helper()
	root, err := sourcetree.Root()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(append([]string{root, ".cache"}, parts...)...)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		t.Fatalf("%s is missing: run make deps", filepath.Join(parts...))
	}
	return path
}

// tail keeps the end of what a process prints.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.buf.Len() > 16<<10 {
		t.buf.Next(8 << 10)
	}
	return t.buf.Write(p)
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.String()
}
