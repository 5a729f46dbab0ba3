package server

import (
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/understudy-ha/understudy/api"
)

// machineMetrics show machines, process servers and vaults as the store has them at the moment they are asked for.
type machineMetrics struct {
	objects func(api.Kind) []api.Object
	asked   sync.Mutex // one answer at a time

	rpo, records, health, location, ready, drill *prometheus.GaugeVec
	serverConnected, serverConditions            *prometheus.GaugeVec
	mirrorAt, mirrorObjects, vaultConditions     *prometheus.GaugeVec
	mirrorFailures                               *prometheus.CounterVec
}

func newMachineMetrics(objects func(api.Kind) []api.Object) *machineMetrics {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, append([]string{"tenant"}, labels...))
	}
	return &machineMetrics{
		objects: objects,
		rpo: gauge("understudy_machine_rpo_seconds", "Age of the newest write that the other side has, now and as quantiles of the last ten minutes; absent while nothing is shipped.",
			"machine", "over"),
		records:  gauge("understudy_machine_records", "Changes of the machine (writes and zeroes): captured, of these stored at the other side, and not stored but remembered as dirty.", "machine", "state"),
		health:   gauge("understudy_machine_replication_health", "0 nothing is shipped, as wanted; 1 normal, 2 warning, 3 critical.", "machine"),
		location: gauge("understudy_machine_location", "1 for the side that runs the machine: Primary or Recovery.", "machine", "location", "state"),
		ready:    gauge("understudy_machine_failover_ready", "1 if Failover (at Primary) or Failback (at Recovery) is allowed now.", "machine"),
		drill:    gauge("understudy_machine_last_drill_timestamp_seconds", "When the last drill was cleaned up that passed, as seconds since 1970; its age is time() less this. Absent if none did.", "machine"),

		serverConnected:  gauge("understudy_processserver_connected", "1 while the process server's node has a session with the leader.", "processserver"),
		serverConditions: gauge("understudy_processserver_conditions", "Conditions that a process server reports, by severity.", "processserver", "severity"),

		mirrorAt:        gauge("understudy_vault_mirror_timestamp_seconds", "When the mirror of the resources in a vault was last known to be whole, as seconds since 1970. Absent if it never was.", "vault"),
		mirrorObjects:   gauge("understudy_vault_mirror_objects", "Resources in a vault's mirror.", "vault"),
		vaultConditions: gauge("understudy_vault_conditions", "Conditions of a vault and of its keeper, by severity.", "vault", "severity"),
		mirrorFailures: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "understudy_vault_mirror_failures_total",
			Help: "Rounds of mirroring into a vault that failed at this controller."}, []string{"tenant", "vault"}),
	}
}

func (m *machineMetrics) vecs() []*prometheus.GaugeVec {
	return []*prometheus.GaugeVec{m.rpo, m.records, m.health, m.location, m.ready, m.drill, m.serverConnected, m.serverConditions, m.mirrorAt,
		m.mirrorObjects, m.vaultConditions}
}

// Describe implements prometheus.Collector.
func (m *machineMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, v := range m.vecs() {
		v.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (m *machineMetrics) Collect(ch chan<- prometheus.Metric) {
	m.asked.Lock()
	defer m.asked.Unlock()
	m.all()
	for _, v := range m.vecs() {
		v.Collect(ch)
	}
}

// all shows everything anew. What is gone leaves no figures behind. Nodes say how process servers and keepers are.
func (m *machineMetrics) all() {
	for _, v := range m.vecs() {
		v.Reset()
	}
	for _, o := range m.objects(api.KindProtectedMachine) {
		m.machine(o.(*api.ProtectedMachine))
	}
	nodes := map[string]*api.Node{}
	for _, o := range m.objects(api.KindNode) {
		n := o.(*api.Node)
		nodes[n.Metadata.Tenant+"/"+n.Metadata.Name] = n
	}
	for _, o := range m.objects(api.KindProcessServer) {
		ps := o.(*api.ProcessServer)
		l := prometheus.Labels{"tenant": ps.Metadata.Tenant, "processserver": ps.Metadata.Name}
		n := nodes[ps.Metadata.Tenant+"/"+ps.Spec.Node]
		m.serverConnected.With(l).Set(one(n != nil && n.Status.Connected))
		conditions(m.serverConditions.MustCurryWith(l), said(n, api.EngineProcessServer, ps.Ref()))
	}
	for _, o := range m.objects(api.KindVault) {
		v := o.(*api.Vault)
		l := prometheus.Labels{"tenant": v.Metadata.Tenant, "vault": v.Metadata.Name}
		if mirror := v.Status.Mirror; mirror != nil {
			m.mirrorAt.With(l).Set(float64(mirror.At.UnixMilli()) / 1e3)
			m.mirrorObjects.With(l).Set(float64(mirror.Objects))
		}
		kept := said(nodes[v.Metadata.Tenant+"/"+v.Spec.Keeper], api.EngineKeeper, v.Ref())
		conditions(m.vaultConditions.MustCurryWith(l), append(kept, v.Status.Conditions...))
	}
}

func (m *machineMetrics) machine(o *api.ProtectedMachine) {
	l := prometheus.Labels{"tenant": o.Metadata.Tenant, "machine": o.Metadata.Name}
	with := func(v *prometheus.GaugeVec, name, value string) prometheus.Gauge {
		return v.MustCurryWith(l).With(prometheus.Labels{name: value})
	}
	s := &o.Status
	if r := s.Replication; r != nil {
		for over, d := range map[string]api.Duration{"now": r.RPO, "p50": r.RPOp50, "p99": r.RPOp99} {
			with(m.rpo, "over", over).Set(d.D().Seconds())
		}
		for state, n := range map[string]uint64{"captured": r.Captured, "stored": r.Stored, "dirty": r.Dirty} {
			with(m.records, "state", state).Set(float64(n))
		}
	}
	m.health.With(l).Set(map[api.ReplicationHealth]float64{api.HealthNormal: 1, api.HealthWarning: 2, api.HealthCritical: 3}[s.ReplicationHealth])
	if s.ActiveLocation != "" {
		m.location.MustCurryWith(l).With(prometheus.Labels{"location": string(s.ActiveLocation), "state": string(s.ProtectionState)}).Set(1)
	}
	m.ready.With(l).Set(one(slices.Contains(s.AllowedOperations, api.OpFailover) || slices.Contains(s.AllowedOperations, api.OpFailback)))
	if d := s.LastDrill; d != nil && d.Passed {
		m.drill.With(l).Set(float64(d.At.UnixMilli()) / 1e3)
	}
}

func one(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// said gives the conditions that a node reports of a section.
func said(n *api.Node, engine string, owner api.Ref) (out []api.Condition) {
	if n == nil {
		return nil
	}
	for _, s := range n.Status.Sections {
		if s.Engine == engine && s.Owner == owner.String() && s.State != nil {
			out = append(out, s.State.Conditions...)
		}
	}
	return out
}

// conditions counts them by severity, 0 too.
func conditions(v *prometheus.GaugeVec, all []api.Condition) {
	for _, sev := range []api.Severity{api.Info, api.Warning, api.Critical} {
		n := 0
		for _, c := range all {
			if c.Severity == sev {
				n++
			}
		}
		v.WithLabelValues(strings.ToLower(string(sev))).Set(float64(n))
	}
}
