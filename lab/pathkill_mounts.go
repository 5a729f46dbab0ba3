package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// mounts is a mount namespace: file systems in memory that can be made full. It is seen by the programs that are started in
// it, and goes with them and this process, however that ends.
type mounts struct{ calls chan func() }

// newMounts enters a mount namespace on a thread of its own.
func newMounts() (*mounts, error) {
	m := &mounts{calls: make(chan func())}
	entered := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its goroutine
		err := unix.Unshare(unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		entered <- err
		if err != nil {
			return
		}
		for call := range m.calls {
			call()
		}
	}()
	if err := <-entered; err != nil {
		return nil, fmt.Errorf("enter a mount namespace: %w", err)
	}
	return m, nil
}

// do calls f inside.
func (m *mounts) do(f func() error) error {
	done := make(chan error)
	m.calls <- func() { done <- f() }
	return <-done
}

// close lets the thread go. What was started in it is killed by that, unless it has ended.
func (m *mounts) close() { close(m.calls) }

// run starts p inside. Its output goes to logDir/name.log.
func (m *mounts) run(logDir string, p program) (*process, error) {
	log, err := os.OpenFile(filepath.Join(logDir, p.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open log of %s: %w", p.name, err)
	}
	cmd := exec.Command(p.path, p.args...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = append(os.Environ(), p.env...), p.dir, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := m.do(cmd.Start); err != nil {
		_ = log.Close()
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	proc := &process{name: p.name, cmd: cmd, log: log, exit: make(chan struct{})}
	go func() {
		defer close(proc.exit)
		proc.err = cmd.Wait()
		_ = log.Close()
	}()
	return proc, nil
}

// roomy is the size of a file system that is not to be full, in bytes.
const roomy = 4 << 30

// mount makes dir a file system.
func (m *mounts) mount(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return m.do(func() error { return mountMemory(dir, 0, roomy) })
}

func mountMemory(dir string, flags uintptr, size int64) error {
	if err := unix.Mount("tmpfs", dir, "tmpfs", flags, fmt.Sprintf("size=%d,mode=700", size)); err != nil {
		return fmt.Errorf("mount %s with %d bytes: %w", dir, size, err)
	}
	return nil
}

// fill takes all the room but left bytes away from the file system at dir.
func (m *mounts) fill(dir string, left int64) error {
	return m.do(func() error {
		var err error
		for range 10 { // it may be written to meanwhile
			var st unix.Statfs_t
			if err = unix.Statfs(dir, &st); err != nil {
				return fmt.Errorf("look at %s: %w", dir, err)
			}
			used := int64(st.Blocks-st.Bfree) * st.Bsize
			if err = mountMemory(dir, unix.MS_REMOUNT, used+left); err == nil {
				return nil
			}
		}
		return err
	})
}

// free makes room again.
func (m *mounts) free(dir string) error {
	return m.do(func() error { return mountMemory(dir, unix.MS_REMOUNT, roomy) })
}

// clear removes what is in dir.
func (m *mounts) clear(dir string) error {
	return m.do(func() error {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
		return nil
	})
}
