package agent

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/engines"
)

// still is an engine whose state never changes.
type still struct{}

func (still) Set(context.Context, engines.Config) error { return nil }
func (still) State() api.EngineState                    { return api.EngineState{Phase: "readonly"} }
func (still) Close(context.Context) error               { return nil }

// TestAStateIsToldAfterEachPush: a controller that pushed waits for a state that is newer than its push, also if it is the same as before.
func TestAStateIsToldAfterEachPush(t *testing.T) {
	said := make(chan api.EngineState, 16)
	c, err := newChildren(Config{Dir: t.TempDir(), Program: "/bin/false", Log: slog.Default()}, func(_, _ string, s api.EngineState) { said <- s })
	if err != nil {
		t.Fatal(err)
	}
	section := api.Section{Engine: api.EngineProtect, Owner: "ProtectedMachine/default/db", Protect: &api.ProtectConfig{Mode: "readonly"}}
	home := c.homeOf(section.Engine, section.Owner)
	if err := home.WriteConfig(engines.Config{Section: section}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- engines.Run(ctx, home, "", func(context.Context, engines.Home) (engines.Engine, error) { return still{}, nil })
	}()
	for push := range 3 {
		section.Generation++
		c.set(section, true, nil)
		select {
		case s := <-said:
			if s.Phase != "readonly" {
				t.Errorf("push %d: %+v", push, s)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("push %d: no state is told", push)
		}
	}
	c.close()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if len(said) > 0 {
		t.Errorf("%d states more are told, and nothing changed", len(said))
	}
}
