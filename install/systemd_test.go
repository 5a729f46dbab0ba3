package install

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/install/sshtest"
)

// TestWhatSystemdIsAsked carries plans out on a machine whose systemctl writes down what it is asked.
func TestWhatSystemdIsAsked(t *testing.T) {
	dir := t.TempDir()
	asked := filepath.Join(dir, "asked")
	program := filepath.Join(dir, "program")
	for file, text := range map[string]string{filepath.Join(dir, "systemctl"): "#!/bin/sh\necho \"$*\" >> " + asked + "\n", program: "#!/bin/sh\necho understudy new\n"} {
		if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s := sshtest.Start(t, dir+":/usr/sbin:/usr/bin:/sbin:/bin")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	r, err := Dial(ctx, address(t, s.Address), HostKeys{Files: []string{s.Known}}, Login{IdentityFile: s.Key})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	spec := Spec{Node: "p1", Root: filepath.Join(dir, "root"), Init: Systemd, Binary: Binary{Path: program, Sum: sumOf(t, program), Size: 1}}
	do := func(t *testing.T, p Plan, done func(context.Context) error, want ...string) error {
		t.Helper()
		_ = os.Remove(asked)
		err := p.Run(ctx, r, done, func(string) {})
		b, _ := os.ReadFile(asked)
		got := strings.Split(strings.TrimSpace(string(b)), "\n")
		for i := range got {
			got[i] = strings.ReplaceAll(strings.ReplaceAll(got[i], "--quiet ", ""), Service+".service", "it")
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("systemctl is asked\n%q, want\n%q", got, want)
		}
		return err
	}
	look := func() Target {
		t.Helper()
		target, err := Look(ctx, r, spec)
		if err != nil {
			t.Fatal(err)
		}
		return target
	}
	unitFile := spec.Layout().Unit
	never := func(context.Context) error { return errors.New("never") }
	begin := []string{"daemon-reload", "enable it", "stop it", "daemon-reload", "start it"}

	if err := do(t, Install(look(), spec, "a.token"), never, append(begin, "stop it", "disable it", "daemon-reload")...); err == nil {
		t.Error("an agent that does not connect is taken for a success")
	}
	if _, err := os.Stat(unitFile); err == nil {
		t.Error("the unit is left")
	}
	if err := do(t, Install(look(), spec, "a.token"), nil, begin...); err != nil {
		t.Error(err)
	}
	target := look()
	if b, err := os.ReadFile(unitFile); err != nil || string(b) != unit(spec.Layout()) || !target.Unit {
		t.Errorf("the unit: %s, %v", b, err)
	}
	target.Running = true // as systemd would have it
	if err := do(t, Install(target, spec, ""), never, append(begin, "stop it", "daemon-reload", "daemon-reload", "start it")...); err == nil {
		t.Error("an upgrade that does not connect is taken for a success")
	}
	if err := do(t, Uninstall(target, spec, true, false), nil, "disable --now it", "daemon-reload"); err != nil {
		t.Error(err)
	}
	for _, f := range []string{unitFile, spec.Layout().Bin, spec.Layout().Env, spec.Layout().Dir} {
		if _, err := os.Stat(f); err == nil {
			t.Errorf("%s is left", f)
		}
	}
}
