package lab

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// talker is one of our processes on a machine that answers lines of JSON. Its methods are safe for concurrent use.
type talker struct {
	proc *process
	mu   sync.Mutex // one question at a time
	in   *os.File
	out  *os.File
	line *bufio.Reader
}

func (l *nvaLab) startTalker(machine, name string, args ...string) (*talker, error) {
	inR, inW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer inR.Close()
	outR, outW, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, inW.Close())
	}
	defer outW.Close()
	proc, err := l.start(machine, program{name: name, path: l.binary, args: args, stdin: inR, stdout: outW})
	if err != nil {
		return nil, errors.Join(err, inW.Close(), outR.Close())
	}
	return &talker{proc: proc, in: inW, out: outR, line: bufio.NewReader(outR)}, nil
}

// ask sends a question and reads the answer.
func (t *talker) ask(question, answer any) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	b, err := json.Marshal(question)
	if err != nil {
		return err
	}
	if _, err := t.in.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("ask %s: %w", t.proc.name, err)
	}
	if err := readLine(t.line, answer); err != nil {
		return fmt.Errorf("answer of %s, see its log: %w", t.proc.name, err)
	}
	return nil
}

func readLine(r *bufio.Reader, v any) error {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, v)
}

// close ends the process. Closing nothing is safe.
func (t *talker) close() {
	if t == nil {
		return
	}
	t.in.Close()
	t.proc.stop(2 * time.Second)
	t.out.Close()
}
