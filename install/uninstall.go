package install

import (
	"fmt"
	"strings"
)

// Uninstall plans what takes the agent away. Its directory stays, with the node's identity, unless purge is set. With force the engines
// that it started are ended, which CheckUninstall refuses otherwise.
func Uninstall(t Target, s Spec, purge, force bool) Plan {
	l := s.Layout()
	systemd := t.Init(s.Init) == Systemd
	p := Plan{Become: s.Become, Steps: []Step{{Name: "stop the agent", Command: l.stop(systemd)}}}
	if systemd {
		p.Steps[0].Command = "systemctl --quiet disable --now " + Service + ".service 2>/dev/null || [ ! -e " + l.Unit + " ]"
	}
	if force {
		p.Steps = append(p.Steps, Step{Name: "end the engines", Command: l.fill(endEngines)})
	}
	remove := "rm -f"
	for _, f := range []string{l.Bin, l.Env, l.Unit} {
		remove += " " + f + " " + f + ".previous " + f + ".new"
	}
	if systemd {
		remove += " && systemctl daemon-reload"
	}
	p.Steps = append(p.Steps, Step{Name: "remove the binary, its settings and the unit", Command: remove})
	if purge {
		p.Steps = append(p.Steps, Step{Name: "remove the agent's directory", Command: l.fill("rm -rf {DIR}")})
	}
	return p
}

// endEngines asks those that are left, waits, then kills.
const endEngines = `
for sig in TERM TERM TERM TERM TERM TERM TERM TERM TERM TERM KILL; do
  left=
  for p in $(PROCESSES); do
    case "$(tr '\0' ' ' < $p 2>/dev/null)" in "{BIN} engine --dir {DIR}/engines/"*) left=yes; kill -$sig $(echo $p | cut -d/ -f3) ;; esac
  done
  [ -n "$left" ] || break
  sleep 1
done`

// CheckUninstall refuses to take an agent away under which something runs.
func CheckUninstall(t Target, force bool) error {
	if len(t.Engines) > 0 && !force {
		return fmt.Errorf("%d engines of this node run (processes %s): disable or move what it protects and runs first, or end them with --force",
			len(t.Engines), strings.Trim(fmt.Sprint(t.Engines), "[]"))
	}
	if !t.Root {
		return fmt.Errorf("the login is not root's: want root, or --become sudo")
	}
	return nil
}

// Tidy is the command that removes the one-time token once it is used up.
func Tidy(s Spec) string { return wrap(s.Become, "rm -f "+s.Layout().Token) }

// Said is the command that tells what the agent said last.
func Said(t Target, s Spec) string {
	if t.Init(s.Init) == Systemd {
		return wrap(s.Become, "journalctl --no-pager -q -o cat -n 10 -u "+Service+".service")
	}
	return wrap(s.Become, s.Layout().fill("tail -n 10 {LOG}"))
}
