package api

import "time"

// OperationKind is what people may ask of a ProtectedMachine or a RecoveryPlan.
type OperationKind string

// The operations.
const (
	OpTestFailover        OperationKind = "TestFailover"        // boot a point in isolation; replication goes on
	OpTestFailoverCleanup OperationKind = "TestFailoverCleanup" // take the drill away; notes
	OpFailover            OperationKind = "Failover"            // run at the recovery site from a point
	OpChangePoint         OperationKind = "ChangePoint"         // another point, until commit; what was written since is discarded
	OpCommit              OperationKind = "Commit"              // nothing else can be chosen any more; the other points go
	OpCancelFailover      OperationKind = "CancelFailover"      // back to the side it came from, as it was left there; until commit
	OpReprotect           OperationKind = "Reprotect"           // ship back to the source site
	OpFailback            OperationKind = "Failback"            // run at the source site again, from a point of the way back
	OpReEnable            OperationKind = "ReEnable"            // ship to the recovery site again, after failback or disable
	OpResync              OperationKind = "Resync"              // compare and ship everything again
	OpPause               OperationKind = "Pause"               // ship nothing; remember what is dirty
	OpResume              OperationKind = "Resume"
	OpShutdown            OperationKind = "Shutdown" // stop the VM where it runs, with a last point
	OpStart               OperationKind = "Start"
	OpDisable             OperationKind = "Disable" // end the protection; the disks stay served
)

// Operations lists them all.
func Operations() []OperationKind {
	return []OperationKind{OpTestFailover, OpTestFailoverCleanup, OpFailover, OpChangePoint, OpCommit, OpCancelFailover, OpReprotect,
		OpFailback, OpReEnable, OpResync, OpPause, OpResume, OpShutdown, OpStart, OpDisable}
}

// PlanOperations lists what recovery plans do.
func PlanOperations() []OperationKind {
	return []OperationKind{OpTestFailover, OpTestFailoverCleanup, OpFailover, OpCommit, OpCancelFailover, OpReprotect, OpFailback, OpReEnable}
}

// Operation is the body of POST /v1/protectedmachines/NAME/operations and /v1/recoveryplans/NAME/operations. The answer (202) is the
// Request with its id; the job that carries it out has it as spec.requestID.
type Operation struct {
	Operation OperationKind `json:"operation"`
	// Point for TestFailover, Failover, ChangePoint and Failback. Default: latest.
	Point *PointChoice `json:"point,omitempty"`
	// ShutdownSource first stops the machine where it runs, as well as that goes, so that nothing is lost; Failover and Failback. A
	// machine that does not answer holds nothing up.
	ShutdownSource bool `json:"shutdownSource,omitempty"`
	// Notes for the record; at most 4096 bytes.
	Notes string `json:"notes,omitempty"`
}

// PointKind says how a point is chosen.
type PointKind string

// The point kinds.
const (
	PointLatest              PointKind = "latest"              // make one now if the source answers; lowest RPO
	PointLatestProcessed     PointKind = "latestProcessed"     // the newest in the vault; lowest RTO
	PointLatestAppConsistent PointKind = "latestAppConsistent" // the newest made with the guest frozen
	PointCustom              PointKind = "custom"              // by ID, or the newest at or before At
)

// PointChoice says which recovery point is wanted.
type PointChoice struct {
	Kind PointKind `json:"kind"`
	// ID of a custom point, or At: exactly one.
	ID string    `json:"id,omitempty"`
	At time.Time `json:"at,omitzero"`
}

// Consistency of a recovery point.
type Consistency string

// The consistencies.
const (
	CrashConsistent Consistency = "crash"
	AppConsistent   Consistency = "app"
)

// RecoveryPoint is a position in a stream at which the disks are consistent.
type RecoveryPoint struct {
	ID          string      `json:"id"`
	Stream      string      `json:"stream"`
	Seq         uint64      `json:"seq"`
	At          time.Time   `json:"at"`
	Consistency Consistency `json:"consistency"`
	Tag         string      `json:"tag,omitempty"`
}

// PointList is what GET /v1/protectedmachines/NAME/points answers: what the vault of the machine's passive side offers now, newest first.
type PointList struct {
	Vault  string          `json:"vault"`
	Stream string          `json:"stream"`
	Items  []RecoveryPoint `json:"items"`
}

// StepCompletion is the body of POST /v1/jobs/NAME/complete: a person did what a manual step waits for.
type StepCompletion struct {
	Step string `json:"step"`
	// Note for the record; at most 4096 bytes.
	Note string `json:"note,omitempty"`
	// Failed tells that it could not be done.
	Failed bool `json:"failed,omitempty"`
}

// Direction of a recovery plan's operation.
type Direction string

// The directions.
const (
	PrimaryToRecovery Direction = "PrimaryToRecovery"
	RecoveryToPrimary Direction = "RecoveryToPrimary"
)

// DirectionOf tells which way an operation goes.
func DirectionOf(op OperationKind) Direction {
	if op == OpReprotect || op == OpFailback {
		return RecoveryToPrimary
	}
	return PrimaryToRecovery
}
