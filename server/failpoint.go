package server

import (
	"log/slog"
	"os"
	goruntime "runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/understudy-ha/understudy/controller"
)

// FailpointEnv names a file that arms a failpoint: "BOUNDARY kill" or "BOUNDARY stop", where BOUNDARY is before-intent,
// after-intent, after-effect or after-outcome. When a job gets there next, the file is removed and the process kills,
// or stops, itself. It is how the lab shows what a crash at every step leaves behind; without the variable it costs nothing.
const FailpointEnv = "UNDERSTUDY_FAILPOINT_FILE"

// failpoints are armed through a file while the process runs. The nil value is never armed.
type failpoints struct{ file string }

func newFailpoints(file string) *failpoints {
	if file == "" {
		return nil
	}
	slog.Warn("failpoints may be armed", "file", file)
	return &failpoints{file: file}
}

// reached does what is armed for the boundary.
func (f *failpoints) reached(b controller.Boundary) {
	if f == nil {
		return
	}
	text, err := os.ReadFile(f.file)
	if err != nil {
		return
	}
	where, what, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	if where != string(b.Where) {
		return
	}
	signal := syscall.SIGKILL
	if what == "stop" {
		signal = syscall.SIGSTOP
	}
	if err := os.Remove(f.file); err != nil {
		slog.Error("failpoint", "err", err)
		return
	}
	slog.Warn("failpoint", "boundary", b.Where, "job", b.Job, "signal", signal)
	// Sent to this very thread: a signal to the process may be taken by another one, and this one would go on for a while.
	goruntime.LockOSThread()
	defer goruntime.UnlockOSThread()
	if err := unix.Tgkill(os.Getpid(), unix.Gettid(), signal); err != nil {
		slog.Error("failpoint", "err", err)
	}
}
