package appliance

import (
	"fmt"

	"github.com/understudy-ha/understudy/api"
)

// answer deals with an operator's request, which has precedence over everything else and works while the group is
// paused. One rule it cannot override: never onto a member that is not known healthy. It tells whether the request is dealt with.
func (v View) answer(d *Decision) bool {
	r := v.Request
	d.Answered = true
	switch r.Kind {
	case api.RequestFailover:
		v.move(d)
	case api.RequestCancel:
		if !v.moving() || v.Job.Metadata.Name != r.To {
			d.Refused = fmt.Sprintf("job %s is not running", r.To)
			return true
		}
		d.CancelJob = true
	case api.RequestRetry:
		v.retry(d)
	default:
		d.Refused = fmt.Sprintf("request kind %q: want Failover, Cancel or Retry", r.Kind)
	}
	return true
}

func (v View) move(d *Decision) {
	r := v.Request
	active := ""
	if v.Assignment != nil {
		active = v.Assignment.Active
	}
	to := r.To
	if to == "" {
		to = v.standby(active)
	}
	switch {
	case to == "":
		d.Refused = "no other member is known healthy"
	case v.member(to).gone():
		d.Refused = fmt.Sprintf("member %q: the group has none of that name", to)
	case to == active:
		d.Refused = fmt.Sprintf("%s is active already", to)
	case v.verdict(to).Health != api.Up:
		d.Refused = fmt.Sprintf("%s is not known healthy (%s %s); nothing is ever moved onto such a member", to, v.verdict(to).Health, v.verdict(to).Detail)
	default:
		d.Kind, d.From, d.To = api.JobPlanned, active, to
		d.Reason = "asked for by " + r.By
	}
}

func (v View) retry(d *Decision) {
	switch {
	case v.Assignment == nil || v.Job == nil || v.Job.Metadata.Name != v.Request.To:
		d.Refused = fmt.Sprintf("job %s is not the group's latest", v.Request.To)
	case v.Job.Status.Phase != api.Blocked && v.Job.Status.Phase != api.Cancelled:
		d.Refused = fmt.Sprintf("job %s is %s; only Blocked and Cancelled jobs are tried again", v.Request.To, v.Job.Status.Phase)
	case v.verdict(v.Assignment.Active).Health == api.Down:
		d.Refused = fmt.Sprintf("%s is down; nothing is ever moved onto such a member", v.Assignment.Active)
	default:
		d.Kind, d.To, d.Reason = api.JobRepair, v.Assignment.Active, "retry asked for by "+v.Request.By
	}
}
