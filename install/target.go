package install

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/understudy-ha/understudy/api"
)

// Target is what a machine says of itself. Nothing is changed to learn it.
type Target struct {
	OS, Arch string // as uname says: "Linux", "x86_64"
	Root     bool   // commands run as root
	Systemd  bool
	FreeKiB  map[string]int64 // at Bin and Dir
	Sum      string           // of the binary that is there; "" for none
	Version  string           // of that
	Enrolled string           // node that the directory's agent is; "" for none
	Settings Settings         // of the agent that is there
	Unit     bool             // a unit is installed
	Running  bool             // an agent of this layout runs
	Engines  []int            // processes of engines that it started, by pid
}

// Init that the target has, unless one is wanted.
func (t Target) Init(want Init) Init {
	switch {
	case want != "":
		return want
	case t.Systemd:
		return Systemd
	}
	return None
}

const kib = 1024

// spareKiB is what must stay free: the agent's state and logs.
const spareKiB = 64 * kib

// look prints one key=value a line.
const look = `
free() { d=$1; while [ ! -d "$d" ]; do d=$(dirname "$d"); done; df -Pk "$d" | awk 'NR==2 {print $4}'; }
echo "os=$(uname -s)"
echo "arch=$(uname -m)"
echo "uid=$(id -u)"
[ -d /run/systemd/system ] && echo systemd=yes
echo "free.bin=$(free $(dirname {BIN}))"
echo "free.dir=$(free {DIR})"
if [ -f {BIN} ]; then echo "sum=$(sha256sum {BIN} | cut -d' ' -f1)"; echo "version=$({BIN} --version 2>/dev/null | head -n 1)"; fi
[ -f {DIR}/identity.json ] && echo "node=$(sed -n 's/^ *"node": *"\([^"]*\)".*/\1/p' {DIR}/identity.json | head -n 1)"
[ -f {ENV} ] && echo "args=$(sed -n 's/^UNDERSTUDY_AGENT_ARGS="\(.*\)"$/\1/p' {ENV})"
[ -f {UNIT} ] && echo unit=yes
for p in $(PROCESSES); do
  case "$(tr '\0' ' ' < $p 2>/dev/null)" in
  "{BIN} agent --dir {DIR} "*) echo running=yes ;;
  "{BIN} engine --dir {DIR}/engines/"*) echo "engine=$(echo $p | cut -d/ -f3)" ;;
  esac
done
exit 0
`

// processes are the command lines of those that are our binary's, or of those that name it.
const processes = `grep -lsxzF "{BIN}" /proc/[0-9]*/cmdline`

// fill puts the layout's paths into a command.
func (l Layout) fill(command string) string {
	return strings.NewReplacer("PROCESSES", strings.ReplaceAll(processes, "{BIN}", l.Bin), "{BIN}", l.Bin, "{DIR}", l.Dir, "{ENV}", l.Env, "{UNIT}", l.Unit, "{TOKEN}", l.Token, "{PID}", l.Pid, "{LOG}", l.Log).Replace(command)
}

// Look asks the machine what it is.
func Look(ctx context.Context, r Runner, s Spec) (Target, error) {
	out, err := r.Run(ctx, wrap(s.Become, s.Layout().fill(look)), nil)
	if err != nil {
		if s.Become == "sudo" && strings.Contains(err.Error(), "password") {
			return Target{}, fmt.Errorf("%w; allow the login sudo without a password (NOPASSWD), or connect as root", err)
		}
		return Target{}, fmt.Errorf("look at the machine: %w", err)
	}
	return parseTarget(out)
}

func parseTarget(text string) (t Target, err error) {
	t.FreeKiB = map[string]int64{}
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), "=")
		if !ok {
			continue
		}
		switch key {
		case "os":
			t.OS = value
		case "arch":
			t.Arch = value
		case "uid":
			t.Root = value == "0"
		case "systemd":
			t.Systemd = true
		case "free.bin", "free.dir":
			if t.FreeKiB[key], err = strconv.ParseInt(value, 10, 64); err != nil {
				return t, fmt.Errorf("the machine says that %s is %q: want a number", key, value)
			}
		case "sum":
			t.Sum = value
		case "version":
			t.Version = strings.TrimPrefix(value, "understudy ")
		case "node":
			t.Enrolled = value
		case "args":
			t.Settings = parseArgs(value)
		case "unit":
			t.Unit = true
		case "running":
			t.Running = true
		case "engine":
			if pid, err := strconv.Atoi(value); err == nil {
				t.Engines = append(t.Engines, pid)
			}
		}
	}
	if t.OS == "" || t.Arch == "" {
		return t, fmt.Errorf("the machine does not say what it is: it answered %q", text)
	}
	return t, nil
}

// Check refuses a machine on which the spec cannot work, as an *api.Invalid.
func Check(t Target, s Spec) error {
	var bad api.Invalid
	if t.OS != "Linux" {
		bad.Add("the machine's system", t.OS, "Linux")
	}
	arch := map[string]string{"x86_64": "amd64", "aarch64": "arm64"}[t.Arch]
	if arch != s.Binary.Arch {
		bad.Add("the machine's processor", t.Arch, "one that the binary is for ("+s.Binary.Arch+"); give another build with --binary")
	}
	if !t.Root {
		bad.Add("the login", "not root's", "root, or --become sudo")
	}
	if t.Init(s.Init) == Systemd && !t.Systemd {
		bad.Add("--init", string(Systemd), "none: systemd does not run there")
	}
	if t.Init(s.Init) == Systemd && s.Root != "" {
		bad.Add("--root", s.Root, "none with systemd, which looks for its units elsewhere; or --init none")
	}
	if need := 2*s.Binary.Size/kib + spareKiB; t.FreeKiB["free.bin"] < need {
		bad.Add("free space at "+s.Layout().Bin, fmt.Sprintf("%d MiB", t.FreeKiB["free.bin"]/kib), fmt.Sprintf("%d MiB", need/kib))
	}
	if t.FreeKiB["free.dir"] < spareKiB {
		bad.Add("free space at "+s.Layout().Dir, fmt.Sprintf("%d MiB", t.FreeKiB["free.dir"]/kib), fmt.Sprintf("%d MiB", spareKiB/kib))
	}
	if t.Enrolled != "" && t.Enrolled != s.Node {
		bad.Add("--node", s.Node, t.Enrolled+", which this machine is enrolled as; or uninstall it with --purge first")
	}
	return bad.Err()
}
