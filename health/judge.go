// Package health turns observations into verdicts: one observer's results in a row
// into its opinion, and the opinions of several observers into what is acted on.
package health

import (
	"time"

	"github.com/understudy-ha/understudy/api"
)

// Outcome of one probe.
type Outcome int

// The outcomes.
const (
	// OK: the member answered.
	OK Outcome = iota
	// Fail: it did not answer in time, or refused.
	Fail
	// Inconclusive: the observer itself was held up, so a missing answer says nothing. It neither adds to a row nor ends it.
	Inconclusive
)

// Opinion is what one observer thinks of one member.
type Opinion struct {
	Group  api.Ref    `json:"group"`
	Member string     `json:"member"`
	Health api.Health `json:"health"`
	// Since is when it came to think so, by its wall clock.
	Since time.Time `json:"since"`
	// FirstMiss is when the first of the failed probes that led to Down ended, by its wall clock.
	FirstMiss time.Time `json:"firstMiss,omitzero"`
	// Detail of the latest failure.
	Detail string `json:"detail,omitempty"`
	// Doubt: the latest probe spoke against Health, a member that is up did not answer or one that is down did.
	Doubt bool `json:"doubt,omitempty"`
}

// Judge is one observer's hysteresis over one member: Fall failures in a row make it down, Rise answers in a row
// make it up. It starts Unknown and then takes the shorter way: the first Rise or Fall decides.
type Judge struct {
	Rise, Fall int

	opinion   Opinion
	row       int
	rowOK     bool
	firstMiss time.Time
}

// NewJudge knows nothing yet.
func NewJudge(group api.Ref, member string, rise, fall int) *Judge {
	return &Judge{Rise: rise, Fall: fall, opinion: Opinion{Group: group, Member: member, Health: api.Unknown}}
}

// Opinion as it is now.
func (j *Judge) Opinion() Opinion {
	o := j.opinion
	o.Doubt = j.row > 0 && (o.Health == api.Up && !j.rowOK || o.Health == api.Down && j.rowOK)
	return o
}

// Result takes one probe's outcome and tells whether the opinion changed.
func (j *Judge) Result(now time.Time, o Outcome, detail string) (changed bool) {
	if o == Inconclusive {
		return false
	}
	ok := o == OK
	if ok != j.rowOK || j.row == 0 {
		j.row, j.rowOK = 0, ok
		if !ok {
			j.firstMiss = now
		}
	}
	j.row++
	if !ok {
		j.opinion.Detail = detail
	}
	switch {
	case ok && j.row >= j.Rise && j.opinion.Health != api.Up:
		j.opinion.Health, j.opinion.FirstMiss, j.opinion.Detail = api.Up, time.Time{}, ""
	case !ok && j.row >= j.Fall && j.opinion.Health != api.Down:
		j.opinion.Health, j.opinion.FirstMiss = api.Down, j.firstMiss
	default:
		return false
	}
	j.opinion.Since = now
	return true
}
