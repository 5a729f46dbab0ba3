package replication

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// The codes of conditions; the package's comment says what they mean.
const (
	ProcessServerCPU        = "ProcessServerCPU"
	ProcessServerMemory     = "ProcessServerMemory"
	ProcessServerSpoolLow   = "ProcessServerSpoolLow"
	ProcessServerUploadSlow = "ProcessServerUploadSlow"
	ProcessServerServices   = "ProcessServerServices"
	ProcessServerSilent     = "ProcessServerSilent"
	SpoolFull               = "SpoolFull"
	VaultUnreachable        = "VaultUnreachable"
	SourceSilent            = "SourceSilent"
	ClockSkew               = "ClockSkew"
)

// The thresholds of a process server, as the field has them.
const (
	healthWindow = 15 * time.Minute // CPU, memory and spool count when they hold for so long; and no heartbeat for so long
	warnLoad     = 0.80             // of CPU or memory
	critLoad     = 0.95
	warnFree     = 0.30 // of the spool
	critFree     = 0.25
	warnETA      = 30 * time.Minute
	critETA      = 45 * time.Minute
	etaHolds     = time.Minute // the rate that it is worked out from is a minute's: what has just begun to wait is no sign
)

// Never as an upload ETA: something waits and nothing moves.
const Never = time.Duration(1<<63 - 1)

// Sample is how a process server does at one instant.
type Sample struct {
	At  time.Time
	CPU float64 // busy, 0 to 1 of all processors; negative: not known
	Mem float64 // used, 0 to 1; negative: not known
	// SpoolFree is the part of the spool that may still be used, 0 to 1.
	SpoolFree float64
	// UploadETA is how long it takes to store what is spooled at the rate of the last minute.
	UploadETA time.Duration
	// Down names services that do not run.
	Down []string
}

// JudgeHealth judges samples, oldest first, as they are seen at now: by the process server itself, or by whoever gets its samples as
// heartbeats. It needs those of the last 15 minutes. What has to hold for 15 minutes is judged only when samples go back that far.
// Conditions carry in Since when they began to hold, as far as the samples tell.
func JudgeHealth(now time.Time, samples []Sample) []api.Condition {
	if len(samples) == 0 {
		return nil
	}
	last := samples[len(samples)-1]
	if now.Sub(last.At) >= healthWindow {
		return []api.Condition{{Code: ProcessServerSilent, Severity: api.Critical, Since: last.At,
			Message: fmt.Sprintf("no heartbeat since %s: see whether its host is up and reaches the controllers", last.At.UTC().Format(time.RFC3339)),
			Impacts: "machines behind it may not be replicated"}}
	}
	var out []api.Condition
	add := func(c *api.Condition) {
		if c != nil {
			out = append(out, *c)
		}
	}
	add(sustained(samples, ProcessServerCPU, func(s Sample) float64 { return s.CPU }, warnLoad, critLoad,
		"CPU above %.0f %% for 15 minutes: move machines to another process server, or give it more processors"))
	add(sustained(samples, ProcessServerMemory, func(s Sample) float64 { return s.Mem }, warnLoad, critLoad,
		"memory above %.0f %% for 15 minutes: move machines to another process server, or give it more memory"))
	add(spoolLow(samples))
	add(uploadSlow(samples))
	if len(last.Down) > 0 {
		out = append(out, api.Condition{Code: ProcessServerServices, Severity: api.Warning, Since: since(samples, func(s Sample) bool { return len(s.Down) > 0 }),
			Message: "not running: " + strings.Join(last.Down, ", "), Impacts: "replication through this process server"})
	}
	return out
}

// Overall is the worst severity; Info if there is nothing.
func Overall(conditions []api.Condition) api.Severity {
	rank := []api.Severity{api.Info, api.Warning, api.Critical}
	worst := 0
	for _, c := range conditions {
		worst = max(worst, slices.Index(rank, c.Severity))
	}
	return rank[worst]
}

// sustained judges a load that has to be above a threshold for the whole window.
func sustained(samples []Sample, code string, load func(Sample) float64, warn, crit float64, message string) *api.Condition {
	held := func(limit float64) (time.Time, bool) {
		from := since(samples, func(s Sample) bool { return load(s) > limit })
		return from, !from.IsZero() && samples[len(samples)-1].At.Sub(from) >= healthWindow
	}
	c := api.Condition{Code: code, Severity: api.Critical, Impacts: "replication through this process server falls behind"}
	limit := crit
	at, ok := held(crit)
	if !ok {
		c.Severity, limit = api.Warning, warn
		at, ok = held(warn)
	}
	if !ok {
		return nil
	}
	c.Since, c.Message = at, fmt.Sprintf(message, limit*100)
	return &c
}

func spoolLow(samples []Sample) *api.Condition {
	c := sustained(samples, ProcessServerSpoolLow, func(s Sample) float64 { return 1 - s.SpoolFree }, 1-warnFree, 1-critFree, "%.0f")
	if c == nil {
		return nil
	}
	free := warnFree
	if c.Severity == api.Critical {
		free = critFree
	}
	c.Message = fmt.Sprintf("less than %.0f %% of the spool was free for 15 minutes: see whether the vault takes what is spooled, or give it more room", free*100)
	c.Impacts = "when it is full, machines fall back to resynchronisation"
	return c
}

func uploadSlow(samples []Sample) *api.Condition {
	last := samples[len(samples)-1]
	held := func(limit time.Duration) (time.Time, bool) {
		from := since(samples, func(s Sample) bool { return s.UploadETA > limit })
		return from, !from.IsZero() && last.At.Sub(from) >= etaHolds
	}
	at, ok := held(warnETA)
	if !ok {
		return nil
	}
	eta, c := last.UploadETA, api.Condition{Code: ProcessServerUploadSlow, Severity: api.Warning, Since: at, Impacts: "the recovery point objective"}
	if _, ok := held(critETA); ok {
		c.Severity = api.Critical
	}
	c.Message = fmt.Sprintf("what is spooled needs %s to be stored: see the bandwidth windows and the way to the vault", eta.Round(time.Minute))
	if eta == Never {
		c.Message = "what is spooled is not being stored: see the way to the vault, its credentials and the bandwidth windows"
	}
	return &c
}

// since tells from which sample on all satisfy a condition; zero if the last does not.
func since(samples []Sample, ok func(Sample) bool) (at time.Time) {
	for i := len(samples) - 1; i >= 0 && ok(samples[i]); i-- {
		at = samples[i].At
	}
	return at
}
