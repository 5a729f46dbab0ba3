package steward

import (
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/lead"
)

const machine = "ProtectedMachine/default/db"

func keeper(generation int64) api.Section {
	return api.Section{Engine: api.EngineKeeper, Owner: machine, Generation: generation,
		Keeper: &api.KeeperConfig{Vault: api.VaultAccess{Name: "v", URL: "file:///v", CredentialsRef: "cred", KeyRef: "key"}}}
}

// lastApply is the newest wish an engine got in this life.
func (b *bench) lastApply(t *testing.T, events ...Event) (a Apply, n int) {
	t.Helper()
	for _, ev := range events {
		effects, _ := b.core.Step(b.now, ev)
		for _, e := range effects {
			if e, ok := e.(Apply); ok {
				a, n = e, n+1
			}
		}
		b.perform(effects)
	}
	return a, n
}

// A process of its own is told whether a leader of this life of the agent stands by its section: at once by a push, after a
// restart by an echo that names its owner, and only then.
func TestSectionsAreConfirmedInEachLife(t *testing.T) {
	b := newBench(t)
	b.connect(1)
	b.pass(time.Second)
	b.want("push", b.code(b.pushed(1, keeper(1))), "ok")
	if s := b.core.sections[lead.SectionKey(api.EngineKeeper, machine)]; !s.confirmed {
		t.Fatal("pushed and not confirmed")
	}
	b.start()
	if s := b.core.sections[lead.SectionKey(api.EngineKeeper, machine)]; s.confirmed {
		t.Fatal("confirmed by nobody in this life")
	}
	b.connect(1)
	b.pass(time.Second)
	echo := Echoed{Session: 1, Life: b.name(), Seq: b.core.seq, Cluster: "1-x", Epoch: 1}
	if _, n := b.lastApply(t, echo); n != 0 {
		t.Fatal("an echo that does not name the owner confirms it")
	}
	echo.Renews = []string{machine}
	stale := echo
	stale.Epoch = 0
	if _, n := b.lastApply(t, stale); n != 0 {
		t.Fatal("an older leadership confirms it")
	}
	a, n := b.lastApply(t, echo, echo)
	if n != 1 || !a.Confirmed || a.Section.Keeper == nil {
		t.Fatalf("after the echo: %d wishes, the last %+v", n, a)
	}
}

// An engine gets the secrets that its section names, no others, and has them after a restart.
func TestSecretsGoWithTheirSection(t *testing.T) {
	b := newBench(t)
	b.connect(1)
	b.pass(time.Second)
	p := b.pushed(1, keeper(1))
	p.Secrets = map[string]map[string]string{"cred": {"accountKey": "a"}, "key": {"identity": "i"}, "foreign": {"x": "y"}}
	b.want("push", b.code(p), "ok")
	got := b.disk.Sections[lead.SectionKey(api.EngineKeeper, machine)].Secrets
	if len(got) != 2 || got["cred"]["accountKey"] != "a" || got["key"]["identity"] != "i" {
		t.Fatalf("kept %v, want cred and key alone", got)
	}
	b.start()
	if s := b.core.sections[lead.SectionKey(api.EngineKeeper, machine)]; s.secrets["key"]["identity"] != "i" {
		t.Fatalf("after a restart: %v", s.secrets)
	}
}

// What an engine's process says goes into the report.
func TestEnginesSayHowTheyAre(t *testing.T) {
	b := newBench(t)
	b.connect(1)
	b.pass(time.Second)
	b.want("push", b.code(b.pushed(1, keeper(1))), "ok")
	b.step(Said{Engine: api.EngineKeeper, Owner: machine, State: api.EngineState{Phase: "keeping"}})
	r := b.core.Report()
	if len(r.Sections) != 1 || r.Sections[0].State == nil || r.Sections[0].State.Phase != "keeping" {
		t.Fatalf("report: %+v", r)
	}
}
