package agent

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/engines"
)

// TestEnginesOfAnotherVersion: an upgraded agent ends a keeper that runs the old program, so that it is started anew, and tells of a machine's
// engine, which it leaves alone.
func TestEnginesOfAnotherVersion(t *testing.T) {
	for _, section := range []api.Section{
		{Engine: api.EngineKeeper, Owner: "Vault/default/v", Keeper: &api.KeeperConfig{}},
		{Engine: api.EngineProtect, Owner: "ProtectedMachine/default/db", Protect: &api.ProtectConfig{Mode: "writable"}},
	} {
		said := make(chan api.EngineState, 64)
		dir, err := os.MkdirTemp("", "us") // short: a socket lives in it
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		c, err := newChildren(Config{Dir: dir, Program: "/bin/false", Version: "2", Log: slog.Default()}, func(_, _ string, s api.EngineState) { said <- s })
		if err != nil {
			t.Fatal(err)
		}
		home := c.homeOf(section.Engine, section.Owner)
		if err := home.WriteConfig(engines.Config{Section: section}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- engines.Run(ctx, home, "1", func(context.Context, engines.Home) (engines.Engine, error) { return still{}, nil })
		}()
		for _, err := home.Ask(ctx); err != nil; _, err = home.Ask(ctx) {
			time.Sleep(5 * time.Millisecond)
		}
		c.set(section, true, nil)
		select {
		case s := <-said:
			if s.Version != "1" || !slices.ContainsFunc(s.Conditions, func(c api.Condition) bool { return c.Code == "EngineOtherVersion" }) {
				t.Errorf("%s says %+v", section.Engine, s)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s says nothing", section.Engine)
		}
		wait := time.After(20 * time.Second)
		if section.Protect != nil {
			wait = time.After(1500 * time.Millisecond)
		}
		select {
		case <-ended:
			if section.Protect != nil {
				t.Error("the machine's engine was ended")
			}
		case <-wait:
			if section.Protect == nil {
				t.Error("the keeper goes on")
			}
			cancel()
			<-ended
		}
		cancel()
		c.close()
	}
}

// TestADeletedMachineLeavesNoHome: nor does a process server or a keeper that is retired.
func TestADeletedMachineLeavesNoHome(t *testing.T) {
	for phase, section := range map[string]api.Section{
		"discarded": {Protect: &api.ProtectConfig{Mode: "discard"}},
		"retired":   {ProcessServer: &api.ProcessServerConfig{Retired: true}},
	} {
		if got := gone(engines.Config{Section: section}); got != phase {
			t.Errorf("%+v: %q is left", section, got)
		}
		if !over(engines.Config{Section: section}, api.EngineState{Phase: phase}) || over(engines.Config{Section: section}, api.EngineState{Phase: "serving"}) {
			t.Errorf("%+v: it is over when it is not, or not when it is", section)
		}
	}
}
