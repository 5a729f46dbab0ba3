package qemu

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// process is a QEMU that was found alive.
type process struct {
	pid     int
	handle  int // pidfd: signals to it reach this process or nobody
	started time.Time
	args    []string
}

func (p *process) close() { unix.Close(p.handle) }

func (p *process) kill() error { return unix.PidfdSendSignal(p.handle, unix.SIGKILL, nil, 0) }

// wait until the process has ended, or for at most d.
func (p *process) wait(d time.Duration) bool {
	end := time.Now().Add(d)
	for {
		left := time.Until(end)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.handle), Events: unix.POLLIN}}, max(0, int(left.Milliseconds())))
		switch {
		case n > 0:
			return true
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil || left <= 0:
			return false
		}
	}
}

// accelerator that the process was started with.
func (p *process) accelerator() string {
	if i := slices.Index(p.args, "-accel"); i >= 0 && i+1 < len(p.args) {
		return p.args[i+1]
	}
	return ""
}

// find the process of the machine in dir; nil if it has none. A process of the same number that is not this machine's is
// none: its command line must name this directory's pid file.
func find(dir string) (*process, error) {
	b, err := os.ReadFile(filepath.Join(dir, pidFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 1 { // written in part when the power went: its process went too
		return nil, nil
	}
	handle, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("process %d: %w", pid, err)
	}
	p := &process{pid: pid, handle: handle, args: commandLine(pid), started: startTime(pid)}
	i := slices.Index(p.args, "-pidfile")
	if i < 0 || i+1 >= len(p.args) || p.args[i+1] != filepath.Join(dir, pidFile) {
		p.close()
		return nil, nil
	}
	return p, nil
}

// commandLine of a process; empty for one that is gone or a zombie.
func commandLine(pid int) []string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || len(b) == 0 {
		return nil
	}
	return strings.Split(string(bytes.TrimSuffix(b, []byte{0})), "\x00")
}

// startTime of a process; zero if it is gone. The kernel counts hundredths of a second since boot.
func startTime(pid int) time.Time {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return time.Time{}
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	var up unix.Timespec
	if len(fields) < 20 || unix.ClockGettime(unix.CLOCK_BOOTTIME, &up) != nil {
		return time.Time{}
	}
	ticks, err := strconv.ParseInt(fields[19], 10, 64)
	if err != nil {
		return time.Time{}
	}
	age := time.Duration(up.Nano()) - time.Duration(ticks)*(time.Second/100)
	return time.Now().Add(-age)
}
