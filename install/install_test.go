package install

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/understudy-ha/understudy/api"
)

var amd64 = Binary{Path: "/proc/self/exe", Arch: "amd64", Sum: strings.Repeat("a", 64), Size: 50 << 20}

func healthy() Target {
	return Target{OS: "Linux", Arch: "x86_64", Root: true, Systemd: true, FreeKiB: map[string]int64{"free.bin": 1 << 20, "free.dir": 1 << 20}}
}

// TestTheUnitIsOneForSystemd lets systemd itself read the unit.
func TestTheUnitIsOneForSystemd(t *testing.T) {
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Fatal("systemd-analyze is missing: run scripts/deps.sh (package systemd)")
	}
	root := t.TempDir()
	l := Spec{Root: root}.Layout()
	for _, f := range []string{l.Bin, l.Unit} {
		if err := os.MkdirAll(filepath.Dir(f), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write := func(file, text string, mode os.FileMode) {
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write(l.Bin, "#!/bin/sh\n", 0o755)
	for _, c := range []struct {
		text string
		ok   bool
	}{{unit(l), true}, {strings.Replace(unit(l), "KillMode=process", "KillMode=procces", 1), false}, {strings.Replace(unit(l), "OOMPolicy", "OOMPolice", 1), false}} {
		write(l.Unit, c.text, 0o644)
		out, err := exec.Command(tool, "verify", "--man=no", l.Unit).CombinedOutput()
		if ok := err == nil && !bytes.Contains(out, []byte(Service)); ok != c.ok {
			t.Errorf("systemd-analyze verify: %v, %s; want fine: %t", err, out, c.ok)
		}
	}
}

func TestSettingsComeBackFromTheFile(t *testing.T) {
	s := Settings{Controllers: []string{"10.0.9.1:7443", "[fe80::1]:7443"}, HealthListen: ":8080", PeerListen: "10.0.9.4:9444", PeerAddress: "a.example:9444", LogLevel: "debug"}
	if got := parseArgs(s.args()); !reflect.DeepEqual(got, s) {
		t.Errorf("%q gives %+v, want %+v", s.args(), got, s)
	}
	over := Settings{LogLevel: "warn"}.over(s)
	want := s
	want.LogLevel = "warn"
	if !reflect.DeepEqual(over, want) {
		t.Errorf("what is not given stays: %+v, want %+v", over, want)
	}
	// The shell reads the same from the file as systemd does.
	file := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(file, []byte(env(s)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("sh", "-c", ". "+file+` && printf %s "$UNDERSTUDY_AGENT_ARGS"`).Output()
	if err != nil || string(out) != s.args() {
		t.Errorf("the shell reads %q (%v), want %q", out, err, s.args())
	}
}

func TestCheckNamesWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Target, *Spec)
		want   string
	}{
		"system":    {func(t *Target, _ *Spec) { t.OS = "FreeBSD" }, "Linux"},
		"processor": {func(t *Target, _ *Spec) { t.Arch = "aarch64" }, "--binary"},
		"login":     {func(t *Target, _ *Spec) { t.Root = false }, "--become sudo"},
		"no init":   {func(t *Target, s *Spec) { t.Systemd, s.Init = false, Systemd }, "--init"},
		"root":      {func(_ *Target, s *Spec) { s.Root = "/srv/a" }, "--root"},
		"disk":      {func(t *Target, _ *Spec) { t.FreeKiB["free.bin"] = 1024 }, "164 MiB"},
		"state":     {func(t *Target, _ *Spec) { t.FreeKiB["free.dir"] = 1024 }, "64 MiB"},
		"node":      {func(t *Target, _ *Spec) { t.Enrolled = "other" }, "other, which this machine is enrolled as"},
	} {
		target, spec := healthy(), Spec{Node: "p1", Binary: amd64}
		if err := Check(target, spec); err != nil {
			t.Fatalf("a healthy machine is refused: %v", err)
		}
		c.change(&target, &spec)
		err := Check(target, spec)
		var bad *api.Invalid
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want a refusal that says %q", name, err, c.want)
		}
	}
}

func TestFlagsThatAShellWouldReadOtherwise(t *testing.T) {
	for _, s := range []Spec{{Dir: "/var/lib/$(x)"}, {Dir: "relative"}, {Dir: "/a/../b"}, {Root: "/a b"}, {Root: "/a'b"}, {Become: "su"}, {Init: "openrc"}, {Dir: "/"},
		{Settings: Settings{Controllers: []string{"a:1;reboot"}}}, {Settings: Settings{HealthListen: "8080"}}, {Settings: Settings{LogLevel: `x" y`}}} {
		if err := s.Validate(); err == nil {
			t.Errorf("%+v is taken", s)
		}
	}
	if err := (Spec{Dir: "/srv/understudy+1/agent", Root: "/tmp/a", Become: "sudo", Init: None, Settings: Settings{HealthListen: ":1"}}).Validate(); err != nil {
		t.Error(err)
	}
}

func TestPlansDoWhatIsNeeded(t *testing.T) {
	names := func(p Plan) (out []string) {
		for _, s := range p.Steps {
			out = append(out, s.Name)
		}
		return out
	}
	spec := Spec{Node: "p1", Binary: amd64}
	fresh := Install(healthy(), spec, "token")
	want := []string{"make the directories", "upload the binary (50 MiB)", "write /etc/understudy/agent.env", "write /etc/systemd/system/understudy-agent.service",
		"put them in place, keeping what was there", "leave the one-time token", "start it at boot", "start the agent"}
	if !reflect.DeepEqual(names(fresh), want) || fresh.Revive != "" {
		t.Errorf("a fresh machine: %q, revive %q", names(fresh), fresh.Revive)
	}
	there := healthy()
	there.Sum, there.Enrolled, there.Unit, there.Running = amd64.Sum, "p1", true, true
	again := Install(there, spec, "")
	if got := strings.Join(names(again), ", "); strings.Contains(got, "upload") || strings.Contains(got, "token") || again.Revive == "" {
		t.Errorf("the same again: %s, revive %q", got, again.Revive)
	}
	var shown bytes.Buffer
	fresh.Print(&shown)
	if strings.Contains(shown.String(), "| token") || !strings.Contains(shown.String(), "KillMode=process") {
		t.Errorf("a dry run shows the secret, or not the unit:\n%s", shown.String())
	}
}

func TestWrapIsWhatTheShellReads(t *testing.T) {
	command := `printf '%s' "it's $((1+1)) 'fine'"`
	out, err := exec.Command("sh", "-c", wrap("", command)).Output()
	if err != nil || string(out) != "it's 2 'fine'" {
		t.Errorf("%q, %v", out, err)
	}
	if !strings.HasPrefix(wrap("sudo", "id"), "sudo -n sh -c ") {
		t.Error(wrap("sudo", "id"))
	}
}

func FuzzParseTarget(f *testing.F) {
	f.Add("os=Linux\narch=x86_64\nuid=0\nfree.bin=1\nengine=4\nargs=--controllers a:1\n")
	f.Fuzz(func(t *testing.T, text string) {
		target, err := parseTarget(text)
		if err == nil && (target.OS == "" || target.Arch == "") {
			t.Errorf("%q is taken", text)
		}
	})
}
