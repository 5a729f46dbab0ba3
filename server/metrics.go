package server

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/understudy-ha/understudy/api"
)

// metrics of a controller, in a registry of its own.
type metrics struct {
	machines      *machineMetrics
	registry      *prometheus.Registry
	leading       prometheus.Gauge
	epoch         prometheus.Gauge
	ready         *prometheus.GaugeVec
	health        *prometheus.GaugeVec
	active        *prometheus.GaugeVec
	sessions      prometheus.Gauge
	stepSeconds   prometheus.Histogram
	txnSeconds    *prometheus.HistogramVec
	probes        *prometheus.CounterVec
	jobs          *prometheus.CounterVec
	dropped       *prometheus.CounterVec
	auditLines    *prometheus.CounterVec
	auditFailures prometheus.Counter
}

// newMetrics makes them; objects lists the resources of a kind as they are now.
func newMetrics(version string, objects func(api.Kind) []api.Object) *metrics {
	m := &metrics{
		machines: newMachineMetrics(objects),
		registry: prometheus.NewRegistry(),
		leading:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "understudy_leader", Help: "1 while this controller leads."}),
		epoch:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "understudy_epoch", Help: "Number of the leadership last seen."}),
		ready: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "understudy_failover_ready",
			Help: "1 if a failover of the group would work now, by the leader's standing checks."}, []string{"tenant", "group"}),
		health: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "understudy_member_health",
			Help: "1 up, 0 down, -1 unknown."}, []string{"tenant", "group", "member"}),
		active: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "understudy_member_active",
			Help: "1 for the member that the assignment names."}, []string{"tenant", "group", "member"}),
		sessions: prometheus.NewGauge(prometheus.GaugeOpts{Name: "understudy_agent_sessions", Help: "Agents connected to this controller."}),
		stepSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "understudy_decision_seconds",
			Help: "Time from an event's arrival until its effects were given out.", Buckets: prometheus.ExponentialBuckets(1e-6, 4, 12)}),
		txnSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "understudy_store_transaction_seconds",
			Help: "Store transactions of the controller.", Buckets: prometheus.ExponentialBuckets(1e-4, 2, 16)}, []string{"outcome"}),
		probes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "understudy_probes_total", Help: "Probes of this controller."},
			[]string{"tenant", "group", "member", "outcome"}),
		jobs: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "understudy_jobs_total",
			Help: "Jobs that ended while this controller watched, by the kind of what they were for."}, []string{"subject", "kind", "phase"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "understudy_dropped_total",
			Help: "Things dropped because a queue was full."}, []string{"queue"}),
		auditLines:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "understudy_audit_lines_total", Help: "Audit entries."}, []string{"outcome"}),
		auditFailures: prometheus.NewCounter(prometheus.CounterOpts{Name: "understudy_audit_failures_total", Help: "Audit entries that could not be written."}),
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "understudy_build_info", Help: "Always 1.", ConstLabels: prometheus.Labels{"version": version}})
	info.Set(1)
	m.registry.MustRegister(info, m.leading, m.epoch, m.ready, m.health, m.active, m.sessions, m.stepSeconds, m.txnSeconds, m.probes, m.jobs,
		m.dropped, m.auditLines, m.auditFailures, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.registry.MustRegister(m.machines, m.machines.mirrorFailures)
	return m
}

func (m *metrics) audited(outcome string) { m.auditLines.WithLabelValues(outcome).Inc() }

// group shows one group's status as the store has it.
func (m *metrics) group(g *api.ApplianceGroup) {
	t, n := g.Metadata.Tenant, g.Metadata.Name
	m.forget(t, n)
	for _, s := range g.Status.Members {
		v := map[api.Health]float64{api.Up: 1, api.Down: 0}
		h, ok := v[s.Health]
		if !ok {
			h = -1
		}
		m.health.WithLabelValues(t, n, s.Name).Set(h)
	}
	for _, member := range g.Spec.Members {
		on := 0.0
		if a := g.Status.Assignment; a != nil && a.Active == member.Name {
			on = 1
		}
		m.active.WithLabelValues(t, n, member.Name).Set(on)
	}
	ready := 0.0
	if failoverReady(g) {
		ready = 1
	}
	m.ready.WithLabelValues(t, n).Set(ready)
}

func (m *metrics) forget(tenant, group string) {
	l := prometheus.Labels{"tenant": tenant, "group": group}
	m.health.DeletePartialMatch(l)
	m.active.DeletePartialMatch(l)
	m.ready.DeletePartialMatch(l)
}

func (s *Server) getMetrics(c *call) error {
	if !c.who.sees(api.AllTenants) {
		return api.Errorf(api.CodeForbidden, "metrics show every tenant: this needs a role that is bound to all (\"*\")")
	}
	promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{}).ServeHTTP(c.w, c.r)
	return nil
}

// getLeader answers 200 on the leader and 503 elsewhere, for balancers in front of the controllers.
func (s *Server) getLeader(w http.ResponseWriter, _ *http.Request) {
	leading, epoch := s.runtime.leading()
	status := http.StatusServiceUnavailable
	if leading {
		status = http.StatusOK
	}
	writeJSON(w, status, map[string]any{"leading": leading, "epoch": epoch})
}
