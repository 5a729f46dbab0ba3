package nbd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// TestMain is also the server that TestKill kills: a process that serves the file $NBD_FILE on $NBD_SOCKET.
func TestMain(m *testing.M) {
	if os.Getenv("NBD_FILE") == "" {
		os.Exit(m.Run())
	}
	if err := serveFile(os.Getenv("NBD_FILE"), os.Getenv("NBD_SOCKET")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serveFile(file, socket string) error {
	d, err := OpenFile(file, FileOptions{})
	if err != nil {
		return err
	}
	l, err := Listen("unix", socket)
	if err != nil {
		return err
	}
	s := NewServer(Config{})
	if err := s.Add(Export{Name: "d", Backend: d}); err != nil {
		return err
	}
	fmt.Println("ready")
	return s.Serve(context.Background(), l)
}

func startServer(t testing.TB, file, socket string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "NBD_FILE="+file, "NBD_SOCKET="+socket)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kill(cmd) })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the server said %q, %v", line, err)
	}
	return cmd
}

func kill(cmd *exec.Cmd) {
	_ = cmd.Process.Kill() // it may be dead already
	_ = cmd.Wait()         // it says that it was killed
}

// TestKill kills the server under load, several times: clients that reconnect see no error and lose nothing.
func TestKill(t *testing.T) {
	const size, players = 8 << 20, 4
	file, socket := sparseFile(t, memoryDir(t), size), filepath.Join(shortDir(t), "s")
	server := startServer(t, file, socket)
	c, err := DialReconnecting(context.Background(), "unix", socket, "d", ReconnectOptions{Every: 5 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	var models [players][]byte
	for i := range players {
		models[i] = make([]byte, size/players)
		all.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			for ctx.Err() == nil {
				off := rng.Int64N(size/players/4096) * 4096
				p := models[i][off:][:4096]
				for j := range p {
					p[j] = byte(rng.Uint32())
				}
				if err := c.WriteAt(context.Background(), p, int64(i)*size/players+off, false); err != nil {
					t.Errorf("player %d: %v", i, err)
					return
				}
			}
		})
	}
	for range 5 {
		time.Sleep(50 * time.Millisecond)
		kill(server)
		server = startServer(t, file, socket)
	}
	time.Sleep(50 * time.Millisecond)
	cancel()
	all.Wait()
	got := make([]byte, size/players)
	for i := range players {
		if err := c.ReadAt(context.Background(), got, int64(i)*size/players); err != nil {
			t.Fatal(err)
		}
		if string(got) != string(models[i]) {
			t.Errorf("player %d's part differs", i)
		}
	}
}

func TestReconnectingGivesUpInTime(t *testing.T) {
	file, socket := sparseFile(t, memoryDir(t), 1<<20), filepath.Join(shortDir(t), "s")
	server := startServer(t, file, socket)
	c, err := DialReconnecting(context.Background(), "unix", socket, "d", ReconnectOptions{Within: 200 * time.Millisecond, Every: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	kill(server)
	began := time.Now()
	if err := c.Flush(context.Background()); !errors.Is(err, ErrDisconnected) {
		t.Errorf("without a server: %v, want %v", err, ErrDisconnected)
	}
	if took := time.Since(began); took < 200*time.Millisecond || took > 5*time.Second {
		t.Errorf("gave up after %v", took)
	}
	if err := os.Truncate(file, 2<<20); err != nil {
		t.Fatal(err)
	}
	startServer(t, file, socket)
	if err := c.Flush(context.Background()); !errors.Is(err, ErrInvalid) {
		t.Errorf("with another disk: %v, want %v", err, ErrInvalid)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := c.Flush(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v, want %v", err, ErrClosed)
	}
}
