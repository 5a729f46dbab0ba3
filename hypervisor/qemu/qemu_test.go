package qemu

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/hypervisor"
	"github.com/understudy-ha/understudy/hypervisor/hvtest"
)

func TestHypervisor(t *testing.T) {
	hvtest.Run(t, func(t *testing.T, dir string) hypervisor.Hypervisor {
		// A long name: sockets are reached all the same.
		d, err := Open(Config{Dir: filepath.Join(dir, strings.Repeat("machines", 12)), Accelerator: "tcg"})
		if err != nil {
			t.Fatal(err)
		}
		return d
	})
}

func blank(t *testing.T, name string) hypervisor.Machine {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(disk, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	return hypervisor.Machine{Name: name, MemoryMiB: 32, CPUs: 1, Disks: []hypervisor.Disk{{ID: "root", File: disk}}}
}

func open(t *testing.T, cfg Config) *Driver {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	d, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		names, _ := d.List(context.Background())
		for _, name := range names {
			if err := d.Remove(context.Background(), name); err != nil {
				t.Error(err)
			}
		}
	})
	return d
}

// TestAnotherProcessOfTheSameNumberIsLeftAlone: a pid file may be older than the process that has its number now.
func TestAnotherProcessOfTheSameNumberIsLeftAlone(t *testing.T) {
	ctx, d := context.Background(), open(t, Config{Accelerator: "tcg"})
	m := blank(t, "one")
	if err := d.Start(ctx, m); err != nil {
		t.Fatal(err)
	}
	if err := d.Kill(ctx, "one"); err != nil {
		t.Fatal(err)
	}
	other := exec.Command("sleep", "100")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	pid := []byte(strconv.Itoa(other.Process.Pid) + "\n")
	if err := os.WriteFile(filepath.Join(d.dir("one"), pidFile), pid, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := d.Status(ctx, "one"); err != nil || s.State != hypervisor.Stopped {
		t.Errorf("%+v %v", s, err)
	}
	if err := d.Kill(ctx, "one"); err != nil {
		t.Fatal(err)
	}
	if commandLine(other.Process.Pid) == nil {
		t.Error("somebody else's process was killed")
	}
}

// TestMachineOutlivesWhoStartedIt starts a machine in a process that dies before it hears how it went.
func TestMachineOutlivesWhoStartedIt(t *testing.T) {
	ctx, d := context.Background(), open(t, Config{Accelerator: "tcg"})
	m := blank(t, "one")
	for _, after := range []time.Duration{5, 20, 40, 80, 200, 1000} {
		starter := exec.Command(os.Args[0])
		starter.Env = append(os.Environ(), "QEMU_START="+d.cfg.Dir, "QEMU_DISK="+m.Disks[0].File)
		if err := starter.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(after * time.Millisecond)
		_ = starter.Process.Kill()
		_ = starter.Wait()
		if err := d.Start(ctx, m); err != nil { // adopted, or started; never twice: QEMU would not have the lock on the disk
			t.Fatalf("after %d ms: %v", after, err)
		}
		if s, err := d.Status(ctx, "one"); err != nil || s.State != hypervisor.Running {
			t.Fatalf("after %d ms: %+v %v", after, s, err)
		}
		if err := d.Kill(ctx, "one"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMain(m *testing.M) {
	if dir := os.Getenv("QEMU_START"); dir != "" {
		d, err := Open(Config{Dir: dir, Accelerator: "tcg"})
		if err == nil {
			err = d.Start(context.Background(), hypervisor.Machine{Name: "one", MemoryMiB: 32, CPUs: 1,
				Disks: []hypervisor.Disk{{ID: "root", File: os.Getenv("QEMU_DISK")}}})
		}
		if err != nil {
			panic(err)
		}
		time.Sleep(time.Minute)
	}
	m.Run()
}

func TestRefusalOfQEMUIsTold(t *testing.T) {
	d := open(t, Config{Accelerator: "tcg"})
	m := blank(t, "one")
	m.Disks[0].File = "/nowhere/disk.img"
	if err := d.Start(context.Background(), m); err == nil || !strings.Contains(err.Error(), "No such file") {
		t.Errorf("%v", err)
	}
	if s, err := d.Status(context.Background(), "one"); err != nil || s.State != hypervisor.Stopped {
		t.Errorf("%+v %v", s, err)
	}
}

// TestMachineRunsInANamespace has a tap interface in a namespace of its own, made by QEMU there.
func TestMachineRunsInANamespace(t *testing.T) {
	ns := "ustest-" + strconv.Itoa(os.Getpid())
	if out, err := exec.Command("ip", "netns", "add", ns).CombinedOutput(); err != nil {
		t.Fatalf("ip netns add: %v: %s", err, out)
	}
	defer func() { _ = exec.Command("ip", "netns", "del", ns).Run() }()
	d := open(t, Config{Accelerator: "tcg"})
	m := blank(t, "one")
	m.NetNS = "/run/netns/" + ns
	m.NICs = []hypervisor.NIC{{Mode: hypervisor.Tap, Tap: "tap7"}}
	if err := d.Start(context.Background(), m); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("ip", "-n", ns, "link", "show", "tap7").CombinedOutput(); err != nil {
		t.Errorf("no tap7 in the namespace: %s", out)
	}
	if out, err := exec.Command("ip", "link", "show", "tap7").CombinedOutput(); err == nil {
		t.Errorf("tap7 is in the host's namespace: %s", out)
	}
	if err := d.Kill(context.Background(), "one"); err != nil {
		t.Fatal(err)
	}
}

func TestStrangersAreDiscovered(t *testing.T) {
	m := blank(t, "unused")
	other := exec.Command("qemu-system-x86_64", "-name", "guest=stranger", "-m", "48", "-display", "none", "-accel", "tcg", "-S",
		"-drive", "file="+filepath.Base(m.Disks[0].File)+",format=raw,if=virtio,id=d0")
	other.Dir = filepath.Dir(m.Disks[0].File)
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	d := open(t, Config{Accelerator: "tcg"})
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		found, err := d.Discover(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			if f.Status.PID == other.Process.Pid {
				if f.Ours || f.Machine.Name != "stranger" || f.Machine.MemoryMiB != 48 || f.Machine.Disks[0].File != m.Disks[0].File {
					t.Errorf("%+v", f)
				}
				return
			}
		}
		if time.Now().After(end) {
			t.Fatalf("not discovered: %+v", found)
		}
	}
}
