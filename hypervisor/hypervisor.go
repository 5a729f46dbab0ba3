// Package hypervisor creates, starts, stops, isolates and looks at virtual machines. hypervisor/qemu is the one that
// runs them on this host; hypervisor/hvtest is what every hypervisor must pass; hypervisor/guest builds small guests.
//
// A machine outlives the process that started it: any later process that opens the same hypervisor finds it again.
package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// SerialKept is how much of what machines write to their serial ports is kept, in bytes.
const SerialKept = 4 << 20

// State is what a machine is doing.
type State string

const (
	// Stopped machines are defined and have no process.
	Stopped State = "stopped"
	// Running machines execute.
	Running State = "running"
	// Paused machines were stopped by Pause and go on with Resume.
	Paused State = "paused"
	// Stalled machines were stopped by the hypervisor because a disk could not carry out a request (full, or failing). Reason
	// says which. They go on with Resume, and nothing is lost meanwhile: the request is repeated.
	Stalled State = "stalled"
	// Crashed machines have a process, but their guest or the hypervisor gave up.
	Crashed State = "crashed"
)

// Status of a machine.
type Status struct {
	State State
	// Reason tells why it is Stalled or Crashed; "" otherwise.
	Reason string
	// PID of the process and when it started; zero when Stopped.
	PID     int
	Started time.Time
	// Accelerator that runs it: kvm or tcg.
	Accelerator string
}

// Found is a machine that Discover saw. Those that are not Ours were started by somebody else; the hypervisor reads
// them and never touches them.
type Found struct {
	Machine Machine
	Ours    bool
	Status  Status
}

var (
	// ErrNotFound: no machine of that name is defined here.
	ErrNotFound = errors.New("no such machine")
	// ErrNotRunning: the machine is defined, but has no process that could do it.
	ErrNotRunning = errors.New("the machine is not running")
	// ErrDifferent: a machine of that name runs with another definition. Stop it first.
	ErrDifferent = errors.New("a machine of that name runs with another definition")
	// ErrNoAgent: the guest agent was asked and does not answer.
	ErrNoAgent = errors.New("the guest agent does not answer")
)

// Error of an operation on a machine.
type Error struct {
	Op      string // start, stop, …
	Machine string
	Err     error
	// Hint says what would help; "" if nothing is known.
	Hint string
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s machine %s: %v", e.Op, e.Machine, e.Err)
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// Hypervisor runs machines. All methods may be called concurrently, also by several processes at once. Errors are of
// type *Error and wrap ErrNotFound, ErrNotRunning, ErrDifferent or ErrNoAgent where that is what is wrong.
type Hypervisor interface {
	// Start runs m. One that runs already with the same definition is adopted: nothing happens and there is no error. A
	// paused or stalled one is left so. It answers when the machine executes, not when its guest is up.
	Start(ctx context.Context, m Machine) error
	// Stop asks the guest to shut down, waits up to grace, and then takes the power away. Clean tells that the guest went by
	// itself. With grace 0 the power is taken away at once, after what was acknowledged to the guest was handed to the disks.
	// A machine that is stopped is stopped cleanly.
	Stop(ctx context.Context, name string, grace time.Duration) (clean bool, err error)
	// Kill ends the process at once, as a power cut would.
	Kill(ctx context.Context, name string) error
	// Pause stops the machine's processors; Resume lets them go on, also after a disk stalled them.
	Pause(ctx context.Context, name string) error
	Resume(ctx context.Context, name string) error
	// Reached tells whether a connection to a Forward that listens on that port of the host got through to the guest: forwards
	// accept connections whether or not anybody in the guest does. A port that no Forward has is reached.
	Reached(ctx context.Context, name string, port uint16) (bool, error)
	// Status of a defined machine.
	Status(ctx context.Context, name string) (Status, error)
	// Definition that the machine was last started with.
	Definition(ctx context.Context, name string) (Machine, error)
	// List the names of all defined machines, sorted.
	List(ctx context.Context) ([]string, error)
	// Remove forgets a machine; it is killed if it runs. Its disks are not touched. Removing what is not there is no error.
	Remove(ctx context.Context, name string) error
	// Screenshot is what the machine's screen shows, as PNG.
	Screenshot(ctx context.Context, name string) ([]byte, error)
	// Serial is what the machine wrote to its first serial port since its last start, from offset on; at most 1 MiB. A negative
	// offset counts from the end. At least the last SerialKept bytes are there; what was before may read as zeroes.
	Serial(ctx context.Context, name string, offset int64) ([]byte, error)
	// Freeze has the guest agent flush and hold all file systems, and answers how many. They thaw by themselves after the
	// guest's own limit, if it has one; call Thaw in any case.
	Freeze(ctx context.Context, name string) (int, error)
	// Thaw lets them go on, and answers how many. Thawing what is not frozen is no error.
	Thaw(ctx context.Context, name string) (int, error)
	// AgentReady tells whether the guest agent answers.
	AgentReady(ctx context.Context, name string) bool
	// Discover lists all machines on this host, ours and others', sorted by name.
	Discover(ctx context.Context) ([]Found, error)
}
