package controller

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/lead"
)

// estate is a world with one machine, from hq to dr, and nodes whose engines do at once what they are told.
type estate struct {
	*world
	has map[string]map[string]*api.SectionStatus // node → section key
	got map[string]map[string]api.Section
}

var web = api.Ref{Kind: api.KindProtectedMachine, Tenant: "default", Name: "web"}

func header(k api.Kind, name string) api.Header {
	return api.Header{APIVersion: api.Version, Kind: k, Metadata: api.Metadata{Name: name, Tenant: "default", Generation: 1}}
}

func newEstate(t *testing.T) *estate {
	e := &estate{world: newWorld(t), has: map[string]map[string]*api.SectionStatus{}, got: map[string]map[string]api.Section{}}
	e.engines = e.take
	e.says = e.sectionsOf
	e.place(nil)
	return e
}

// place writes the resources down and brings the nodes.
func (e *estate) place(change func(*api.ProtectedMachine)) {
	for _, n := range []string{"host1", "host2", "ps1", "ps2"} {
		e.agents["default/"+n] = true
		e.push(AgentHello{Node: "default/" + n, Session: 1, Life: "l"})
	}
	m := &api.ProtectedMachine{Header: header(api.KindProtectedMachine, "web"), Spec: api.MachineSpec{UID: "u", Policy: "gold", ProcessServer: "ps1", Vault: "v",
		Source: api.MachineSource{Site: "hq", Fabric: "hq", Node: "host1"}, Disks: []api.MachineDisk{{Name: "root", Path: "/srv/web"}}, VM: &api.VirtualMachine{},
		Recovery: api.MachineRecovery{Site: "dr", Fabric: "dr", Node: "host2", Check: &api.ServiceCheck{Address: "10.0.0.1:80"}},
		Failback: &api.MachineFailback{Vault: "back", ProcessServer: "ps2"}}}
	if change != nil {
		change(m)
	}
	for _, o := range []api.Object{
		&api.ReplicationPolicy{Header: header(api.KindReplicationPolicy, "gold")},
		&api.Vault{Header: header(api.KindVault, "v"), Spec: api.VaultSpec{Site: "dr", URL: "file:///v", Keeper: "host2", KeyRef: "key"}},
		&api.Vault{Header: header(api.KindVault, "back"), Spec: api.VaultSpec{Site: "hq", URL: "file:///back", Keeper: "host1", KeyRef: "key"}},
		&api.ProcessServer{Header: header(api.KindProcessServer, "ps1"), Spec: api.ProcessServerSpec{Node: "ps1", Site: "hq", Address: "10.0.0.5:9443"}},
		&api.ProcessServer{Header: header(api.KindProcessServer, "ps2"), Spec: api.ProcessServerSpec{Node: "ps2", Site: "dr", Address: "10.1.0.5:9443"}}, m,
	} {
		o.Default()
		e.put(api.ObjectKey(o.Head().Ref()), o)
	}
}

// take is what nodes do with a push.
func (e *estate) take(p Push) {
	if !e.agents[p.Node] {
		return
	}
	if e.has[p.Node] == nil {
		e.has[p.Node], e.got[p.Node] = map[string]*api.SectionStatus{}, map[string]api.Section{}
	}
	for _, s := range p.Sections {
		key := lead.SectionKey(s.Engine, s.Owner)
		if old, ok := e.got[p.Node][key]; ok && old.Generation > s.Generation {
			e.push(AgentApplied{Node: p.Node, Session: p.Session, Push: p.ID, Code: "old-generation"})
			return
		}
		e.got[p.Node][key] = s
		t := p.Token
		t.Generation = s.Generation
		was := e.has[p.Node][key]
		e.has[p.Node][key] = &api.SectionStatus{Engine: s.Engine, Owner: s.Owner, Applied: t, State: behave(s, was)}
	}
	e.push(AgentApplied{Node: p.Node, Session: p.Session, Push: p.ID, Code: "ok"})
	e.push(AgentReport{Node: p.Node, Session: p.Session, Sections: e.sectionsOf(p.Node)})
}

func (e *estate) sectionsOf(node string) []api.SectionStatus {
	var out []api.SectionStatus
	for _, s := range e.has[node] {
		out = append(out, *s)
	}
	return out
}

