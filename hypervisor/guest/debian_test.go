//go:build soak

package guest_test

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/hypervisor"
	"github.com/understudy-ha/understudy/hypervisor/guest"
	"github.com/understudy-ha/understudy/hypervisor/guest/workload"
)

// TestDebianGuest needs scripts/guest.sh debian, and minutes; it runs in the soak.
func TestDebianGuest(t *testing.T) {
	ctx, b, root := context.Background(), newBench(t), filepath.Join(t.TempDir(), "root.img")
	begun := time.Now()
	if err := b.kit.BuildDebian(ctx, guest.Root{Path: root, Size: 2 << 30, Settings: workload.Settings{Hostname: "db"}}); err != nil {
		t.Fatal(err)
	}
	t.Logf("built in %.1f s", time.Since(begun).Seconds())
	m := b.machine(hypervisor.Disk{ID: "root", File: root})
	m.MemoryMiB, m.NICs[0].Forwards[0].Port = 512, 5432
	b.start(m)
	b.until("the guest agent answers", func() bool { return b.hv.AgentReady(ctx, "guest") })
	if n, err := b.hv.Freeze(ctx, "guest"); err != nil || n != 1 {
		t.Errorf("froze %d: %v", n, err)
	}
	if n, err := b.hv.Thaw(ctx, "guest"); err != nil || n != 1 {
		t.Errorf("thawed %d: %v", n, err)
	}
	// PostgreSQL refuses TLS by one letter, so that it is known who answers.
	b.until("PostgreSQL answers", func() bool {
		c, err := net.DialTimeout("tcp", b.http.String(), 5*time.Second)
		if err != nil {
			return false
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		_, _ = c.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47})
		answer := make([]byte, 1)
		_, err = c.Read(answer)
		return err == nil && (answer[0] == 'N' || answer[0] == 'S')
	})
	if clean, err := b.hv.Stop(ctx, "guest", bootLimit); err != nil || !clean {
		t.Errorf("stopped cleanly %v: %v", clean, err)
	}
}
