package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/appliance"
	"github.com/understudy-ha/understudy/cloud"
	"github.com/understudy-ha/understudy/controller"
)

// checkEvery is how often a leader looks whether a group could fail over; a group that is new or changed is looked at
// within checkTick.
const (
	checkEvery = time.Minute
	checkTick  = 2 * time.Second
)

// checkTimeout bounds the check of one group.
const checkTimeout = 45 * time.Second

// checkGroups keeps the standing conditions of doctor while this controller leads.
func (rt *runtime) checkGroups(ctx context.Context) {
	type look struct {
		generation int64
		at         time.Time
	}
	last := map[api.Ref]look{}
	for sleep(ctx, checkTick) == nil {
		if leading, _ := rt.leading(); !leading {
			clear(last)
			continue
		}
		for _, o := range rt.s.hub.objects(api.KindApplianceGroup) {
			g := o.(*api.ApplianceGroup)
			now := look{g.Metadata.Generation, time.Now()}
			if was, ok := last[g.Ref()]; ok && was.generation == now.generation && now.at.Sub(was.at) < checkEvery {
				continue
			}
			last[g.Ref()] = now
			rt.loop.post(controller.Checked{Group: g.Ref(), Findings: rt.s.check(ctx, g)})
		}
	}
}

// check looks at one group: what its cloud says, and where its members run.
func (s *Server) check(ctx context.Context, g *api.ApplianceGroup) []cloud.Finding {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	g.Default()
	findings := s.placement(g)
	o, _, err := s.resources.get(ctx, api.Ref{Kind: api.KindProvider, Tenant: g.Metadata.Tenant, Name: g.Spec.Provider})
	if err != nil {
		return append(findings, cloud.Finding{Code: "ProviderMissing", Severity: api.Critical, Resource: g.Spec.Provider, Blocks: true,
			Message: "provider " + g.Spec.Provider + ": " + asError(err).Message})
	}
	p := o.(*api.Provider)
	p.Default()
	findings = append(findings, appliance.Reach(g, s.cfg.site(p))...)
	if p.Spec.Type != api.ProviderAzure {
		return findings
	}
	d, err := s.runtime.drivers.of(p)
	if err == nil {
		var more []cloud.Finding
		if more, err = d.Check(ctx, g); err == nil {
			return append(findings, more...)
		}
	}
	slog.Warn("check a group", "group", g.Ref(), "err", err)
	return append(findings, cloud.Finding{Code: "CheckFailed", Severity: api.Warning, Resource: p.Metadata.Name,
		Message: p.Metadata.Name + ": the cloud could not be asked: " + err.Error() + "; see that the controllers reach it and may read", Blocks: true})
}

// placement warns of members that one fault takes down together.
func (s *Server) placement(g *api.ApplianceGroup) []cloud.Finding {
	var out []cloud.Finding
	hosts, zones := map[string]string{}, map[string]string{}
	for _, m := range g.Spec.Members {
		if m.Node == "" {
			continue
		}
		e := s.hub.entry(api.ObjectKey(api.Ref{Kind: api.KindNode, Tenant: g.Metadata.Tenant, Name: m.Node}))
		if e.Rev == 0 {
			out = append(out, cloud.Finding{Code: "NodeMissing", Severity: api.Warning, Resource: m.Node, Message: m.Node + ": no such node has enrolled; understudy token create --node " + m.Node})
			continue
		}
		o, err := assemble(api.Ref{Kind: api.KindNode, Tenant: g.Metadata.Tenant, Name: m.Node}, e, nil, nil)
		if err != nil {
			continue
		}
		spec := o.(*api.Node).Spec
		out = append(out, shared("SharedHost", "host", spec.Host, m.Name, hosts)...)
		out = append(out, shared("SharedZone", "zone", spec.Zone, m.Name, zones)...)
	}
	return out
}

func shared(code, what, where, member string, seen map[string]string) []cloud.Finding {
	if where == "" {
		return nil
	}
	other, ok := seen[where]
	if !ok {
		seen[where] = member
		return nil
	}
	return []cloud.Finding{{Code: code, Severity: api.Warning, Resource: where,
		Message: member + ": shares " + what + " " + where + " with " + other + ", so one fault takes both; move one of them"}}
}

