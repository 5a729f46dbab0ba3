package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// machineColumns is columns of the kinds that have to do with machines.
func machineColumns(k api.Kind) []string {
	switch k {
	case api.KindSite:
		return []string{"NAME", "CONTROLLERS", "STORE NODES", "NODES", "AGE"}
	case api.KindFabric:
		return []string{"NAME", "TYPE", "SITE", "NODES", "AGE"}
	case api.KindVault:
		return []string{"NAME", "SITE", "URL", "KEEPER", "KEEPS", "AGE"}
	case api.KindReplicationPolicy:
		return []string{"NAME", "RPO", "RETENTION", "CRASH-CONSISTENT", "APP-CONSISTENT", "AGE"}
	case api.KindProcessServer:
		return []string{"NAME", "SITE", "NODE", "ADDRESS", "ROLES", "SPOOL", "AGE"}
	case api.KindProtectedMachine:
		return []string{"NAME", "PROTECTION", "ACTIVE", "HEALTH", "RPO", "DRILL", "JOB", "CONDITIONS", "AGE"}
	case api.KindRecoveryPlan:
		return []string{"NAME", "GROUPS", "MACHINES", "JOB", "CONDITIONS", "AGE"}
	}
	return []string{"NAME", "AGE"}
}

// machineRow gives the cells under machineColumns.
func machineRow(now time.Time, o api.Object) []string {
	m := o.Head().Metadata
	cells := []string{m.Name}
	switch o := o.(type) {
	case *api.Site:
		cells = append(cells, commas(o.Spec.Controllers), commas(o.Spec.StoreNodes), commas(o.Spec.Nodes))
	case *api.Fabric:
		cells = append(cells, string(o.Spec.Type), o.Spec.Site, commas(o.Spec.Nodes))
	case *api.Vault:
		cells = append(cells, o.Spec.Site, o.Spec.URL, o.Spec.Keeper, fmt.Sprintf("%s, %v", o.Spec.Tier, o.Spec.MaxRetention))
	case *api.ReplicationPolicy:
		cells = append(cells, o.Spec.RPOThreshold.String(), o.Spec.Retention.String(), every(o.Spec.CrashConsistentEvery), every(o.Spec.AppEvery()))
	case *api.ProcessServer:
		site := o.Spec.Site
		if o.Spec.Temporary {
			site += " (temporary)"
		}
		cells = append(cells, site, o.Spec.Node, o.Spec.Address, joined(o.Spec.Roles), byteWords(o.Spec.Spool.MaxBytes))
	case *api.ProtectedMachine:
		s := &o.Status
		cells = append(cells, protectionWords(s), activeWords(s), orDash(string(s.ReplicationHealth)), rpoWords(s), drillWords(now, s),
			scenarioWords(s.CurrentScenario), conditionCodes(s.Conditions))
	case *api.RecoveryPlan:
		cells = append(cells, fmt.Sprint(len(o.Spec.Groups)), planMachines(o), scenarioWords(o.Status.CurrentScenario), conditionCodes(o.Status.Conditions))
	}
	return append(cells, age(now, m.Created))
}

func commas(words []string) string { return orDash(strings.Join(words, ", ")) }

// every says how often something is done; 0 is never.
func every(d api.Duration) string {
	if d == 0 {
		return "never"
	}
	return "every " + d.String()
}

// byteWords is a size in the largest unit in which it has no fraction.
func byteWords(n int64) string {
	unit := 0
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	for n > 0 && n%1024 == 0 && unit < len(units)-1 {
		n, unit = n/1024, unit+1
	}
	return fmt.Sprintf("%d %s", n, units[unit])
}

// roughBytes is a size in three digits.
func roughBytes(n int64) string {
	units, v, unit := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}, float64(n), 0
	for v >= 1000 && unit < len(units)-1 {
		v, unit = v/1024, unit+1
	}
	return strconv.FormatFloat(v, 'g', 3, 64) + " " + units[unit]
}

// protectionWords says how a machine is protected, and how far the copy is that is not there yet.
func protectionWords(s *api.MachineStatus) string {
	if r := s.Replication; r != nil && (s.ProtectionState == api.InitialReplication || s.ProtectionState == api.Reprotecting) {
		return fmt.Sprintf("%s %d %%", s.ProtectionState, int(r.Progress))
	}
	return orDash(string(s.ProtectionState))
}

// activeWords says where a machine runs: the site, and the side that it is.
func activeWords(s *api.MachineStatus) string {
	if s.ActiveLocation == "" {
		return "-"
	}
	return s.ActiveSite + " (" + string(s.ActiveLocation) + ")"
}

func rpoWords(s *api.MachineStatus) string {
	if s.Replication == nil {
		return "-"
	}
	return seconds(s.Replication.RPO.D())
}

// drillWords says how the drill that is up stands, or how the last one went.
func drillWords(now time.Time, s *api.MachineStatus) string {
	if s.TestFailoverState != "" && s.TestFailoverState != api.TestNone {
		return string(s.TestFailoverState)
	}
	d := s.LastDrill
	switch {
	case d == nil:
		return "never"
	case d.Passed:
		return "passed " + age(now, d.At) + " ago"
	}
	return "failed " + age(now, d.At) + " ago"
}

func scenarioWords(s *api.Scenario) string {
	if s == nil {
		return "-"
	}
	return s.Name + " " + s.Job
}

// planMachines counts a plan's machines by their protection.
func planMachines(p *api.RecoveryPlan) string {
	count := map[string]int{}
	var states []string
	for _, m := range p.Status.Machines {
		state := string(m.ProtectionState)
		if state == "" {
			state = "unknown"
		}
		if count[state] == 0 {
			states = append(states, state)
		}
		count[state]++
	}
	slices.Sort(states)
	for i, s := range states {
		states[i] = fmt.Sprintf("%d %s", count[s], s)
	}
	return commas(states)
}
