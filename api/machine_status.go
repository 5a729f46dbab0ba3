package api

import "time"

// ProtectionState of a machine, in the field's words.
type ProtectionState string

// The protection states.
const (
	Unprotected           ProtectionState = "Unprotected"           // before the first job, and when disabled
	InitialReplication    ProtectionState = "InitialReplication"    // no point is stored yet; Progress says how far it is
	Protected             ProtectionState = "Protected"             // with activeLocation Recovery: reprotected
	FailoverInProgress    ProtectionState = "FailoverInProgress"    // a job moves it
	FailoverCommitPending ProtectionState = "FailoverCommitPending" // it runs at activeLocation; commit, change the point or cancel
	FailoverCommitted     ProtectionState = "FailoverCommitted"     // it runs at activeLocation, unprotected until Reprotect or ReEnable
	Reprotecting          ProtectionState = "Reprotecting"          // the way back is being filled
)

// TestFailoverState of a machine.
type TestFailoverState string

// The test failover states.
const (
	TestNone              TestFailoverState = "None"
	TestInProgress        TestFailoverState = "InProgress"
	TestWaitingForCleanup TestFailoverState = "WaitingForCleanup"
	TestCleaningUp        TestFailoverState = "CleaningUp"
)

// ReplicationHealth of a machine: the worst of its conditions.
type ReplicationHealth string

// The healths.
const (
	HealthNone     ReplicationHealth = "None" // nothing is shipped, as wanted
	HealthNormal   ReplicationHealth = "Normal"
	HealthWarning  ReplicationHealth = "Warning"
	HealthCritical ReplicationHealth = "Critical"
)

// MachineStatus is what the leader says of a machine. Only Assignment is intent; it is stored by itself.
type MachineStatus struct {
	Assignment        *Assignment       `json:"assignment,omitempty"`
	ProtectionState   ProtectionState   `json:"protectionState,omitempty"`
	ActiveLocation    Location          `json:"activeLocation,omitempty"`
	ActiveSite        string            `json:"activeSite,omitempty"`
	TestFailoverState TestFailoverState `json:"testFailoverState,omitempty"`
	// AllowedOperations lists what may be asked now; anything else is refused.
	AllowedOperations []OperationKind   `json:"allowedOperations,omitempty"`
	ReplicationHealth ReplicationHealth `json:"replicationHealth,omitempty"`
	// CurrentScenario is the job that runs.
	CurrentScenario *Scenario `json:"currentScenario,omitempty"`
	// Replication as the active side's engine says.
	Replication *ReplicationStatus `json:"replication,omitempty"`
	// Test is the drill that is up, as its engine says.
	Test       *RunStatus   `json:"test,omitempty"`
	Run        *RunStatus   `json:"run,omitempty"` // the active side's, if it was started from a point
	LastDrill  *DrillResult `json:"lastDrill,omitempty"`
	Conditions []Condition  `json:"conditions,omitempty"`
}

// Scenario is the job that runs, in the field's words.
type Scenario struct {
	Name    string    `json:"name"`
	Job     string    `json:"job"`
	Started time.Time `json:"started"`
}

// ReplicationStatus sums up a stream.
type ReplicationStatus struct {
	Node   string `json:"node"`
	Phase  string `json:"phase"`
	Stream string `json:"stream,omitempty"`
	// Progress in percent of the initial copy or of closing a gap.
	Progress float64 `json:"progress,omitempty"`
	// RPO received, now, and over the last ten minutes.
	RPO    Duration `json:"rpo,omitempty"`
	RPOp50 Duration `json:"rpoP50,omitempty"`
	RPOp99 Duration `json:"rpoP99,omitempty"`
	// Captured, Stored and Dirty count what the machine wrote (writes and zeroes): captured = stored + dirty.
	Captured uint64 `json:"captured,omitempty"`
	Stored   uint64 `json:"stored,omitempty"`
	Dirty    uint64 `json:"dirty,omitempty"`
	// LatestPoint that was made and its time. All points: GET …/points.
	LatestPoint   string    `json:"latestPoint,omitempty"`
	LatestPointAt time.Time `json:"latestPointAt,omitzero"`
	// ResyncBytes were compared for the initial copy, to close gaps or to reprotect; DifferingBytes of them were sent.
	ResyncBytes    int64 `json:"resyncBytes,omitempty"`
	DifferingBytes int64 `json:"differingBytes,omitempty"`
}

// RunStatus sums up a run from a point.
type RunStatus struct {
	Node     string         `json:"node"`
	Instance string         `json:"instance"`
	Phase    string         `json:"phase,omitempty"`
	Point    *RecoveryPoint `json:"point,omitempty"`
	// Progress of the hydration in percent.
	Progress     float64  `json:"progress,omitempty"`
	AnswersAfter Duration `json:"answersAfter,omitempty"`
	Address      string   `json:"address,omitempty"`
	Screenshot   string   `json:"screenshot,omitempty"`
}