// notReady are the conditions under which a failover would not work now, beside those whose severity is Critical.
var notReady = []string{"AgentDisconnected", "ProviderMissing", "CheckFailed", "FailoverSuspended"}

// failoverReady tells from a group's status whether a failover would work now: somebody is active, another member
// is up, and no condition stands against it.
func failoverReady(g *api.ApplianceGroup) bool {
	a := g.Status.Assignment
	if a == nil {
		return false
	}
	standby := slices.ContainsFunc(g.Status.Members, func(m api.MemberStatus) bool { return m.Name != a.Active && m.Health == api.Up })
	return standby && !slices.ContainsFunc(g.Status.Conditions, func(c api.Condition) bool {
		return c.Severity == api.Critical || slices.Contains(notReady, c.Code)
	})
}

// getDoctor looks at everything the asker may see, afresh.
func (s *Server) getDoctor(c *call) error {
	tenant := c.tenant
	if !c.r.URL.Query().Has("tenant") {
		tenant = c.who.tenant
	}
	report := api.DoctorReport{Findings: []api.DoctorFinding{}, Ready: map[string]bool{}}
	if c.who.sees(api.AllTenants) {
		report.Findings = append(report.Findings, s.checkCluster()...)
	}
	groups, err := s.resources.list(c.r.Context(), api.KindApplianceGroup, tenant)
	if err != nil {
		return err
	}
	for i, found := range s.checkAll(c.r.Context(), groups) {
		g := groups[i].(*api.ApplianceGroup)
		name := g.Metadata.Tenant + "/" + g.Metadata.Name
		for _, f := range found {
			report.Findings = append(report.Findings, api.DoctorFinding{Code: f.Code, Severity: f.Severity, Subject: g.Ref().String(), Resource: f.Resource, Message: f.Message, Blocks: f.Blocks})
		}
		for _, cond := range g.Status.Conditions {
			if !slices.ContainsFunc(found, func(f cloud.Finding) bool { return f.Code == cond.Code && f.Message == cond.Message }) {
				report.Findings = append(report.Findings, api.DoctorFinding{Code: cond.Code, Severity: cond.Severity, Subject: g.Ref().String(), Message: cond.Message})
			}
		}
		report.Ready[name] = failoverReady(g) && !slices.ContainsFunc(found, func(f cloud.Finding) bool { return f.Blocks })
	}
	if err := errors.Join(s.checkMachines(c.r.Context(), tenant, &report), s.checkMirrors(c.r.Context(), tenant, &report)); err != nil {
		return err
	}
	writeJSON(c.w, http.StatusOK, report)
	return nil
}

// checkMachines finds what a machine's way back lacks, and what its status complains of.
func (s *Server) checkMachines(ctx context.Context, tenant string, report *api.DoctorReport) error {
	machines, err := s.resources.list(ctx, api.KindProtectedMachine, tenant)
	if err != nil {
		return err
	}
	for _, o := range machines {
		m := o.(*api.ProtectedMachine)
		add := func(code string, sev api.Severity, message string, blocks bool) {
			report.Findings = append(report.Findings, api.DoctorFinding{Code: code, Severity: sev, Subject: m.Ref().String(), Message: message, Blocks: blocks})
		}
		vault, _, err := s.resources.get(ctx, api.Ref{Kind: api.KindVault, Tenant: m.Metadata.Tenant, Name: m.Spec.Vault})
		if err != nil && !isNotFound(err) {
			return err
		}
		v, _ := vault.(*api.Vault)
		found, err := s.resources.reach(ctx, m, v)
		if err != nil {
			return err
		}
		ready := v != nil
		switch op := awayOperation(m); {
		case v == nil:
			add("VaultMissing", api.Critical, m.Spec.Vault+": there is no such Vault", true)
		case forbidden(m, op) != "":
			add("NotReady", api.Warning, forbidden(m, op), true)
			ready = false
		}
		for _, f := range found {
			sev := api.Critical
			if f.Overridden {
				sev = api.Warning
			}
			add(f.Code, sev, f.Message, !f.Overridden)
			ready = ready && f.Overridden
		}
		for _, cond := range m.Status.Conditions {
			add(cond.Code, cond.Severity, cond.Message, false)
		}
		report.Ready[m.Metadata.Tenant+"/machine/"+m.Metadata.Name] = ready
	}
	return nil
}

