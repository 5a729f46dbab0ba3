package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// spawner starts processes from one thread that lives as long as it does. The kernel ties a child's death signal to
// the thread that made it: so the children die with the run, however that ends.
type spawner struct {
	jobs chan func()
	done chan struct{}
	once sync.Once
}

func newSpawner() *spawner {
	sp := &spawner{jobs: make(chan func()), done: make(chan struct{})}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		defer close(sp.done)
		for job := range sp.jobs {
			job()
		}
	}()
	return sp
}

// close ends the thread, and with it every child that still runs.
func (sp *spawner) close() {
	sp.once.Do(func() { close(sp.jobs) })
	<-sp.done
}

func (sp *spawner) start(s *space, cmd *exec.Cmd) error {
	result := make(chan error, 1)
	sp.jobs <- func() {
		if err := netns.Set(s.handle); err != nil {
			result <- fmt.Errorf("enter namespace %s: %w", s.name, err)
			return
		}
		result <- cmd.Start()
	}
	return <-result
}

// process is a program running in a namespace.
type process struct {
	name string
	cmd  *exec.Cmd
	log  *os.File
	exit chan struct{} // closed when it has ended
	err  error         // why; read after exit
}

// program says what to run where.
type program struct {
	name   string // of its log file
	path   string
	args   []string
	env    []string // added to the environment
	dir    string
	stdin  io.Reader
	stdout io.Writer // default: the log
}

// start runs p in the namespace. Its output goes to logDir/name.log.
func (sp *spawner) run(s *space, logDir string, p program) (*process, error) {
	log, err := os.OpenFile(filepath.Join(logDir, p.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open log of %s: %w", p.name, err)
	}
	cmd := exec.Command(p.path, p.args...)
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = p.dir, p.stdin, log, log
	if p.stdout != nil {
		cmd.Stdout = p.stdout
	}
	// A group of its own keeps the terminal's Ctrl-C for the run, which then ends its children in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := sp.start(s, cmd); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", p.name, err), log.Close())
	}
	proc := &process{name: p.name, cmd: cmd, log: log, exit: make(chan struct{})}
	go func() {
		defer close(proc.exit)
		proc.err = cmd.Wait()
		_ = log.Close()
	}()
	return proc, nil
}

func (p *process) signal(sig unix.Signal) error {
	if err := unix.Kill(-p.cmd.Process.Pid, sig); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal %s to %s: %w", sig, p.name, err)
	}
	return nil
}

// alive tells whether it still runs.
func (p *process) alive() bool {
	select {
	case <-p.exit:
		return false
	default:
		return true
	}
}

// kill ends the process and its group at once and waits for it.
func (p *process) kill() {
	if p == nil {
		return
	}
	_ = p.signal(unix.SIGKILL)
	<-p.exit
}

// stop asks it to end, waits up to grace, then kills it.
func (p *process) stop(grace time.Duration) {
	if p == nil {
		return
	}
	_ = p.signal(unix.SIGTERM)
	select {
	case <-p.exit:
	case <-time.After(grace):
		p.kill()
	}
}

// output runs a command in the namespace to its end and gives what it printed.
func (s *space) output(ctx context.Context, stdin string, path string, args ...string) (string, error) {
	var out, errs strings.Builder
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err := s.do(cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return out.String(), fmt.Errorf("%s %s in %s: %w: %s", filepath.Base(path), strings.Join(args, " "), s.name, err,
			strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

// nft loads rules into the namespace, all or none.
func (s *space) nft(ctx context.Context, rules string) error {
	_, err := s.output(ctx, rules, "nft", "-f", "-")
	return err
}
