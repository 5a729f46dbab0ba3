package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/understudy-ha/understudy/client"
)

// deskCall is one line the operator's desk reads: a call of the API.
type deskCall struct {
	Method string          `json:"method"`
	Path   string          `json:"path"`
	Body   json.RawMessage `json:"body,omitempty"`
	// Server asks one controller, by its API address. Default: the first that answers.
	Server string `json:"server,omitempty"`
}

// deskAnswer is one line back.
type deskAnswer struct {
	Body  json.RawMessage `json:"body,omitempty"`
	Error string          `json:"error,omitempty"`
}

// DeskMain makes API calls from where it stands, one JSON line in, one out, until its input ends. The lab polls
// through it: starting the command line a few times a second would disturb what is measured.
func DeskMain(ctx context.Context, config string, in io.Reader, out io.Writer) error {
	cfg, err := client.Load(config)
	if err != nil {
		return err
	}
	desk := map[string]*client.Client{}
	defer func() {
		for _, c := range desk {
			c.Close()
		}
	}()
	lines := bufio.NewReader(in)
	for {
		var call deskCall
		if err := readLine(lines, &call); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read call: %w", err)
		}
		if desk[call.Server] == nil {
			one := cfg
			if call.Server != "" {
				one.Servers = []string{call.Server}
			}
			if desk[call.Server], err = client.New(one); err != nil {
				return err
			}
		}
		b, err := json.Marshal(makeCall(ctx, desk[call.Server], call))
		if err != nil {
			return err
		}
		if _, err := out.Write(append(b, '\n')); err != nil {
			return err
		}
	}
}

func makeCall(ctx context.Context, c *client.Client, call deskCall) (a deskAnswer) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var in any
	if len(call.Body) > 0 {
		in = call.Body
	}
	var raw []byte
	if err := c.Call(ctx, call.Method, call.Path, nil, "", in, &raw); err != nil {
		a.Error = err.Error()
		return a
	}
	if len(raw) > 0 {
		a.Body = raw
	}
	return a
}

// desk is the lab's end of a desk process.
type desk struct{ *talker }

func (l *nvaLab) openDesk(config string) (*desk, error) {
	t, err := l.startTalker("operator", "desk", "lab", "desk", "--config", config)
	return &desk{t}, err
}

// call makes one call; the answer goes into out, unless that is nil.
func (d *desk) call(call deskCall, out any) error {
	var a deskAnswer
	if err := d.ask(call, &a); err != nil {
		return err
	}
	if a.Error != "" {
		return fmt.Errorf("%s %s: %s", call.Method, call.Path, a.Error)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(a.Body, out)
}

func (d *desk) get(path string, out any) error {
	return d.call(deskCall{Method: "GET", Path: path}, out)
}