// awayOperation moves a machine to its other side.
func awayOperation(m *api.ProtectedMachine) api.OperationKind {
	if m.Status.ActiveLocation == api.Recovery {
		return api.OpFailback
	}
	return api.OpFailover
}

// checkMirrors finds vaults from which a controller could not be recovered.
func (s *Server) checkMirrors(ctx context.Context, tenant string, report *api.DoctorReport) error {
	machines, err := s.resources.list(ctx, api.KindProtectedMachine, tenant)
	if err != nil {
		return err
	}
	for _, ref := range usedVaults(machines) {
		o, _, err := s.resources.get(ctx, ref)
		if isNotFound(err) {
			continue // the machine's status says so
		}
		if err != nil {
			return err
		}
		add := func(code, message string) {
			report.Findings = append(report.Findings, api.DoctorFinding{Code: code, Severity: api.Warning, Subject: ref.String(), Message: message})
		}
		status := o.(*api.Vault).Status
		switch m := status.Mirror; {
		case m == nil:
			add("MirrorMissing", ref.Name+": it holds no mirror of the resources: if every controller is lost, `understudy server recover` finds nothing there")
		case s.now().Sub(m.At) > mirrorStale:
			add("MirrorStale", fmt.Sprintf("%s: its mirror of the resources is of %s: `understudy server recover` would find them as they were then", ref.Name, m.At.Format(time.RFC3339)))
		}
		for _, cond := range status.Conditions {
			report.Findings = append(report.Findings, api.DoctorFinding{Code: cond.Code, Severity: cond.Severity, Subject: ref.String(), Message: cond.Message})
		}
	}
	return nil
}

// doctorTimeout bounds one answer of doctor, and doctorParallel is how many groups it looks at at once.
const (
	doctorTimeout  = 25 * time.Second
	doctorParallel = 8
)

// checkAll checks groups side by side and gives the findings in their order.
func (s *Server) checkAll(ctx context.Context, groups []api.Object) [][]cloud.Finding {
	ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
	defer cancel()
	found := make([][]cloud.Finding, len(groups))
	room := make(chan struct{}, doctorParallel)
	var work sync.WaitGroup
	for i, o := range groups {
		work.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			found[i] = s.check(ctx, o.(*api.ApplianceGroup))
		})
	}
	work.Wait()
	return found
}

// checkCluster looks at the control plane itself.
func (s *Server) checkCluster() []api.DoctorFinding {
	var out []api.DoctorFinding
	add := func(code string, sev api.Severity, message string) {
		out = append(out, api.DoctorFinding{Code: code, Severity: sev, Subject: "cluster", Message: message})
	}
	if len(s.cfg.Peers) == 1 {
		add("SingleController", api.Warning, "there is one controller: when it fails nothing moves until it is back; see understudy cluster init")
	}
	if len(s.cfg.Peers) == 2 {
		add("TwoControllers", api.Warning, "there are two controllers: either's loss leaves no majority of observers; run three")
	}
	for _, n := range s.cfg.ControllerNames() {
		if n != s.name && !s.runtime.peers.lately(n) {
			add("PeerSilent", api.Warning, "controller "+n+" ("+s.cfg.Peers[n]+") has not told "+s.name+" what it observes for 5 s")
		}
	}
	if d := time.Until(s.id.ca.Cert.NotAfter); d < 180*24*time.Hour {
		add("CAExpires", api.Warning, "the cluster's CA expires on "+s.id.ca.Cert.NotAfter.Format(time.DateOnly))
	}
	if strings.HasPrefix(s.cfg.Listen, "127.") && len(s.cfg.Peers) > 1 {
		add("LoopbackListen", api.Warning, "the API of "+s.name+" listens on loopback alone")
	}
	return out
}
