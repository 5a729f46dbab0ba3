package mutant

// Name names one defect.
type Name string

// The defects, each with the rule it breaks.
const (
	ResumeBackward    Name = "resume-backward"     // a new leader resumes towards the previous member
	StandbyNotProbed  Name = "standby-not-probed"  // moves onto a member not known healthy
	MarginZero        Name = "margin-zero"         // lease margins are ignored by everybody
	NoTickCheck       Name = "no-tick-check"       // an agent accepts pushes of any age
	NoEpochCheck      Name = "no-epoch-check"      // an agent accepts pushes of any epoch
	DriftIgnoresClaim Name = "drift-ignores-claim" // drift repair runs while a job holds the claims
	EchoUnrenewed     Name = "echo-unrenewed"      // a leader echoes ticks without a renewal in between
	GrantWithoutWait  Name = "grant-without-wait"  // a grant is given before the old one has run out
	NoGuard           Name = "no-guard"            // store transactions are not bound to the epoch
	OutcomeBeforeDone Name = "outcome-before-done" // an outcome is recorded when the step starts
	QuorumOfOne       Name = "quorum-of-one"       // one observer's word makes a verdict
	PromiseIgnored    Name = "promise-ignored"     // a candidate takes a grant in spite of its promise
	NoSupersede       Name = "no-supersede"        // a job goes on towards a member that died
	ForgetIntent      Name = "forget-intent"       // a step runs before its intent is stored
)

// All lists every defect.
func All() []Name {
	return []Name{ResumeBackward, StandbyNotProbed, MarginZero, NoTickCheck, NoEpochCheck, DriftIgnoresClaim,
		EchoUnrenewed, GrantWithoutWait, NoGuard, OutcomeBeforeDone, QuorumOfOne, PromiseIgnored, NoSupersede, ForgetIntent}
}
