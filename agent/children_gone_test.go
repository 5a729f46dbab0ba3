package agent

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/engines"
)

// swept is an engine that has discarded what it had.
type swept struct{}

func (swept) Set(context.Context, engines.Config) error { return nil }
func (swept) State() api.EngineState                    { return api.EngineState{Phase: "discarded", Instance: "t1"} }
func (swept) Close(context.Context) error               { return nil }

// TestDiscardLeavesNoHome: what a drill leaves on a node is nothing, and saying so again takes no process.
func TestDiscardLeavesNoHome(t *testing.T) {
	said := make(chan api.EngineState, 16)
	dir, err := os.MkdirTemp("", "us") // short: a socket lives in it
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	c, err := newChildren(Config{Dir: dir, Program: "/bin/false", Log: slog.Default()}, func(_, _ string, s api.EngineState) { said <- s })
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	section := api.Section{Engine: api.EngineSite, Owner: "ProtectedMachine/default/db drill", Site: &api.SiteConfig{Instance: "t1", Mode: "discard", Drill: true}}
	home := c.homeOf(section.Engine, section.Owner)
	if err := home.WriteConfig(engines.Config{Section: section}); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- engines.Run(context.Background(), home, "", func(context.Context, engines.Home) (engines.Engine, error) { return swept{}, nil })
	}()
	discarded := func(what string) {
		t.Helper()
		select {
		case s := <-said:
			if s.Phase != "discarded" || s.Instance != "t1" {
				t.Errorf("%s: %+v", what, s)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: nothing is said", what)
		}
	}
	for home.Pid() == 0 {
		time.Sleep(5 * time.Millisecond)
	}
	c.set(section, true, nil)
	discarded("by its process")
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(string(home)); errors.Is(err, fs.ErrNotExist) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("its home stays")
		}
	}
	c.set(section, true, nil)
	discarded("without a home")
	if home.Exists() {
		t.Error("it has a home again")
	}
}

// TestRenewedCertificateIsPassedOn: processes read their node's identity again, without a push.
func TestRenewedCertificateIsPassedOn(t *testing.T) {
	dir, err := os.MkdirTemp("", "us")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	said := make(chan api.EngineState, 64)
	c, err := newChildren(Config{Dir: dir, Program: "/bin/false", Log: slog.Default()}, func(_, _ string, s api.EngineState) { said <- s })
	if err != nil {
		t.Fatal(err)
	}
	section := api.Section{Engine: api.EngineProtect, Owner: "o", Protect: &api.ProtectConfig{Mode: "readonly"}}
	home := c.homeOf(section.Engine, section.Owner)
	if err := home.WriteConfig(engines.Config{Section: section}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended, sets := make(chan error, 1), make(counted, 64)
	go func() {
		ended <- engines.Run(ctx, home, "", func(context.Context, engines.Home) (engines.Engine, error) { return sets, nil })
	}()
	<-sets // at its start
	c.set(section, true, nil)
	<-sets
	<-said
	c.reread()
	select {
	case <-sets:
	case <-time.After(20 * time.Second):
		t.Error("the process does not hear of it")
	}
	c.close()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// counted tells of each Set.
type counted chan struct{}

func (c counted) Set(context.Context, engines.Config) error { c <- struct{}{}; return nil }
func (c counted) State() api.EngineState                    { return api.EngineState{Phase: "readonly"} }
func (c counted) Close(context.Context) error               { return nil }
