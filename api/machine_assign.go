package api

import "time"

// Location says at which side a machine runs.
type Location string

// The locations.
const (
	Primary  Location = "Primary"
	Recovery Location = "Recovery"
)

// Stage of a machine between its two sites, as decided. What is observed (initial replication, say) comes on top.
type Stage string

// The stages.
const (
	StageDisabled  Stage = "Disabled"              // nothing is shipped; the disks are served
	StageProtected Stage = "Protected"             // what is written is shipped to the other side
	StagePending   Stage = "FailoverCommitPending" // it was moved; the point may be changed, the move may be taken back
	StageCommitted Stage = "FailoverCommitted"     // it was moved for good; nothing is shipped until Reprotect or ReEnable
)

// MachineAssignment is the part of an Assignment that machines have: intent alone.
type MachineAssignment struct {
	// UID of the machine that it is about.
	UID      string   `json:"uid"`
	Stage    Stage    `json:"stage"`
	Location Location `json:"location"`
	// Epoch is the assignment generation since which the active side is the one that may write. It fences disks and streams.
	Epoch int64 `json:"epoch"`
	// First is the generation that the machine began with: what a node has of an older one is an earlier machine's of its name. 0: not known.
	First int64 `json:"first,omitempty"`
	// Named counts the streams that were named so far.
	Named int `json:"named"`
	// Stream that the active side's writes make.
	Stream string `json:"stream"`
	// Run is how the active side runs, if it was started from a point; nil: on its own disks.
	Run *MachineRun `json:"run,omitempty"`
	// ShipBase is what a shipped stream stands on: none, disk (the passive side's), or stream (BaseStream at BaseSeq in the vault that it is
	// shipped to, from which the active side descends).
	ShipBase   string `json:"shipBase,omitempty"`
	BaseStream string `json:"baseStream,omitempty"`
	BaseSeq    uint64 `json:"baseSeq,omitempty"`
	// Via lists the process servers (host:port) that the active side was last told to ship to.
	Via []string `json:"via,omitempty"`
	// Yield names the branch of never-shipped writes that the old primary keeps; reprotect.
	Yield string `json:"yield,omitempty"`
	// Paused: nothing is shipped, blocks are remembered as dirty. Stopped: the VM was shut down on request.
	Paused  bool `json:"paused,omitempty"`
	Stopped bool `json:"stopped,omitempty"`
	// Restart names the latest full resynchronisation that was asked for.
	Restart string `json:"restart,omitempty"`
	// Drill, if one is up.
	Drill *MachineDrill `json:"drill,omitempty"`
	// LastDrill that was cleaned up.
	LastDrill *DrillResult `json:"lastDrill,omitempty"`
	// Before is the assignment that the latest move left, without its own Before: what the passive side has, and where a cancelled move goes back to.
	Before *MachineAssignment `json:"before,omitempty"`
}

// MachineRun is a run from a recovery point.
type MachineRun struct {
	// Instance names it at its node.
	Instance string `json:"instance"`
	// Vault and Stream hold the past.
	Vault  string `json:"vault"`
	Stream string `json:"stream"`
	// Choice is what was asked for; Point what was found. Nil until the job's choose step is done.
	Choice PointChoice    `json:"choice"`
	Point  *RecoveryPoint `json:"point,omitempty"`
	// InPlace: on the disks that the site has from before.
	InPlace bool `json:"inPlace,omitempty"`
}

// MachineDrill is a rehearsal that is up.
type MachineDrill struct {
	MachineRun
	// Generation of the assignment that started it.
	Generation int64     `json:"generation"`
	Job        string    `json:"job"`
	By         string    `json:"by"`
	Started    time.Time `json:"started"`
	// Passed: the machine's service answered.
	Passed bool `json:"passed,omitempty"`
	// Cleanup is what will be left of it once it is taken away.
	Cleanup *DrillResult `json:"cleanup,omitempty"`
}

// DrillResult is a rehearsal that was cleaned up. It counts only when test and clean-up both succeeded.
type DrillResult struct {
	At     time.Time `json:"at"`
	Passed bool      `json:"passed"`
	Point  string    `json:"point,omitempty"`
	Notes  string    `json:"notes,omitempty"`
	By     string    `json:"by,omitempty"`
}

// PlanAssignment is the part of an Assignment that recovery plans have.
type PlanAssignment struct {
	// Operation that was asked for last.
	Operation Operation `json:"operation"`
	// Direction it went.
	Direction Direction `json:"direction"`
	// Done lists the steps that jobs before the latest have done: it is a retry.
	Done []string `json:"done,omitempty"`
}
