package live

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/capture/disk"
	"github.com/understudy-ha/understudy/engines"
	"github.com/understudy-ha/understudy/hypervisor"
)

// box is a hypervisor with one virtual machine, which fails to start some times.
type box struct {
	hypervisor.Hypervisor
	mu      sync.Mutex
	refuses int
	up      bool
	deaf    bool          // its guest does not shut down when asked
	begun   chan struct{} // a start has begun
	go_     chan struct{} // and may go on
}

func (b *box) Start(context.Context, hypervisor.Machine) error {
	if b.begun != nil {
		b.begun <- struct{}{}
		<-b.go_
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refuses--; b.refuses >= 0 {
		return errors.New("no memory just now")
	}
	b.up = true
	return nil
}

func (b *box) Stop(ctx context.Context, _ string, grace time.Duration) (bool, error) {
	if b.deaf {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(grace):
		}
	}
	return true, b.Kill(ctx, "")
}

func (b *box) Kill(context.Context, string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.up = false
	return nil
}

func (b *box) Status(context.Context, string) (hypervisor.Status, error) {
	if b.runs() {
		return hypervisor.Status{State: hypervisor.Running}, nil
	}
	return hypervisor.Status{State: hypervisor.Crashed}, nil
}

func (b *box) runs() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.up
}

func keep(t *testing.T, b *box) *Machine {
	m := &Machine{vm: engines.NewVM(b, "db"), vmRetry: 10 * time.Millisecond}
	m.ctx, m.stop = context.WithCancel(context.Background())
	m.work.Go(m.keepVM)
	t.Cleanup(func() { m.stop(); m.work.Wait() })
	return m
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not: " + what)
		}
	}
}

// TestStartIsTriedAgain: what a virtual machine lacks may come; and one that goes by itself is told of.
func TestStartIsTriedAgain(t *testing.T) {
	b := &box{refuses: 2}
	m := keep(t, b)
	m.wishVM(vmWish{up: true})
	until(t, "up", b.runs)
	_, _ = b.Stop(t.Context(), "db", 0) // by itself
	until(t, "told of", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.vmGone
	})
	if b.runs() {
		t.Error("a guest that went by itself is started again")
	}
}

// TestStopAfterStart: a stop that comes while a start is under way is not overtaken by it.
func TestStopAfterStart(t *testing.T) {
	b := &box{begun: make(chan struct{}, 1), go_: make(chan struct{})}
	m := keep(t, b)
	m.wishVM(vmWish{up: true})
	<-b.begun
	stopped := make(chan error, 1)
	go func() { stopped <- m.StopVM(t.Context(), 0) }()
	time.Sleep(20 * time.Millisecond)
	close(b.go_)
	if err := <-stopped; err != nil || b.runs() {
		t.Errorf("after the stop: up %v, %v", b.runs(), err)
	}
	time.Sleep(30 * time.Millisecond)
	if b.runs() {
		t.Error("it is up again")
	}
}

// TestReadOnlyCutsThePower: a guest that cannot write any more is not asked to shut down, and not waited for where it was.
func TestReadOnlyCutsThePower(t *testing.T) {
	b := &box{deaf: true}
	m := keep(t, b)
	m.wishVM(vmWish{up: true})
	until(t, "up", b.runs)
	if err := m.setVM(Spec{VM: &api.VirtualMachine{}, StopTimeout: time.Hour}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	if !b.runs() {
		t.Fatal("it was not asked in good order")
	}
	if err := m.setVM(Spec{VM: &api.VirtualMachine{}, Run: true, Access: disk.ReadOnly, StopTimeout: time.Hour}); err != nil {
		t.Fatal(err)
	}
	until(t, "down", func() bool { return !b.runs() })
	m.wishVM(vmWish{up: true})
	until(t, "up again", b.runs)
	if err := m.CutVM(t.Context()); err != nil || b.runs() {
		t.Errorf("after the cut: up %v, %v", b.runs(), err)
	}
}
