package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// Runner runs shell commands on a machine.
type Runner interface {
	// Run runs one command with what stdin gives (nil for nothing) and gives what it printed. An error holds what it complained about.
	Run(ctx context.Context, command string, stdin io.Reader) (string, error)
}

// undoTime bounds the undoing, which goes on when the context has ended.
const undoTime = 2 * time.Minute

// Failed is a plan that could not be carried out.
type Failed struct {
	Step string // that failed
	Err  error  // why
	// Undo is why not everything could be undone; nil if it was.
	Undo error
	// Half tells that the plan undoes nothing: what was done before stays done.
	Half bool
}

func (f *Failed) Error() string {
	if f.Half {
		return fmt.Sprintf("%s: %v; what came before is done, and doing all of it again does no harm", f.Step, f.Err)
	}
	if f.Undo != nil {
		return fmt.Sprintf("%s: %v; undoing it failed too, so the machine is between both: %v", f.Step, f.Err, f.Undo)
	}
	return fmt.Sprintf("%s: %v; the machine is as it was before", f.Step, f.Err)
}

func (f *Failed) Unwrap() error { return f.Err }

// Run carries the plan out, then waits until done says that it works. When a step or the wait fails, everything is undone in reverse
// and what ran before runs again; the error is a *Failed. said hears of each step before it is begun.
func (p Plan) Run(ctx context.Context, r Runner, done func(context.Context) error, said func(step string)) error {
	for i, s := range p.Steps {
		said(s.Name)
		if err := p.do(ctx, r, s); err != nil {
			return &Failed{Step: s.Name, Err: err, Undo: p.undo(ctx, r, i, said), Half: p.final()}
		}
	}
	if done == nil {
		return nil
	}
	if err := done(ctx); err != nil {
		return &Failed{Step: "wait for the agent", Err: err, Undo: p.undo(ctx, r, len(p.Steps)-1, said)}
	}
	return nil
}

// final tells that no step can be undone.
func (p Plan) final() bool {
	return !slices.ContainsFunc(p.Steps, func(s Step) bool { return s.Undo != "" })
}

func (p Plan) do(ctx context.Context, r Runner, s Step) error {
	var in io.Reader
	switch {
	case s.Input.File != "":
		f, err := os.Open(s.Input.File)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	case s.Input.Text != "":
		in = strings.NewReader(s.Input.Text)
	}
	_, err := r.Run(ctx, wrap(p.Become, s.Command), in)
	return err
}

// undo undoes the steps from the last one on.
func (p Plan) undo(ctx context.Context, r Runner, last int, said func(string)) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	var errs []error
	for i := last; i >= 0; i-- {
		if s := p.Steps[i]; s.Undo != "" {
			said("undo: " + s.Name)
			_, err := r.Run(ctx, wrap(p.Become, s.Undo), nil)
			errs = append(errs, err)
		}
	}
	if p.Revive != "" {
		said("start the agent that ran before")
		_, err := r.Run(ctx, wrap(p.Become, p.Revive), nil)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Print shows the plan to people: what would run, and what it would read.
func (p Plan) Print(w io.Writer) {
	for i, s := range p.Steps {
		fmt.Fprintf(w, "%d. %s\n", i+1, s.Name)
		indent(w, "     ", s.Command)
		switch {
		case s.Input.Secret:
			fmt.Fprintf(w, "     reads a secret\n")
		case s.Input.File != "":
			fmt.Fprintf(w, "     reads %s\n", s.Input.File)
		case s.Input.Text != "":
			indent(w, "     | ", s.Input.Text)
		}
	}
}

func indent(w io.Writer, with, text string) {
	for line := range strings.Lines(strings.Trim(text, "\n")) {
		fmt.Fprintf(w, "%s%s\n", with, strings.TrimRight(line, "\n"))
	}
}

// wrap gives a command to a shell of the target, whatever the login's shell is, as root if that takes something.
func wrap(become, command string) string {
	sh := "sh -c '" + strings.ReplaceAll(command, "'", `'\''`) + "'"
	if become == "sudo" {
		return "sudo -n " + sh
	}
	return sh
}

// Local is this machine.
type Local struct{}

// Run implements Runner.
func (Local) Run(ctx context.Context, command string, stdin io.Reader) (string, error) {
	var out, complaint strings.Builder
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &complaint
	// What the command leaves running must not keep us.
	cmd.WaitDelay = 2 * time.Second
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	return out.String(), complain(err, complaint.String())
}

// complain adds what a command said to why it failed.
func complain(err error, said string) error {
	if said = strings.TrimSpace(said); err != nil && said != "" {
		return fmt.Errorf("%w: %s", err, said)
	}
	return err
}
