package lab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

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

// run starts p in the namespace. Its output goes to logDir/name.log. Unless it is left standing, it dies with this process,
// whatever happens.
func (s *space) run(logDir string, p program, standing bool) (*process, error) {
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
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if !standing {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	if err := s.Start(cmd); err != nil {
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
