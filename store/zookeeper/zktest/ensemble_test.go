package zktest

import (
	"context"
	"strings"
	"testing"
	"time"
)

func TestEnsemble(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	begin := time.Now()
	e, err := Start(ctx, t.TempDir(), 3, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	t.Logf("three servers serve after %v", time.Since(begin).Round(time.Millisecond))
	old := e.Leader()
	if old < 0 || e.Pid(old) == 0 || len(e.Endpoints()) != 3 {
		t.Fatalf("leader %d, endpoints %v", old, e.Endpoints())
	}
	if err := e.Kill(old); err != nil {
		t.Fatal(err)
	}
	begin = time.Now()
	for e.Leader() < 0 {
		if ctx.Err() != nil {
			t.Fatal("no new leader")
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Logf("new leader after %v", time.Since(begin).Round(time.Millisecond))
	if e.Leader() == old || e.Pid(old) != 0 {
		t.Errorf("the killed server %d leads, pid %d", old, e.Pid(old))
	}
	if err := e.Restart(old); err != nil {
		t.Fatal(err)
	}
	if err := e.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	if m := e.mode(old); m != "follower" {
		t.Errorf("the server is back as %q", m)
	}
	for range 2 {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestStartSaysWhatIsWrong(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	e, err := Start(ctx, t.TempDir(), 1, Options{Classpath: "/nowhere.jar"})
	if err == nil {
		e.Close()
		t.Fatal("servers without a program serve")
	}
	if ctx.Err() != nil || !strings.Contains(err.Error(), "has ended by itself, see ") {
		t.Errorf("%v", err)
	}
}
