package qemu

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/hypervisor/guest"
)

func TestAccelerationIsFoundByBooting(t *testing.T) {
	ctx, memory := context.Background(), t.TempDir()
	kit, err := guest.Find(ctx)
	if err != nil {
		t.Fatal(err)
	}
	d := open(t, Config{Memory: memory, ProbeKernel: kit.Kernel})
	if err := d.boot(ctx, "tcg", kit.Kernel, 3*time.Minute); err != nil {
		t.Errorf("the probe does not boot: %v", err)
	}
	broken := filepath.Join(t.TempDir(), "vmlinuz")
	if err := os.WriteFile(broken, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.boot(ctx, "tcg", broken, 2*time.Second); err == nil {
		t.Error("a kernel of zeroes booted")
	}
	found, err := d.Acceleration(ctx)
	if err != nil || found.Use != "kvm" && found.Use != "tcg" || found.Why == "" {
		t.Fatalf("%+v %v", found, err)
	}
	t.Logf("%+v", found)
	// Another driver of the host knows it without booting anything.
	b, err := os.ReadFile(filepath.Join(memory, accelFile))
	if err != nil {
		t.Fatal(err)
	}
	told := strings.Replace(string(b), found.Why, "as told", 1)
	if err := os.WriteFile(filepath.Join(memory, accelFile), []byte(told), 0o600); err != nil {
		t.Fatal(err)
	}
	if again, err := open(t, Config{Memory: memory, ProbeKernel: kit.Kernel}).Acceleration(ctx); err != nil || again.Why != "as told" || again.Use != found.Use {
		t.Errorf("%+v %v", again, err)
	}
	// With another kernel, or on another host, it is found anew.
	if other, err := open(t, Config{Memory: memory, ProbeKernel: broken}).Acceleration(ctx); err != nil || other.Why == "as told" || other.Use != "tcg" {
		t.Errorf("%+v %v", other, err)
	}
	if _, err := Open(Config{Dir: t.TempDir(), Accelerator: "xen"}); err == nil {
		t.Error("xen passed")
	}
}
