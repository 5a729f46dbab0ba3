package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// The plan's lab is the two sites, and besides: a second process server at P; two machines without a VM, whose disks are
// served by NBD and written by scribes; and a pair of appliances, one a site, whose route on the host r1 follows the active one.
const (
	secondServer = "psq"
	planName     = "move-all"
	pairName     = "gate"
	pairPrefix   = "192.0.2.0/24"
	hookAddress  = "10.0.9.9:8099" // at the operator's
	manualWait   = 3 * time.Second // before the person says that it is done
)

var (
	planMachines = []string{"app", "web"}
	planCables   = []cable{
		{secondServer, netSiteP, netSiteP, "10.0.9.23/24"},
		{"gate-p", netSiteP, netSiteP, "10.0.9.41/24"},
		{"gate-r", netRest, netRest, "10.0.9.42/24"},
	}
	pairMembers = map[string]string{"gate-p": "10.0.9.41", "gate-r": "10.0.9.42"}
)

// planLab is the machines' lab with what the plan moves.
type planLab struct {
	*machineLab
	scribes map[string]*scribe
	hooks   *hookListener
}

// runPlan changes a machine's process server while it writes, then rehearses the plan, and carries it out.
func runPlan(ctx context.Context, o Options) (r Result, err error) {
	if len(o.Faults) > 0 {
		return r, refuse("fault", fmt.Sprint(o.Faults), "none: everything is planned")
	}
	m, err := newMachineLab(ctx, o, &r)
	l := &planLab{machineLab: m, scribes: map[string]*scribe{}}
	defer func() { err = errors.Join(err, l.closePlan()) }()
	if err != nil {
		return r, err
	}
	for _, part := range []func(context.Context) error{l.build, l.changeServer, l.rehearsePlan, l.carryOut} {
		if err := part(ctx); err != nil {
			return r, err
		}
	}
	return r, nil
}

func (l *planLab) closePlan() error {
	for _, s := range l.scribes {
		s.stop()
	}
	if l.hooks != nil {
		l.hooks.close()
	}
	return l.close()
}

func (l *planLab) diskFile(name string) string { return filepath.Join(l.dir, "p", name+".raw") }

func (l *planLab) socket(name, site string) string { return filepath.Join(l.dir, site, name+".sock") }

// build adds what the two sites do not have, and waits until both machines are protected and write.
func (l *planLab) build(ctx context.Context) (err error) {
	for _, c := range planCables {
		if err := l.topo.lay(c); err != nil {
			return err
		}
		s := l.topo.spaces[c.machine]
		if err := s.AddAddress("lo", netip.MustParsePrefix("127.0.0.1/8")); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		if err := s.SetUp("lo", true); err != nil {
			return err
		}
	}
	for name, address := range pairMembers {
		if _, err := l.start(name, program{name: name, path: l.binary, args: []string{"lab", "appliance", "--listen", address + ":8080"}}); err != nil {
			return err
		}
	}
	if err := l.startAgent(ctx, secondServer); err != nil {
		return err
	}
	var n api.Node
	if !waitFor(ctx, 30*time.Second, func() bool { return l.desk.get("/v1/nodes/"+secondServer, &n) == nil && n.Status.Connected }) {
		return fmt.Errorf("node %s is not connected after 30s", secondServer)
	}
	if err := l.placeHooks(); err != nil {
		return err
	}
	for _, name := range planMachines {
		if err := newScribeDisk(l.diskFile(name)); err != nil {
			return err
		}
	}
	resources, err := l.planResources()
	if err != nil {
		return err
	}
	if err := l.apply(ctx, resources...); err != nil {
		return err
	}
	for _, name := range planMachines {
		if l.scribes[name], err = startScribe(ctx, l.socket(name, "p"), 0); err != nil {
			return err
		}
		if _, err := l.waitNamed(ctx, name, "protected", 2*time.Minute, func(s api.MachineStatus) bool { return s.ProtectionState == api.Protected }); err != nil {
			return err
		}
	}
	l.say("two machines are protected and write; a pair stands at both sites")
	return nil
}

