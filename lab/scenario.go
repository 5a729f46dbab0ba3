package lab

import (
	"context"
	"io"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// Options of a run. The zero value of a field takes the scenario's default.
type Options struct {
	// Store is "etcd" (default) or "zookeeper".
	Store string
	// Faults to inject, by name; "all" stands for every one. Default: the scenario's.
	Faults []string
	// Effects is "fabric" (default) or "lease".
	Effects string
	// Profile of the group: "fast" (default) or "balanced".
	Profile string
	// Rounds of each fault. Default 3; 100 moves for planned.
	Rounds int
	// Gone is how long the control plane stays away. Default 20s.
	Gone time.Duration
	// Duration of a soak. Default 2m.
	Duration time.Duration
	// NoPeers leaves the peers out.
	NoPeers bool
	// NoControl leaves the control runs out: the figures then count for nothing.
	NoControl bool
	// LogDir keeps the log of every process. Default: they go with the run.
	LogDir string
	// Binary is the program whose verbs run as processes. Default: this one.
	Binary string
	// From is another release's program, which the site runs before the fault upgrade. Needed by that fault alone.
	From string
	// Progress gets a line now and then, for people. Default: none.
	Progress io.Writer

	standing bool // leave everything running
}

// Scenario is an architecture with its faults.
type Scenario struct {
	Name  string `json:"name"`
	About string `json:"about"`
	// Faults it knows.
	Faults []FaultInfo `json:"faults"`

	run func(ctx context.Context, o Options) (Result, error)
}

// FaultInfo names a fault and says what happens.
type FaultInfo struct {
	Name  string `json:"name"`
	About string `json:"about"`
}

// Scenarios lists what can be run.
func Scenarios() []Scenario {
	return []Scenario{
		{
			Name:   "nva-switch",
			About:  "an active-passive pair of appliances that filter statefully; public address and routes follow the active one",
			Faults: faultList(),
			run:    runNVASwitch,
		},
		{
			Name:  "nva-soak",
			About: "the same pair with every core and the disk loaded and 5 % of the probes lost: nothing may move",
			run:   runNVASoak,
		},
		{
			Name:  "nva-bench",
			About: "the same pair and keepalived with adverts each 100 ms, in interleaved rounds; the ratio of their outages",
			run:   runNVABench,
		},
		{
			Name:  "arm-latency",
			About: "moves on a simulated Azure with the published latencies, beside their critical path and the original's serial order",
			run:   runARMLatency,
		},
		{
			Name:  "drill",
			About: "a machine with its disk captured at one site is rehearsed at the other, while it goes on",
			run:   runDrill,
		},
		{
			Name:  "recovery",
			About: "the machine's site is destroyed at once, with its process server, controller and keys; it runs at the other",
			run:   runRecovery,
		},
		{
			Name:  "postgres",
			About: "a Debian machine with PostgreSQL under pgbench loses its site: every row committed before the recovery point is there",
			run:   runPostgres,
		},
		{
			Name:  "failback",
			About: "the line is cut while the machine writes on; it fails over to an older point, the old one comes up by itself, and it is brought home",
			run:   runFailback,
		},
		{
			Name:  "plan",
			About: "two machines and a pair's route fail over in one recovery plan, with a script, a webhook and a person; before, one changes its process server",
			run:   runPlan,
		},
		{
			Name:   "path-kill",
			About:  "the processes of the data path are killed under load, its lines cut, its disks filled; nothing may be lost, nor noticed at the source",
			Faults: pathFaultList(),
			run:    runPathKill,
		},
		{
			Name:  "path-oracle",
			About: "QEMU logs what it writes to a protected disk; the stream in the vault must say the same",
			run:   runPathOracle,
		},
	}
}

func faultList() (list []FaultInfo) {
	for _, d := range drills() {
		list = append(list, FaultInfo{d.name, d.about})
	}
	return list
}

func pathFaultList() (list []FaultInfo) {
	for _, f := range pathFaults() {
		list = append(list, FaultInfo{f.name, f.about})
	}
	return list
}

// refuse says what of the options is wrong, as an *api.Invalid.
func refuse(field, value, want string) error {
	var bad api.Invalid
	bad.Add(field, value, want)
	return bad.Err()
}

// Run runs a scenario by name. The error tells that it could not be carried out; a check that failed is in the result.
func Run(ctx context.Context, scenario string, o Options) (Result, error) {
	var names []string
	for _, s := range Scenarios() {
		if s.Name == scenario {
			r, err := s.run(ctx, o)
			r.Scenario = scenario
			r.finish()
			return r, err
		}
		names = append(names, s.Name)
	}
	return Result{}, refuse("scenario", scenario, "one of "+strings.Join(names, ", "))
}