// behave is how an engine is soon after it was told.
func behave(s api.Section, was *api.SectionStatus) *api.EngineState {
	st := &api.EngineState{}
	if was != nil && was.State != nil {
		*st = *was.State
	}
	point := func(now string) {
		if now != "" && st.Done != now {
			st.Done, st.LastPoint, st.LastPointSeq = now, now, st.LastPointSeq+10
		}
		st.LastPointSeq, st.Protection = max(st.LastPointSeq, 5), "protected"
		st.Stored = st.LastPointSeq
	}
	yield := func(y *api.YieldConfig) {
		if y != nil {
			st.Phase, st.Done = "yielded", y.Branch
		}
	}
	switch {
	case s.Protect != nil:
		st.Stream = s.Protect.Stream
		st.Phase = map[string]string{"writable": "protected", "readonly": "readonly", "off": "off", "discard": "discarded"}[s.Protect.Mode]
		if len(s.Protect.ProcessServers) > 0 {
			point(s.Protect.PointNow)
		}
		yield(s.Protect.Yield)
	case s.Site != nil:
		st.Phase = map[string]string{"writable": "answering", "readonly": "readonly", "off": "stopped", "discard": "discarded"}[s.Site.Mode]
		if s.Site.Mode == "writable" && s.Site.VM != nil && !s.Site.Run {
			st.Phase = "stopped"
		}
		if st.Instance = s.Site.Instance; s.Site.Ship != nil {
			point(s.Site.Ship.PointNow)
		}
		yield(s.Site.Yield)
	case s.ProcessServer != nil && s.ProcessServer.Retired, s.Keeper != nil && s.Keeper.Retired:
		st.Phase = "retired"
	case s.ProcessServer != nil:
		st.Phase = "serving"
	default:
		st.Phase = "keeping"
	}
	return st
}

// lose takes nodes' sessions away; find gives them new ones.
func (e *estate) lose(nodes ...string) {
	for _, n := range nodes {
		e.agents["default/"+n] = false
		e.push(AgentGone{Node: "default/" + n, Session: e.core.agents["default/"+n].session})
	}
	e.settle()
}

func (e *estate) find(nodes ...string) {
	for _, n := range nodes {
		e.agents["default/"+n] = true
		e.push(AgentHello{Node: "default/" + n, Session: uint64(e.now.Mono), Life: "l", Sections: e.sectionsOf("default/" + n)})
	}
	e.settle()
}

// ask leaves a request, as the API does.
func (e *estate) ask(o api.Operation) {
	e.put(api.RequestKey(web), api.Request{Kind: api.RequestOperate, By: "ann", ID: string(o.Operation), Operation: &o})
}

// do asks and waits; the job must succeed.
func (e *estate) do(o api.Operation) api.Job {
	e.t.Helper()
	e.ask(o)
	e.pass(5 * time.Second)
	j := e.job(e.intent().Job)
	if j.Status.Phase != api.Succeeded || j.Spec.Kind != api.JobKind(o.Operation) {
		e.t.Fatalf("%s: job %s is a %s and %s: %s\n%s", o.Operation, j.Metadata.Name, j.Spec.Kind, j.Status.Phase, j.Status.Message, e.steps(j))
	}
	return j
}

func (e *estate) steps(j api.Job) string {
	out := strings.Join(e.log, "\n") + "\n"
	for _, s := range j.Status.Steps {
		out += s.ID + " " + string(s.State) + " " + s.Error + "\n"
	}
	return out
}

func (e *estate) intent() api.Assignment {
	var a api.Assignment
	if err := json.Unmarshal(e.data[api.AssignKey(web)].Value, &a); err != nil {
		e.t.Fatalf("assignment: %v; log %v", err, e.log)
	}
	return a
}

func (e *estate) shown() api.MachineStatus {
	var s api.MachineStatus
	if err := json.Unmarshal(e.data[api.StatusKey(web)].Value, &s); err != nil {
		e.t.Fatalf("status: %v; log %v", err, e.log)
	}
	return s
}

// section that a node has, or an empty one.
func (e *estate) section(node, engine, owner string) api.Section {
	return e.got["default/"+node][lead.SectionKey(engine, owner)]
}

func (e *estate) protect() *api.ProtectConfig {
	return e.section("host1", api.EngineProtect, web.String()).Protect
}

func (e *estate) site(node string) *api.SiteConfig {
	if s := e.section(node, api.EngineSite, web.String()).Site; s != nil {
		return s
	}
	return &api.SiteConfig{}
}

func (e *estate) ps(name string) *api.ProcessServerConfig {
	return e.section(name, api.EngineProcessServer, "ProcessServer/default/"+name).ProcessServer
}

func (e *estate) keeper(node, vault string) *api.KeeperConfig {
	return e.section(node, api.EngineKeeper, "Vault/default/"+vault).Keeper
}

func (e *estate) allows(ops ...api.OperationKind) {
	e.t.Helper()
	if got := e.shown().AllowedOperations; !slices.Equal(got, ops) {
		e.t.Errorf("allowed %v, want %v", got, ops)
	}
}
