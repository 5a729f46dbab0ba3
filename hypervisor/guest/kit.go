// Package guest builds disks of small Linux guests, for the lab and for tests: Debian's cloud kernel, busybox, and the project's own
// workload (package workload) as the only program. No privilege and no mount is needed, and no network once `make deps` ran.
package guest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/understudy-ha/understudy/sourcetree"
)

// Kit is what guests are built from.
type Kit struct {
	// Kernel is the path of vmlinuz, Modules a directory with a file "order" that lists the modules to load.
	Kernel, Modules string
	// Busybox is a static busybox; Program the static workload.
	Busybox, Program string
	// GrubDir holds boot.img of grub for BIOS machines.
	GrubDir string
	// Cache keeps what was built before.
	Cache string
}

// Find the kit that `make deps` laid into .cache/guest of the module that the working directory or the running program is in, and
// build the workload.
func Find(ctx context.Context) (Kit, error) {
	root, err := sourcetree.Root()
	if err != nil {
		return Kit{}, fmt.Errorf("guest kit: %w", err)
	}
	cache := filepath.Join(root, ".cache", "guest")
	k := Kit{
		Kernel: filepath.Join(cache, "kernel", "vmlinuz"), Modules: filepath.Join(cache, "kernel", "modules"),
		Busybox: "/usr/bin/busybox", Program: filepath.Join(cache, "understudy-guest"), GrubDir: "/usr/lib/grub/i386-pc", Cache: cache,
	}
	if err := k.check(); err != nil {
		return Kit{}, err
	}
	return k, buildProgram(ctx, root, k.Program)
}

// check that everything is there, and name what is not and who brings it.
func (k Kit) check() error {
	for path, from := range map[string]string{
		k.Kernel: "scripts/guest.sh", filepath.Join(k.Modules, "order"): "scripts/guest.sh", k.Busybox: "the package busybox-static",
		filepath.Join(k.GrubDir, "boot.img"): "the package grub-pc-bin",
	} {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("guest kit: %w; run make deps: %s brings it", err, from)
		}
	}
	for tool, from := range map[string]string{"grub-mkimage": "grub-common", "mke2fs": "e2fsprogs"} {
		if _, err := findTool(tool); err != nil {
			return fmt.Errorf("guest kit: %w; run make deps: the package %s brings it", err, from)
		}
	}
	return nil
}

// findTool also where only root's PATH leads.
func findTool(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return p, nil
		}
	}
	return "", err
}

// buildProgram of the source tree as it is now. The file is replaced whole: others may be building guests.
func buildProgram(ctx context.Context, root, path string) error {
	tmp, err := os.MkdirTemp(filepath.Dir(path), "build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	built := filepath.Join(tmp, "program")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", built, "./cmd/understudy-guest")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("guest kit: build the workload: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return os.Rename(built, path)
}
