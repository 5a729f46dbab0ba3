package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// built is where the product's binary goes, whose verbs run on the lab's machines.
var built string

// builtBinary builds it, once.
var builtBinary = sync.OnceValue(func() error {
	out, err := exec.Command("go", "build", "-o", filepath.Join(built, "understudy"), "../cmd/understudy").CombinedOutput()
	if err != nil {
		return fmt.Errorf("build understudy: %w\n%s", err, out)
	}
	return nil
})

func TestMain(m *testing.M) {
	var err error
	if built, err = os.MkdirTemp("", "understudy-lab-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(built)
	os.Exit(code)
}

// otherRelease builds the product's binary with another version. What it does is the same; scripts/soak.sh upgrades from one
// that does not.
func otherRelease(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "understudy")
	out, err := exec.Command("go", "build", "-ldflags", "-X main.version=earlier", "-o", path, "../cmd/understudy").CombinedOutput()
	if err != nil {
		t.Fatalf("build understudy: %v\n%s", err, out)
	}
	return path
}

// Scenarios that say what happens, and not how soon, run beside each other (t.Parallel): they mostly wait. Those that measure, or load the
// machine, run before them, one at a time.

// testOptions has the binary and shows progress in the test's log.
func testOptions(t *testing.T) Options {
	t.Helper()
	if err := builtBinary(); err != nil {
		t.Fatal(err)
	}
	return Options{Binary: filepath.Join(built, "understudy"), Progress: t.Output()}
}

// testLab builds the site and checks at the end that nothing of it is left.
func testLab(t *testing.T, userSpace bool) (context.Context, *nvaLab) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	l, err := newNVALab(ctx, testOptions(t), userSpace)
	t.Cleanup(func() {
		if err := l.close(); err != nil {
			t.Errorf("remove the lab: %v", err)
		}
		entries, _ := os.ReadDir(namespaceDir)
		for _, e := range entries {
			if l.run != nil && strings.HasPrefix(e.Name(), l.run.namespace("")) {
				t.Errorf("namespace %s is left", e.Name())
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return ctx, l
}

// startSite points the routes at nva-a by hand and starts the traffic.
func startSite(ctx context.Context, t *testing.T, l *nvaLab) *traffic {
	t.Helper()
	if err := l.topo.point(addressOf("nva-a", netOutside), addressOf("nva-a", netInside)); err != nil {
		t.Fatal(err)
	}
	tr, err := l.startTraffic(siteFlows(10 * time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.close)
	if err := tr.waitFlowing(ctx, 300*time.Millisecond, 10*time.Second, append(packetKinds, FlowTCP)...); err != nil {
		t.Fatal(err)
	}
	return tr
}

func TestEveryProtocolPassesBothKindsOfAppliance(t *testing.T) {
	for _, userSpace := range []bool{false, true} {
		t.Run(fmt.Sprintf("userSpace=%t", userSpace), func(t *testing.T) {
			ctx, l := testLab(t, userSpace)
			tr := startSite(ctx, t, l)
			if !l.waitSessions(ctx, tr.flows, 5*time.Second) {
				t.Error("the standby does not know the TCP connections")
			}
			move := func() error { return l.topo.point(addressOf("nva-b", netOutside), addressOf("nva-b", netInside)) }
			o, err := l.measure(ctx, tr, 5*time.Second, move)
			if err != nil {
				t.Fatal(err)
			}
			if !o.restored || o.lost > 20 || o.sessions > 0 {
				t.Errorf("a move of the routes: %+v; want no TCP connection broken and hardly a packet lost", o)
			}
			cut := func() error { l.appliance("nva-b").kill(); return nil }
			o, err = l.measure(ctx, tr, time.Second, cut)
			if err != nil {
				t.Fatal(err)
			}
			if o.restored == userSpace {
				t.Errorf("killed the appliance's process: traffic flows = %t with userSpace = %t", o.restored, userSpace)
			}
		})
	}
}

func TestKeepalivedMovesTheAddresses(t *testing.T) {
	ctx, l := testLab(t, false)
	k := newKeepalived(l, 100*time.Millisecond)
	if err := k.start(ctx); err != nil {
		t.Fatal(err)
	}
	tr, err := l.startTraffic(siteFlows(10 * time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer tr.close()
	if err := tr.waitFlowing(ctx, 300*time.Millisecond, 10*time.Second, append(packetKinds, FlowTCP)...); err != nil {
		t.Fatal(err)
	}
	for _, f := range applianceFaults[:2] {
		o, victim, err := l.round(ctx, tr, k, f, 8*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		now, err := k.active(ctx)
		if err != nil || now == victim || !o.restored {
			t.Errorf("%s on %s: active %s after it, error %v, %+v", f.name, victim, now, err, o)
		}
		if o.outage < 100*time.Millisecond || o.outage > 5*time.Second {
			t.Errorf("%s: outage %s, want between 100 ms and 5 s", f.name, o.outage)
		}
	}
}

func TestDownRemovesWhatADeadRunLeft(t *testing.T) {
	run, err := newRunDir()
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSpace(run.namespace("client"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := Down(true); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(run.path); err != nil {
		t.Fatalf("a run in progress was removed: %v", err)
	}
	if err := writeFile(run.path+"/owner", "4194305 1"); err != nil { // more than the kernel's largest pid
		t.Fatal(err)
	}
	if _, err := Down(false); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{run.path, namespaceDir + "/" + s.name} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is left of a dead run", path)
		}
	}
}