// planResources are the sites' without their machine, with the plan's.
func (l *planLab) planResources() ([]any, error) {
	all, err := l.resources()
	if err != nil {
		return nil, err
	}
	out := all[:len(all)-1]
	for _, o := range out {
		m := o.(map[string]any)
		if spec, ok := m["spec"].(map[string]any); ok && m["kind"] == "Site" && m["metadata"].(map[string]any)["name"] == "p" {
			spec["nodes"] = append(slices.Clone(spec["nodes"].([]string)), secondServer)
		}
	}
	out = append(out, &api.ProcessServer{Header: resourceHeader(api.KindProcessServer, secondServer),
		Spec: api.ProcessServerSpec{Node: secondServer, Site: "p", Address: "10.0.9.23:" + shipPort}},
		&api.Provider{Header: resourceHeader(api.KindProvider, "site"), Spec: api.ProviderSpec{Type: api.ProviderLinux, Linux: &api.LinuxProvider{Effects: api.EffectsFabric}}},
		l.pair())
	for _, name := range planMachines {
		out = append(out, l.planMachine(name, "psp"))
	}
	return append(out, l.recoveryPlan()), nil
}

func (l *planLab) planMachine(name, server string) *api.ProtectedMachine {
	return &api.ProtectedMachine{Header: resourceHeader(api.KindProtectedMachine, name), Spec: api.MachineSpec{
		Source: api.MachineSource{Site: "p", Fabric: "fp", Node: "p1", Listen: "unix:" + l.socket(name, "p")},
		Disks:  []api.MachineDisk{{Name: "root", Path: l.diskFile(name)}},
		Policy: "gold", ProcessServer: server, Vault: "vr",
		Recovery: api.MachineRecovery{Site: "r", Fabric: "fr", Node: "r1", Listen: "unix:" + l.socket(name, "r")}}}
}

func (l *planLab) pair() *api.ApplianceGroup {
	g := &api.ApplianceGroup{Header: resourceHeader(api.KindApplianceGroup, pairName), Spec: api.GroupSpec{
		Serves: []api.Audience{api.ServesWorkload}, Provider: "site", Profile: api.ProfileBalanced, Probe: api.Probe{Protocol: api.ProbeHTTP, Port: healthPort},
		RouteTables: []api.RouteTable{{ID: "r1", Routes: []api.Route{{Prefix: pairPrefix, NIC: "lan"}}}}}}
	for _, name := range []string{"gate-p", "gate-r"} {
		g.Spec.Members = append(g.Spec.Members, api.Member{Name: name, Probe: pairMembers[name], NICs: []api.NIC{{Name: "lan", Address: pairMembers[name]}}})
	}
	return g
}

// recoveryPlan: both machines at once, between a script and a webhook; then, when a person says so, the pair's route.
func (l *planLab) recoveryPlan() *api.RecoveryPlan {
	data := api.PlanGroup{Name: "data", Type: api.GroupBoot, Before: []api.PlanAction{{Name: "prepare", Script: "prepare"}},
		After: []api.PlanAction{{Name: "tell", Webhook: "http://" + hookAddress + "/"}}}
	for _, name := range planMachines {
		data.Items = append(data.Items, api.PlanItem{Machine: name})
	}
	network := api.PlanGroup{Name: "network", Type: api.GroupBoot, Items: []api.PlanItem{{ApplianceGroup: pairName, To: "gate-r", Back: "gate-p"}},
		Before: []api.PlanAction{{Name: "call", Manual: "Call the carrier.", Operations: []api.OperationKind{api.OpFailover}}}}
	return &api.RecoveryPlan{Header: resourceHeader(api.KindRecoveryPlan, planName), Spec: api.RecoveryPlanSpec{Groups: []api.PlanGroup{data, network}}}
}

// waitNamed is waitMachine for a machine of the plan.
func (l *planLab) waitNamed(ctx context.Context, name, what string, limit time.Duration, ok func(api.MachineStatus) bool) (api.MachineStatus, error) {
	var m api.ProtectedMachine
	var err error
	if waitFor(ctx, limit, func() bool {
		m = api.ProtectedMachine{}
		err = l.desk.get("/v1/protectedmachines/"+name, &m)
		return err == nil && ok(m.Status)
	}) {
		return m.Status, nil
	}
	return m.Status, fmt.Errorf("%s: not after %s: %s; it is %+v (%w)", name, limit, what, m.Status, err)
}
