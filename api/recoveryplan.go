package api

// RecoveryPlan fails several things over together: machines, and appliance groups whose addresses and routes follow them.
type RecoveryPlan struct {
	Header
	Spec   RecoveryPlanSpec   `json:"spec"`
	Status RecoveryPlanStatus `json:"status,omitzero"`
}

// GroupType says what a group of a plan does.
type GroupType string

// The group types.
const (
	GroupShutdown GroupType = "Shutdown" // its machines are shut down where they run, as well as that goes, before anything moves
	GroupFailover GroupType = "Failover" // its items move together, before the first boot group
	GroupBoot     GroupType = "Boot"     // its items move and start together; the next group waits until their services answer
)

// The bounds of a plan.
const (
	MaxBootGroups = 7
	MaxPlanItems  = 100
)

// RecoveryPlanSpec is the order of things. Groups run one after the other, the items of a group in parallel.
type RecoveryPlanSpec struct {
	// Groups: at most one Shutdown, first; at most one Failover, before all Boot groups; 1 to 7 Boot or Failover groups in all. At most 100 items.
	Groups []PlanGroup `json:"groups"`
}

// PlanGroup is one group.
type PlanGroup struct {
	// Name is unique in the plan. Default: its type and number, like boot-1.
	Name string    `json:"name,omitempty"`
	Type GroupType `json:"type"`
	// Items of the group. A machine stands in one Failover or Boot group, and may stand in the Shutdown group besides.
	Items []PlanItem `json:"items,omitempty"`
	// Before and After are actions around the group, one after the other.
	Before []PlanAction `json:"before,omitempty"`
	After  []PlanAction `json:"after,omitempty"`
}

// PlanItem is a machine or an appliance group: exactly one.
type PlanItem struct {
	// Machine names a ProtectedMachine (same tenant). It does the plan's operation, unless it has done it already.
	Machine string `json:"machine,omitempty"`
	// ApplianceGroup (same tenant) is moved to member To on Failover and to member Back on Failback and CancelFailover; "" leaves it where it is. Drills
	// leave appliance groups alone.
	ApplianceGroup string `json:"applianceGroup,omitempty"`
	To             string `json:"to,omitempty"`
	Back           string `json:"back,omitempty"`
}

// PlanAction is a script, a webhook or something that a person does: exactly one of Script, Webhook and Manual.
type PlanAction struct {
	Name string `json:"name"`
	// Script names a file in the controller's hooks directory; no path, no arguments. Webhook gets a POST; 200–299 is success.
	Script  string `json:"script,omitempty"`
	Webhook string `json:"webhook,omitempty"`
	// Manual makes the job wait until a person says that it is done (understudy jobs complete); its text says what to do.
	Manual string `json:"manual,omitempty"`
	// Operations and Directions limit the action. None: all.
	Operations []OperationKind `json:"operations,omitempty"`
	Directions []Direction     `json:"directions,omitempty"`
	// Timeout is 100ms to 24h. Default 5m, of a manual action 24h.
	Timeout Duration `json:"timeout,omitempty"`
	// Optional actions may fail without ending the plan.
	Optional bool `json:"optional,omitempty"`
}

// RecoveryPlanStatus is what the leader says of a plan.
type RecoveryPlanStatus struct {
	Assignment        *Assignment     `json:"assignment,omitempty"`
	AllowedOperations []OperationKind `json:"allowedOperations,omitempty"`
	CurrentScenario   *Scenario       `json:"currentScenario,omitempty"`
	// Machines of the plan by name, with their protection state.
	Machines   []PlanMachine `json:"machines,omitempty"`
	Conditions []Condition   `json:"conditions,omitempty"`
}

// PlanMachine is one machine of a plan.
type PlanMachine struct {
	Name            string          `json:"name"`
	ProtectionState ProtectionState `json:"protectionState,omitempty"`
	ActiveLocation  Location        `json:"activeLocation,omitempty"`
}
