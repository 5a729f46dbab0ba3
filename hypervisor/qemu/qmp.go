package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// qmpTimeout bounds one conversation with a machine's monitor where the caller sets no earlier end.
const qmpTimeout = 20 * time.Second

// qmpError is QEMU's refusal of a command.
type qmpError struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

func (e *qmpError) Error() string { return e.Class + ": " + e.Desc }

// answer to a command, of the monitor or of the guest agent; the monitor's events have no Return and no Error.
type answer struct {
	Return json.RawMessage `json:"return"`
	Error  *qmpError       `json:"error"`
	Event  string          `json:"event"`
}

// line is a conversation in JSON documents, one command and one answer at a time. Not safe for concurrent use.
type line struct {
	conn net.Conn
	in   *json.Decoder
	stop func() bool
}

// dial opens the socket dir/name, however long dir is: names of sockets must be short, so it is reached through the
// directory's descriptor.
func dial(ctx context.Context, dir, name string) (*line, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	path := filepath.Join("/proc/self/fd", fmt.Sprint(d.Fd()), name)
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	end := time.Now().Add(qmpTimeout)
	if t, ok := ctx.Deadline(); ok && t.Before(end) {
		end = t
	}
	_ = conn.SetDeadline(end)
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return &line{conn: conn, in: json.NewDecoder(bufio.NewReader(conn)), stop: stop}, nil
}

func (l *line) close() {
	l.stop()
	l.conn.Close()
}

// ask sends a command and puts what is returned into out, which may be nil.
func (l *line) ask(command string, arguments, out any) error {
	msg := map[string]any{"execute": command}
	if arguments != nil {
		msg["arguments"] = arguments
	}
	b, err := json.Marshal(msg)
	if err != nil {
		return err
	}
	if _, err := l.conn.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	for {
		var a answer
		if err := l.in.Decode(&a); err != nil {
			return fmt.Errorf("%s: %w", command, err)
		}
		switch {
		case a.Error != nil:
			return fmt.Errorf("%s: %w", command, a.Error)
		case a.Return == nil: // an event, or the greeting
			continue
		case out == nil:
			return nil
		}
		return json.Unmarshal(a.Return, out)
	}
}

// monitor converses with the QEMU of the machine in dir. It serves one conversation at a time, others wait their turn.
func monitor(ctx context.Context, dir string, talk func(*line) error) error {
	l, err := dial(ctx, dir, qmpSocket)
	if err != nil {
		return err
	}
	defer l.close()
	if err := l.ask("qmp_capabilities", nil, nil); err != nil {
		return err
	}
	return talk(l)
}

// birth is how long a QEMU may be alive before its monitor listens.
const birth = 20 * time.Second

// reach the monitor of a process that may just have been born.
func (p *process) reach(ctx context.Context, dir string, talk func(*line) error) error {
	for end := time.Now().Add(birth); ; {
		err := monitor(ctx, dir, talk)
		unborn := errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED)
		if !unborn || time.Now().After(end) || ctx.Err() != nil || p.wait(lockEvery) {
			return err
		}
	}
}

// isGone tells whether the conversation ended because the other side did.
func isGone(err error) bool {
	var refused *qmpError
	return err != nil && !errors.As(err, &refused) && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.Canceled)
}
