package install

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/install/sshtest"
)

func address(t *testing.T, text string) Address {
	t.Helper()
	a, err := ParseAddress(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestParseAddress(t *testing.T) {
	for text, want := range map[string]string{"root@h": "root@h:22", "ann@10.0.9.1:2222": "ann@10.0.9.1:2222", "r@[fe80::1]": "r@[fe80::1]:22", "r@[fe80::1]:2": "r@[fe80::1]:2", "a@b@h": "a@b@h:22"} {
		if got := address(t, text).String(); got != want {
			t.Errorf("%s is %s, want %s", text, got, want)
		}
	}
	for _, text := range []string{"", "h", "@h", "r@", "r@:22"} {
		if _, err := ParseAddress(text); err == nil || !strings.Contains(err.Error(), "--host") {
			t.Errorf("%q: %v, want a refusal of --host", text, err)
		}
	}
}

// TestHostKeysAreVerified logs in to a real server with every way of knowing its key, and with wrong ones.
func TestHostKeysAreVerified(t *testing.T) {
	s := sshtest.Start(t, "")
	a := address(t, s.Address)
	empty := filepath.Join(t.TempDir(), "known")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	known, err := os.ReadFile(s.Known)
	if err != nil {
		t.Fatal(err)
	}
	other := sshtest.Start(t, "")
	stolen := filepath.Join(t.TempDir(), "known")
	theirs, err := os.ReadFile(other.Known)
	if err != nil {
		t.Fatal(err)
	}
	host, _, _ := strings.Cut(string(known), " ")
	_, key, _ := strings.Cut(string(theirs), " ")
	if err := os.WriteFile(stolen, []byte(host+" "+key), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		keys    HostKeys
		refused bool
		says    string
	}{
		{"known hosts", HostKeys{Files: []string{s.Known}}, false, ""},
		{"fingerprint", HostKeys{Fingerprint: s.Fingerprint}, false, ""},
		{"fingerprint of the second key", HostKeys{Fingerprint: s.FingerprintRSA}, false, ""},
		{"not known", HostKeys{Files: []string{empty}}, true, "--accept-host-key SHA256:"},
		{"no file at all", HostKeys{}, true, "--accept-host-key SHA256:"},
		{"another one known", HostKeys{Files: []string{stolen}}, true, "somebody may be in between"},
		{"another fingerprint", HostKeys{Fingerprint: other.Fingerprint}, true, "somebody may be in between"},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		r, err := Dial(ctx, a, c.keys, Login{IdentityFile: s.Key})
		var unknown *UnknownHost
		if refused := errors.As(err, &unknown); refused != c.refused || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want refused %t, saying %q", c.name, err, c.refused, c.says)
		}
		if r == nil {
			continue
		}
		out, err := r.Run(ctx, wrap("", `cat; echo "and $((1+1))"`), strings.NewReader("read\n"))
		if err != nil || out != "read\nand 2\n" {
			t.Errorf("%s: a command gives %q, %v", c.name, out, err)
		}
		if _, err := r.Run(ctx, wrap("", "echo why >&2; exit 3"), nil); err == nil || !strings.Contains(err.Error(), "why") {
			t.Errorf("%s: a command that fails gives %v", c.name, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestAKeyThatIsNotTheirsIsRefused(t *testing.T) {
	s, other := sshtest.Start(t, ""), sshtest.Start(t, "")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := Dial(ctx, address(t, s.Address), HostKeys{Fingerprint: s.Fingerprint}, Login{IdentityFile: other.Key}); err == nil {
		t.Error("a foreign key logs in")
	}
}

// TestAPlanThatFailsIsUndone breaks each step in turn, then carries all of them out over ssh: what was there before is there again, byte by byte.
func TestAPlanThatFailsIsUndone(t *testing.T) {
	t.Setenv("TMPDIR", "/dev/shm") // dozens of syncs on a busy disk would take their time
	s := sshtest.Start(t, "")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	r, err := Dial(ctx, address(t, s.Address), HostKeys{Files: []string{s.Known}}, Login{IdentityFile: s.Key})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho understudy new\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, before := range []map[string]string{{}, {"usr/local/bin/understudy": "#!/bin/sh\necho understudy old\n", "etc/understudy/agent.env": "UNDERSTUDY_AGENT_ARGS=\"--log-level warn\"\n"}} {
		root := t.TempDir()
		for name, text := range before {
			path := filepath.Join(root, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o755)); err != nil {
				t.Fatal(err)
			}
		}
		spec := Spec{Node: "p1", Root: root, Init: None, Binary: Binary{Path: program, Sum: sumOf(t, program), Size: 1}}
		target, err := Look(ctx, r, spec)
		if err != nil {
			t.Fatal(err)
		}
		if len(before) > 0 && (target.Version != "old" || target.Settings.LogLevel != "warn") {
			t.Errorf("the machine is %+v", target)
		}
		plan := Install(target, spec, "a.token")
		for broken := range plan.Steps {
			cut := plan
			cut.Steps = append([]Step(nil), plan.Steps...)
			cut.Steps[broken].Command += "\nfalse"
			err := cut.Run(ctx, Local{}, nil, func(string) {})
			var failed *Failed
			if !errors.As(err, &failed) || failed.Undo != nil || failed.Step != plan.Steps[broken].Name {
				t.Errorf("step %d fails: %v", broken, err)
			}
			sameFiles(t, root, before)
		}
		err = plan.Run(ctx, r, func(context.Context) error { return errors.New("never connected") }, func(string) {})
		if err == nil || !strings.Contains(err.Error(), "never connected; the machine is as it was before") {
			t.Errorf("an agent that does not connect: %v", err)
		}
		sameFiles(t, root, before)
		if err := plan.Run(ctx, r, nil, func(string) {}); err != nil {
			t.Error(err)
		}
		if b, _ := os.ReadFile(filepath.Join(root, "etc/understudy/agent.env")); len(before) > 0 && !strings.Contains(string(b), "--log-level warn") {
			t.Errorf("settings are not kept: %s", b)
		}
	}
}

func sumOf(t *testing.T, path string) string {
	t.Helper()
	out, err := Local{}.Run(context.Background(), "sha256sum "+path+" | cut -d' ' -f1", nil)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// sameFiles looks at what is installed, the copies that are kept aside.
func sameFiles(t *testing.T, root string, want map[string]string) {
	t.Helper()
	for _, name := range []string{"usr/local/bin/understudy", "usr/local/bin/understudy.new", "etc/understudy/agent.env", "etc/understudy/agent.env.new",
		"var/lib/understudy/agent/token", "var/lib/understudy/agent/pid"} {
		b, err := os.ReadFile(filepath.Join(root, name))
		if text, there := want[name]; there != (err == nil) || string(b) != text {
			t.Errorf("%s: %q, %v; want %q", name, b, err, text)
		}
	}
}
