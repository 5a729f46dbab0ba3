package api

import "time"

// Job is a durable run of steps towards an assignment. People read jobs; only the leader writes them.
type Job struct {
	Header
	Spec   JobSpec   `json:"spec"`
	Status JobStatus `json:"status"`
}

// JobKind says why the job runs.
type JobKind string

// The kinds of jobs.
const (
	JobEstablish JobKind = "Establish" // first assignment
	JobFailover  JobKind = "Failover"  // the active member died
	JobPlanned   JobKind = "Planned"   // an operator asked
	JobFailback  JobKind = "Failback"  // the first member is back and held
	JobRepair    JobKind = "Repair"    // the world drifted from the assignment
)

// Jobs of machines and plans are named after their operation; Establish and Repair are theirs too.

// PlanVersion of the step vocabulary that this version knows. A leader that does not know a job's version leaves it to one that
// does. Appliance groups plan in version 1, machines and recovery plans in version 2.
const (
	PlanVersion           = 2
	PlanVersionAppliances = 1
	PlanVersionMachines   = 2
)

// JobSpec is fixed when the job is made.
type JobSpec struct {
	Subject Ref     `json:"subject"`
	Kind    JobKind `json:"kind"`
	From    string  `json:"from,omitempty"`
	To      string  `json:"to"`
	// Generation of the assignment it works towards.
	Generation  int64  `json:"generation"`
	Reason      string `json:"reason"`
	RequestedBy string `json:"requestedBy,omitempty"`
	// RequestID of the request that it answers.
	RequestID   string `json:"requestID,omitempty"`
	PlanVersion int    `json:"planVersion"`
}

// Phase of a job.
type Phase string

// The phases. The last four are ends.
const (
	Running    Phase = "Running"
	Succeeded  Phase = "Succeeded"
	Superseded Phase = "Superseded" // a newer assignment took over
	Cancelled  Phase = "Cancelled"  // Message says what holds
	Blocked    Phase = "Blocked"    // a condition says why; retried by a new job
)

// Ended tells whether the phase is final.
func (p Phase) Ended() bool { return p != Running && p != "" }

// JobStatus changes as the job runs.
type JobStatus struct {
	Phase Phase `json:"phase"`
	// Message for people.
	Message string `json:"message,omitempty"`
	Steps   []Step `json:"steps"`
	// Epochs that worked on it, in order.
	Epochs   []int64         `json:"epochs"`
	Timeline []TimelineEntry `json:"timeline,omitempty"`
	Started  time.Time       `json:"started"`
	Ended    time.Time       `json:"ended,omitzero"`
	// CancelRequested stops the job at the next step boundary.
	CancelRequested bool `json:"cancelRequested,omitempty"`
}

// TimelineEntry is one moment of a job, for people and for figures.
type TimelineEntry struct {
	// What: detect, decide, step:<id>:intended, step:<id>:done, resumed, verified, first-good-packet.
	What string    `json:"what"`
	At   time.Time `json:"at"`
	// Epoch of the leader that wrote it.
	Epoch  int64  `json:"epoch"`
	Detail string `json:"detail,omitempty"`
}

// StepState of one step.
type StepState string

// The states of a step, in order.
const (
	StepPending  StepState = "Pending"
	StepIntended StepState = "Intended" // stored before the effect; may have happened
	StepDone     StepState = "Done"
	StepFailed   StepState = "Failed"  // given up; the job is Blocked, or the step was optional
	StepSkipped  StepState = "Skipped" // the job ended first
)

// StepKind says what a step does; the same kind is always carried out by the same code.
type StepKind string

// The kinds of steps.
const (
	StepNode    StepKind = "node"    // push sections to a node's agent and wait until it applied them
	StepRelease StepKind = "release" // take a grant from a node: it says so, or its grant ran out
	StepDrain   StepKind = "drain"   // the active member says "not ready" for a while
	StepRoutes  StepKind = "routes"  // one write of one route table (cloud)
	StepDetach  StepKind = "detach"  // take addresses from a NIC (cloud)
	StepAttach  StepKind = "attach"  // give addresses to a NIC (cloud)
	StepHook    StepKind = "hook"    // webhook or program
	StepVerify  StepKind = "verify"  // read the world back

	StepAwait   StepKind = "await"   // wait until a node's section says that it is so far
	StepChoose  StepKind = "choose"  // find the recovery point in the vault
	StepOperate StepKind = "operate" // ask something of another subject and wait for its job
	StepManual  StepKind = "manual"  // wait for a person
)

