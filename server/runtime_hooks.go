package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/cloud"
	"github.com/understudy-ha/understudy/controller"
)

// hooks runs the hooks of groups.
type hooks struct{ dir string }

// hookInput is what a hook gets as JSON: a webhook as its body, a program on standard input.
type hookInput struct {
	When       string      `json:"when"` // before or after
	Hook       string      `json:"hook"`
	Group      api.Ref     `json:"group"` // what moves: an appliance group or a recovery plan
	Job        string      `json:"job"`
	Kind       api.JobKind `json:"kind"`
	From       string      `json:"from,omitempty"`
	To         string      `json:"to"`
	Reason     string      `json:"reason"`
	ClusterID  string      `json:"clusterID"`
	Epoch      int64       `json:"epoch"`
	Generation int64       `json:"generation"`
}

// maxHookOutput is how much of a hook's answer is kept.
const maxHookOutput = 512

func (h *hooks) run(ctx context.Context, e controller.Execute) (string, error) {
	if e.Step.Hook == nil {
		return "", fmt.Errorf("%w: step %s has no hook", cloud.ErrPermanent, e.Step.ID)
	}
	hook := e.Step.Hook.Hook
	input, err := json.Marshal(hookInput{When: e.Step.Hook.When, Hook: hook.Name, Group: e.Subject, Job: e.Job.Metadata.Name,
		Kind: e.Job.Spec.Kind, From: e.Job.Spec.From, To: e.Job.Spec.To, Reason: e.Job.Spec.Reason,
		ClusterID: e.Token.ClusterID, Epoch: e.Token.Epoch, Generation: e.Token.Generation})
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, hook.Timeout.D())
	defer cancel()
	if hook.URL != "" {
		return postHook(ctx, hook.URL, input)
	}
	return runHook(ctx, filepath.Join(h.dir, filepath.Base(hook.Exec)), input)
}

func postHook(ctx context.Context, url string, input []byte) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(input))
	if err != nil {
		return "", fmt.Errorf("%w: %w", cloud.ErrPermanent, err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxHookOutput))
	if err != nil {
		return "", err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return "", fmt.Errorf("webhook answered %s: %s", resp.Status, bytes.TrimSpace(b))
	}
	return resp.Status, nil
}

func runHook(ctx context.Context, path string, input []byte) (string, error) {
	cmd := exec.CommandContext(ctx, path)
	cmd.Stdin = bytes.NewReader(input)
	var out tail
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // its children end with it
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = ctx.Err()
		}
		return "", fmt.Errorf("%s: %w: %s", filepath.Base(path), err, out.text())
	}
	return "exit status 0", nil
}

// tail keeps the end of what is written to it.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if len(t.b) > maxHookOutput {
		t.b = append(t.b[:0], t.b[len(t.b)-maxHookOutput:]...)
	}
	return len(p), nil
}

func (t *tail) text() string { return string(bytes.TrimSpace(bytes.ToValidUTF8(t.b, nil))) }
