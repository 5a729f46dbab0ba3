package install

import (
	"fmt"
	"path"
	"strings"
)

// Step is one command.
type Step struct {
	// Name for people, like "upload the binary".
	Name string
	// Command for a POSIX shell; doing it twice does no harm.
	Command string
	// Input is what the command reads.
	Input Input
	// Undo makes the machine what it was before the step, whether the step was done or failed halfway; "" where nothing is to be undone.
	Undo string
}

// Input of a step: a file of ours, or a text; a secret one is not shown to anybody.
type Input struct {
	File   string
	Text   string
	Secret bool
}

// Plan is what is done, one step after the other.
type Plan struct {
	Steps []Step
	// Revive starts again what ran before, once everything is undone; "" if nothing did.
	Revive string
	// Become as in Spec.
	Become string
}

// Install plans what makes a target as the spec wants it. A token is for a target that is not enrolled; "" with one that is.
func Install(t Target, s Spec, token string) Plan {
	l := s.Layout()
	systemd := t.Init(s.Init) == Systemd
	p := Plan{Become: s.Become}
	if t.Running {
		p.Revive = l.start(systemd)
	}
	p.add("make the directories", "umask 022 && mkdir -p "+strings.Join(l.parents(), " ")+" && mkdir -p -m 0700 "+l.Dir, Input{}, "")
	var files []string
	if t.Sum != s.Binary.Sum {
		files = append(files, l.Bin)
		p.add(fmt.Sprintf("upload the binary (%d MiB)", s.Binary.Size>>20), l.upload(s.Binary), Input{File: s.Binary.Path}, "rm -f "+l.Bin+".new")
	}
	files = append(files, l.Env)
	p.add("write "+l.Env, stage(l.Env, "0600"), Input{Text: env(s.Settings.over(t.Settings))}, "rm -f "+l.Env+".new")
	if systemd {
		files = append(files, l.Unit)
		p.add("write "+l.Unit, stage(l.Unit, "0644"), Input{Text: unit(l)}, "rm -f "+l.Unit+".new")
	}
	undo := each(files, restore)
	if systemd {
		undo += "\nsystemctl daemon-reload"
	}
	p.add("put them in place, keeping what was there", each(files, place), Input{}, undo)
	if token != "" {
		p.add("leave the one-time token", "umask 077 && cat > "+l.Token, Input{Text: token + "\n", Secret: true}, "rm -f "+l.Token)
	}
	if systemd {
		p.add("start it at boot", "systemctl daemon-reload && systemctl --quiet enable "+Service+".service", Input{}, l.disable(t))
	}
	p.add("start the agent", l.stop(systemd)+"\n"+l.start(systemd), Input{}, l.stop(systemd))
	return p
}

func (p *Plan) add(name, command string, in Input, undo string) {
	p.Steps = append(p.Steps, Step{Name: name, Command: command, Input: in, Undo: undo})
}

// parents of everything but what is in the agent's directory.
func (l Layout) parents() []string {
	return []string{path.Dir(l.Bin), path.Dir(l.Env), path.Dir(l.Unit), path.Dir(l.Dir)}
}

// stage writes a file beside its place.
func stage(file, mode string) string {
	return fmt.Sprintf("umask 077 && cat > %[1]s.new && chmod %[2]s %[1]s.new && sync %[1]s.new", file, mode)
}

// upload is a stage that ends well only if the checksum is right and the binary runs there.
func (l Layout) upload(b Binary) string {
	return stage(l.Bin, "0755") + l.fill(strings.ReplaceAll(` || exit 1
sum=$(sha256sum {BIN}.new | cut -d' ' -f1)
[ "$sum" = SUM ] || { echo "the upload's checksum is $sum, want SUM" >&2; exit 1; }
{BIN}.new --version >/dev/null || { echo "the binary does not run on this machine" >&2; exit 1; }`, "SUM", b.Sum))
}

func each(files []string, command string) string {
	var out []string
	for _, f := range files {
		out = append(out, strings.ReplaceAll(command, "{F}", f))
	}
	return strings.Join(out, "\n")
}

const (
	// place keeps a copy of what is there, if anything is, and puts the staged file in its place by a rename.
	place = `if [ -e {F} ]; then cp -p {F} {F}.keep && mv -f {F}.keep {F}.previous; else rm -f {F}.previous; fi && mv -f {F}.new {F} && sync $(dirname {F}) || exit 1`
	// restore undoes place. A staged file that is still there was never put in place.
	restore = `if [ -e {F}.new ]; then rm -f {F}.new; elif [ -e {F}.previous ]; then cp -p {F}.previous {F}.keep && mv -f {F}.keep {F}; else rm -f {F}; fi`
)

// disable undoes enabling. It comes before the files are restored, so what was there is loaded by start.
func (l Layout) disable(t Target) string {
	if t.Unit {
		return ""
	}
	return "systemctl --quiet disable " + Service + ".service"
}

// start starts the agent. Without systemd it gets a session of its own, so that nothing that ends the login ends it.
func (l Layout) start(systemd bool) string {
	if systemd {
		return "systemctl daemon-reload && systemctl start " + Service + ".service"
	}
	return strings.ReplaceAll(l.fill(`rm -f {PID}
set -a && . {ENV} && set +a && setsid sh -c 'echo $$ > {PID}; exec COMMAND' </dev/null >>{LOG} 2>&1 &
n=0; while [ ! -s {PID} ] && [ $n -lt 100 ]; do sleep 0.1; n=$((n+1)); done; [ -s {PID} ]`), "COMMAND", l.command())
}

// stop stops the agent, and it alone: the pidfile's process, if that is still the agent.
func (l Layout) stop(systemd bool) string {
	if systemd {
		return "systemctl stop " + Service + ".service"
	}
	return l.fill(`ours() { [ -n "$pid" ] && case "$(tr '\0' ' ' < /proc/$pid/cmdline 2>/dev/null)" in "{BIN} agent --dir {DIR} "*) true ;; *) false ;; esac; }
pid=$(cat {PID} 2>/dev/null) || pid=
if ours; then kill -TERM $pid; fi
n=0; while ours && [ $n -lt 150 ]; do sleep 0.2; n=$((n+1)); done
if ours; then kill -KILL $pid; fi
rm -f {PID}`)
}