// Step is one idempotent effect, as data. Exactly the payload its kind names is set.
type Step struct {
	// ID is unique in the job and says what it is, like "routes:core".
	ID   string   `json:"id"`
	Kind StepKind `json:"kind"`
	// Needs lists steps that must be Done (or Failed, if optional) first.
	Needs []string `json:"needs,omitempty"`
	// Lock is a thing that takes one write at a time, like a NIC's id; steps with the same lock never overlap.
	Lock string `json:"lock,omitempty"`
	// Optional steps may fail without blocking the job.
	Optional bool `json:"optional,omitempty"`
	// Expected and Worst are how long it takes.
	Expected Duration `json:"expected"`
	Worst    Duration `json:"worst"`
	// Deadline, counted from the first intent, after which the step has failed.
	Deadline Duration `json:"deadline"`

	Node   *NodeStep   `json:"node,omitempty"`
	Routes *RoutesStep `json:"routes,omitempty"`
	NIC    *NICStep    `json:"nic,omitempty"`
	Hook   *HookStep   `json:"hook,omitempty"`
	Wait   Duration    `json:"wait,omitempty"` // drain

	Await   *AwaitStep   `json:"await,omitempty"` // await; of a node step: what to wait for once its sections are applied
	Choose  *ChooseStep  `json:"choose,omitempty"`
	Operate *OperateStep `json:"operate,omitempty"`
	Manual  *ManualStep  `json:"manual,omitempty"`

	State    StepState `json:"state"`
	Attempts int       `json:"attempts,omitempty"`
	// IntendedAt is the first time, by the wall clock of the leader that intended it.
	IntendedAt time.Time `json:"intendedAt,omitzero"`
	DoneAt     time.Time `json:"doneAt,omitzero"`
	// NotBefore is when a failed attempt is tried again.
	NotBefore time.Time `json:"notBefore,omitzero"`
	Error     string    `json:"error,omitempty"`
	Outcome   string    `json:"outcome,omitempty"`
	// Point that a choose step found.
	Point *RecoveryPoint `json:"point,omitempty"`
}

// NodeStep pushes sections to a node.
type NodeStep struct {
	Node     string    `json:"node"`
	Sections []Section `json:"sections"`
}

// AwaitStep waits for what a node's agent reports of one section. All that is given must hold.
type AwaitStep struct {
	Node   string `json:"node"`
	Engine string `json:"engine"`
	Owner  string `json:"owner"`
	// Generation at which the section must be applied.
	Generation int64 `json:"generation,omitempty"`
	// Phases of which the engine must be in one; it has failed in one of Fails.
	Phases []string `json:"phases,omitempty"`
	Fails  []string `json:"fails,omitempty"`
	// Instance of a site engine.
	Instance string `json:"instance,omitempty"`
	// Done is the request that must have been carried out.
	Done string `json:"done,omitempty"`
	// Stored: the newest point made there must be stored at the other side.
	Stored bool `json:"stored,omitempty"`
	// Settled: the node has taken what the owner, a ProcessServer or Vault, wants of it now.
	Settled bool `json:"settled,omitempty"`
}

// ChooseStep finds a recovery point.
type ChooseStep struct {
	Vault  VaultAccess `json:"vault"`
	Stream string      `json:"stream"`
	Choice PointChoice `json:"choice"`
	// For is run or drill: what of the assignment the point is for.
	For string `json:"for"`
}

// OperateStep asks something of a ProtectedMachine or an ApplianceGroup.
type OperateStep struct {
	Subject Ref `json:"subject"`
	// ID that the request gets; it is made once, with the plan.
	ID string `json:"id"`
	// Operation of a machine; To of a group.
	Operation *Operation `json:"operation,omitempty"`
	To        string     `json:"to,omitempty"`
}

// ManualStep is what a person is asked to do.
type ManualStep struct {
	Instructions string `json:"instructions"`
}

// RoutesStep writes one table once: each listed route gets its next hop, others stay.
type RoutesStep struct {
	Table  string       `json:"table"`
	Routes []CloudRoute `json:"routes"`
}

// CloudRoute is one route of a cloud's table.
type CloudRoute struct {
	Name    string `json:"name"`
	Prefix  string `json:"prefix"`
	NextHop string `json:"nextHop"`
}

// NICStep takes addresses from, or gives them to, a NIC in one write.
type NICStep struct {
	NIC string `json:"nic"`
	// Addresses to take or give. Detach of one that is not there, and attach of one that is, are no-ops.
	Addresses []AddressBinding `json:"addresses"`
}

// AddressBinding names a public address and the NIC's IP configuration that has it.
type AddressBinding struct {
	// ID of the public address.
	ID string `json:"id"`
	// IPConfiguration of the NIC by name; "" means the primary one.
	IPConfiguration string `json:"ipConfiguration,omitempty"`
}

// HookStep runs a hook.
type HookStep struct {
	Hook Hook   `json:"hook"`
	When string `json:"when"` // before or after
}
