package appliance

import (
	"fmt"

	"github.com/understudy-ha/understudy/api"
)

func (d *Decision) condition(code string, s api.Severity, message, impacts string) {
	d.Conditions = append(d.Conditions, api.Condition{Code: code, Severity: s, Message: message, Impacts: impacts})
}

// conditions says what holds whatever is decided.
func (v View) conditions(d *Decision) {
	if v.Group.Spec.Paused {
		d.condition("Paused", api.Warning, "automatic moves and drift repair are paused", "automatic failover")
	}
	for _, m := range v.Group.Spec.Members {
		switch vd := v.verdict(m.Name); {
		case vd.Health == api.Down:
			d.condition("MemberDown", api.Critical, fmt.Sprintf("%s: %s", m.Name, vd.Detail), "redundancy")
		case vd.Health == api.Unknown && v.probed() > settleIn:
			d.condition("MemberUnknown", api.Warning, fmt.Sprintf("%s: too few observers have an opinion (%d up, %d down)", m.Name, vd.Up, vd.Down), "no move is decided on it")
		}
	}
	if v.Job != nil {
		switch v.Job.Status.Phase {
		case api.Blocked:
			d.condition("JobBlocked", api.Critical, fmt.Sprintf("job %s: %s", v.Job.Metadata.Name, v.Job.Status.Message), "addresses and routes may be split")
		case api.Cancelled:
			d.condition("JobCancelled", api.Warning, fmt.Sprintf("job %s: %s; run `understudy jobs retry` or `understudy failover`", v.Job.Metadata.Name, v.Job.Status.Message), "addresses and routes may be split")
		}
		if v.Job.Spec.PlanVersion > api.PlanVersion {
			d.condition("JobNewer", api.Warning, fmt.Sprintf("job %s has plan version %d, this controller knows %d", v.Job.Metadata.Name, v.Job.Spec.PlanVersion, api.PlanVersion), "the job waits for a newer controller")
		}
	}
}
