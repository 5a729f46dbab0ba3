// Package install puts the agent on a Linux machine, this one or another that SSH reaches, and takes it away again.
//
// What is done is decided apart from doing it: Look asks the machine what it is, Check refuses what cannot work, Install
// and Uninstall give a Plan of shell commands, each with the command that undoes it, and Run carries a plan out. The engines
// that an agent started outlive its restart, and so every upgrade.
package install

import (
	"fmt"
	"net"
	"path"
	"regexp"
	"strings"

	"github.com/understudy-ha/understudy/api"
)

// Init is what starts the agent on the machine.
type Init string

// The inits.
const (
	Systemd Init = "systemd" // a unit, started at boot
	None    Init = "none"    // started once, in a session of its own, with a pidfile: for containers and machines without systemd
)

// Service is the name of the unit and of the files.
const Service = "understudy-agent"

// Settings are the agent's own flags. Those that are empty stay as they are on the machine.
type Settings struct {
	// Controllers (host:port). Needed on a machine that is not enrolled.
	Controllers []string
	// HealthListen, PeerListen, PeerAddress (host:port) and LogLevel: see the verb agent.
	HealthListen, PeerListen, PeerAddress, LogLevel string
}

// Spec is what is wanted.
type Spec struct {
	// Node that the machine is to be.
	Node string
	// Settings of the agent.
	Settings Settings
	// Init; "" takes systemd where it runs.
	Init Init
	// Root is put before every path; "" for none. For several agents on one machine.
	Root string
	// Dir of the agent. Default: /var/lib/understudy/agent.
	Dir string
	// Become goes before every command: "sudo", or "" for a login that is root's.
	Become string
	// Binary to install.
	Binary Binary
}

// Layout is where things lie on the machine.
type Layout struct {
	Bin, Dir, Env, Unit string
	// Token, Pid and Log: the one-time token until it is used; without systemd the agent's process and what it says.
	Token, Pid, Log string
}

// Layout of the spec.
func (s Spec) Layout() Layout {
	dir := s.Dir
	if dir == "" {
		dir = "/var/lib/understudy/agent"
	}
	dir = s.Root + dir
	return Layout{Bin: s.Root + "/usr/local/bin/understudy", Dir: dir, Env: s.Root + "/etc/understudy/agent.env",
		Unit: s.Root + "/etc/systemd/system/" + Service + ".service", Token: path.Join(dir, "token"), Pid: path.Join(dir, "pid"), Log: path.Join(dir, "agent.log")}
}

// plainPath has nothing that a shell, systemd or an environment file would take for something else.
var plainPath = regexp.MustCompile(`^/[A-Za-z0-9._+@/-]*[A-Za-z0-9._+@-]$`)

// Validate refuses what no machine could take, as an *api.Invalid with the flags' names.
func (s Spec) Validate() error {
	var bad api.Invalid
	for _, p := range []struct{ flag, path string }{{"--dir", s.Dir}, {"--root", s.Root}} {
		if p.path != "" && (!plainPath.MatchString(p.path) || path.Clean(p.path) != p.path) {
			bad.Add(p.flag, p.path, "an absolute path of letters, digits and ._+@-")
		}
	}
	if s.Init != "" && s.Init != Systemd && s.Init != None {
		bad.Add("--init", string(s.Init), "systemd or none")
	}
	if s.Become != "" && s.Become != "sudo" {
		bad.Add("--become", s.Become, "sudo, or nothing for a login that is root's")
	}
	s.Settings.validate(&bad)
	return bad.Err()
}

func (s Settings) validate(bad *api.Invalid) {
	for i, c := range s.Controllers {
		hostPort(bad, fmt.Sprintf("--controllers[%d]", i), c)
	}
	for _, f := range []struct{ flag, text string }{{"--health-listen", s.HealthListen}, {"--peer-listen", s.PeerListen}, {"--peer-address", s.PeerAddress}} {
		if f.text != "" {
			hostPort(bad, f.flag, f.text)
		}
	}
	switch s.LogLevel {
	case "", "debug", "info", "warn", "error":
	default:
		bad.Add("--log-level", s.LogLevel, "debug, info, warn or error")
	}
}

// plainAddress as plainPath.
var plainAddress = regexp.MustCompile(`^[A-Za-z0-9._:\[\]-]+$`)

func hostPort(bad *api.Invalid, flag, text string) {
	if _, port, err := net.SplitHostPort(text); err != nil || port == "" || !plainAddress.MatchString(text) {
		bad.Add(flag, text, `HOST:PORT, like "10.0.9.1:7443"`)
	}
}

// args are the settings as flags of the verb agent.
func (s Settings) args() string {
	var out []string
	for _, f := range []struct{ flag, value string }{{"--controllers", strings.Join(s.Controllers, ",")}, {"--health-listen", s.HealthListen},
		{"--peer-listen", s.PeerListen}, {"--peer-address", s.PeerAddress}, {"--log-level", s.LogLevel}} {
		if f.value != "" {
			out = append(out, f.flag, f.value)
		}
	}
	return strings.Join(out, " ")
}

// parseArgs reads what args gave; what it does not know is left out.
func parseArgs(text string) (s Settings) {
	fields := strings.Fields(text)
	for i := 0; i+1 < len(fields); i += 2 {
		switch v := fields[i+1]; fields[i] {
		case "--controllers":
			s.Controllers = strings.Split(v, ",")
		case "--health-listen":
			s.HealthListen = v
		case "--peer-listen":
			s.PeerListen = v
		case "--peer-address":
			s.PeerAddress = v
		case "--log-level":
			s.LogLevel = v
		}
	}
	return s
}

// over gives s, and what s leaves open from old.
func (s Settings) over(old Settings) Settings {
	if len(s.Controllers) == 0 {
		s.Controllers = old.Controllers
	}
	for _, f := range []struct {
		now *string
		old string
	}{{&s.HealthListen, old.HealthListen}, {&s.PeerListen, old.PeerListen}, {&s.PeerAddress, old.PeerAddress}, {&s.LogLevel, old.LogLevel}} {
		if *f.now == "" {
			*f.now = f.old
		}
	}
	return s
}
