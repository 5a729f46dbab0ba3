package qemu

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"time"

	"golang.org/x/sys/unix"
)

// accelFile remembers what accelerates here.
const accelFile = ".acceleration.json"

// probeLimit is how long a kernel may take to boot under kvm. It takes a second where kvm works.
const probeLimit = 15 * time.Second

// Acceleration is what machines are run with, and why.
type Acceleration struct {
	// Use is kvm or tcg.
	Use string `json:"use"`
	// Why in words.
	Why string `json:"why"`
	// Seen is what the answer was found on: host kernel, QEMU and booted kernel. Another host finds out anew.
	Seen string `json:"seen,omitempty"`
}

// Acceleration that machines are started with. The first call may boot a kernel, at most 15 s; the answer is kept. That
// /dev/kvm exists proves nothing: it may open and then not run a guest.
func (d *Driver) Acceleration(ctx context.Context) (Acceleration, error) {
	if d.cfg.Accelerator != "auto" {
		return Acceleration{Use: d.cfg.Accelerator, Why: "configured"}, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.accel.Use != "" {
		return d.accel, nil
	}
	f, err := lock(ctx, filepath.Join(d.cfg.Memory, accelFile+".lock"))
	if err != nil {
		return Acceleration{}, err
	}
	defer f.Close()
	d.accel, err = d.findAcceleration(ctx)
	return d.accel, err
}

func (d *Driver) findAcceleration(ctx context.Context) (Acceleration, error) {
	kernel := d.cfg.ProbeKernel
	if kernel == "" {
		kernel = newestKernel("/boot")
	}
	path := filepath.Join(d.cfg.Memory, accelFile)
	seen := d.surroundings(kernel)
	var known Acceleration
	if b, err := os.ReadFile(path); err == nil && json.Unmarshal(b, &known) == nil && known.Seen == seen && known.Use != "" {
		return known, nil
	}
	a, err := d.tryKVM(ctx, kernel)
	if err != nil {
		return Acceleration{}, err
	}
	a.Seen = seen
	b, err := json.Marshal(a)
	if err != nil {
		return a, err
	}
	return a, replaceFile(path, b)
}

// tryKVM boots a kernel under kvm. The error is ctx's only; everything else is an answer.
func (d *Driver) tryKVM(ctx context.Context, kernel string) (Acceleration, error) {
	no := func(why string) (Acceleration, error) { return Acceleration{Use: "tcg", Why: why}, ctx.Err() }
	if err := unix.Access("/dev/kvm", unix.R_OK|unix.W_OK); err != nil {
		return no("/dev/kvm: " + err.Error())
	}
	if kernel == "" {
		return no("there is no kernel in /boot to try kvm with")
	}
	start := time.Now()
	if err := d.boot(ctx, "kvm", kernel, probeLimit); err != nil {
		return no("a kernel does not boot under kvm: " + err.Error())
	}
	return Acceleration{Use: "kvm", Why: fmt.Sprintf("a kernel booted under kvm in %.1f s", time.Since(start).Seconds())}, nil
}

// boot a kernel with an initramfs that says so and turns the power off.
func (d *Driver) boot(ctx context.Context, accel, kernel string, limit time.Duration) error {
	initrd := filepath.Join(d.cfg.Memory, ".probe.cpio")
	if err := replaceFile(initrd, probeInitramfs()); err != nil {
		return err
	}
	defer os.Remove(initrd)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, d.cfg.Binary, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc", "-accel", accel,
		"-cpu", cpu(accel), "-m", "256", "-no-reboot", "-serial", "stdio", "-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 quiet no_timer_check panic=-1")
	cmd.WaitDelay = time.Second
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err := cmd.Run()
	switch {
	case bytes.Contains(out.Bytes(), []byte(probeMarker)):
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("nothing within %v", limit)
	case err != nil:
		return fmt.Errorf("%w: %s", err, firstLine(complaint.Bytes()))
	}
	return errors.New("it ended without a word")
}

func firstLine(b []byte) string {
	l, _, _ := bytes.Cut(bytes.TrimSpace(b), []byte("\n"))
	return string(l)
}

// surroundings that an answer is good for.
func (d *Driver) surroundings(kernel string) string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	return fmt.Sprintf("%s %s %s", unix.ByteSliceToString(u.Release[:]), stamp(d.cfg.Binary), stamp(kernel))
}

// stamp of a file: another one of the same name has another.
func stamp(path string) string {
	fi, err := os.Stat(path)
	if err != nil {
		return path + "?"
	}
	return fmt.Sprintf("%s@%d", path, fi.ModTime().Unix())
}

func newestKernel(dir string) string {
	found, _ := filepath.Glob(filepath.Join(dir, "vmlinuz-*"))
	sort.Slice(found, func(i, j int) bool { return stamp(found[i]) < stamp(found[j]) })
	if len(found) == 0 {
		return ""
	}
	return found[len(found)-1]
}
