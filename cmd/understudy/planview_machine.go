package main

import (
	"strings"

	"github.com/understudy-ha/understudy/api"
)

// machineStepWhat says in words what a step of a machine's or a recovery plan's job does.
func machineStepWhat(s api.Step) string {
	switch {
	case s.Await != nil:
		return "until " + s.Await.Engine + " of " + s.Await.Node + " is up to date"
	case s.Choose != nil:
		return choiceWords(s.Choose.Choice) + " of " + s.Choose.Stream + " in vault " + s.Choose.Vault.Name
	case s.Operate != nil && s.Operate.Operation != nil:
		return string(s.Operate.Operation.Operation) + " of " + subjectWord(s.Operate.Subject)
	case s.Operate != nil:
		return "move " + subjectWord(s.Operate.Subject) + " to " + s.Operate.To
	case s.Manual != nil:
		return s.Manual.Instructions
	}
	return ""
}

func choiceWords(p api.PointChoice) string {
	switch {
	case p.ID != "":
		return "point " + p.ID
	case !p.At.IsZero():
		return "the point at or before " + clockTime(p.At)
	}
	return string(p.Kind) + " point"
}

// engineWhat says what a node is told of a machine.
func engineWhat(s api.Section) string {
	switch {
	case s.Protect != nil:
		words := []string{"disks " + s.Protect.Mode}
		if s.Protect.Yield != nil {
			words = append(words, "hand over what was never shipped")
		}
		if s.Protect.PointNow != "" {
			words = append(words, "a point now")
		}
		if s.Protect.VM != nil {
			words = append(words, runs(s.Protect.Run))
		}
		if len(s.Protect.ProcessServers) > 0 {
			words = append(words, "shipped to "+strings.Join(s.Protect.ProcessServers, ", "))
		}
		return strings.Join(words, ", ")
	case s.Site != nil:
		words := []string{"run " + s.Site.Instance + " " + s.Site.Mode}
		if s.Site.VM != nil {
			words = append(words, runs(s.Site.Run))
		}
		if s.Site.Ship != nil {
			words = append(words, "shipped to "+strings.Join(s.Site.Ship.ProcessServers, ", "))
		}
		return strings.Join(words, ", ")
	}
	return s.Engine
}

func runs(run bool) string {
	if run {
		return "VM on"
	}
	return "VM off"
}
