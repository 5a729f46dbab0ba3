package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/understudy-ha/understudy/freeport"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"understudy": main})
}

// TestScripts runs testdata/*.txtar: the real binary, and where a script starts one a real controller.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:   "testdata",
		Setup: setUpScript,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":      exits,
			"eventually": eventually,
			"appliance":  applianceCmd,
			"envsubst":   envsubst,
			"capture":    capture,
		},
	})
}

// setUpScript gives a script free ports, two appliances that answer probes ($PROBE_A and $PROBE_B), and a directory for agents.
func setUpScript(e *testscript.Env) error {
	e.Setenv("NO_COLOR", "1")
	e.Setenv("HOME", e.WorkDir)
	if err := shortDir(e); err != nil {
		return err
	}
	for _, name := range []string{"API", "CLUSTER", "ARM", "PS1", "PS2"} {
		at, err := freeport.Address()
		if err != nil {
			return err
		}
		e.Setenv(name, at)
	}
	all := map[string]*appliance{}
	for _, name := range []string{"A", "B"} {
		a, err := newAppliance()
		if err != nil {
			return err
		}
		all[name] = a
		e.Setenv("PROBE_"+name, a.address)
		e.Defer(a.stop)
	}
	e.Values[appliancesKey{}] = all
	return nil
}

type appliancesKey struct{}

// appliance accepts connections and drops them, which is all that a tcp probe asks for.
type appliance struct {
	address string
	mu      sync.Mutex
	l       net.Listener
	served  sync.WaitGroup
}

func newAppliance() (*appliance, error) {
	a := &appliance{address: "127.0.0.1:0"}
	err := a.start()
	return a, err
}

func (a *appliance) start() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	l, err := net.Listen("tcp", a.address)
	if err != nil {
		return err
	}
	a.l, a.address = l, l.Addr().String()
	a.served.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = conn.Close() // the probe has seen what it wants
		}
	})
	return nil
}

func (a *appliance) stop() {
	a.mu.Lock()
	_ = a.l.Close() // twice is harmless
	a.mu.Unlock()
	a.served.Wait()
}

// applianceCmd is "appliance A stop" or "appliance A start".
func applianceCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: appliance NAME start|stop")
	}
	a := ts.Value(appliancesKey{}).(map[string]*appliance)[args[0]]
	if args[1] == "stop" {
		a.stop()
		return
	}
	ts.Check(a.start())
}

// exits is "exits CODE understudy …": the exit code must be just that.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND …")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// eventuallyWithin is how long eventually tries: a loaded machine with the race detector is slow. Between two tries, of which each takes
// a core for a third of a second, it leaves that to what it waits for.
const (
	eventuallyWithin = 60 * time.Second
	eventuallyEvery  = 500 * time.Millisecond
)

// eventually is "eventually REGEXP understudy …": the command's output must come to match.
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: eventually REGEXP COMMAND …")
	}
	want := regexp.MustCompile("(?m)" + args[0])
	ctx, cancel := context.WithTimeout(context.Background(), eventuallyWithin)
	defer cancel()
	for {
		err := ts.Exec(args[1], args[2:]...)
		out := ts.ReadFile("stdout")
		if err == nil && want.MatchString(out) {
			return
		}
		if sleep(ctx, eventuallyEvery) != nil {
			ts.Fatalf("%s: after %v the output does not match %q:\n%s%s", strings.Join(args[1:], " "), eventuallyWithin, args[0], out, fmt.Sprint(err))
		}
	}
}

// envsubst is "envsubst FILE": ${NAME} in it becomes the script's variable.
func envsubst(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: envsubst FILE")
	}
	text := os.Expand(ts.ReadFile(args[0]), ts.Getenv)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

// capture is "capture NAME REGEXP FILE": what the expression's first group matches becomes the script's variable. FILE may be
// stdout.
func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: capture NAME REGEXP FILE")
	}
	m := regexp.MustCompile("(?m)" + args[1]).FindStringSubmatch(ts.ReadFile(args[2]))
	if len(m) < 2 {
		ts.Fatalf("nothing in %s matches %q", args[2], args[1])
	}
	ts.Setenv(args[0], m[1])
}

// shortDir makes $SHORT, for agents: their engines' sockets lie in it, whose names may be 107 bytes long. Engines outlive their
// agents; those of the script end with it.
func shortDir(e *testscript.Env) error {
	dir, err := os.MkdirTemp("", "us")
	if err != nil {
		return err
	}
	e.Setenv("SHORT", dir)
	e.Defer(func() {
		locks, _ := filepath.Glob(filepath.Join(dir, "*/engines/*/lock")) // the pattern is well-formed
		for _, lock := range locks {
			home := filepath.Dir(lock)
			text, err := os.ReadFile(lock)
			pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
			cmdline, err2 := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			if err != nil || err2 != nil || !strings.Contains(string(cmdline), home) {
				continue // it has ended
			}
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		_ = os.RemoveAll(dir)
	})
	return nil
}
