package oracle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// ErrDamaged says that a file system is not what a power cut may leave: its own checker found something to repair after its
// log was replayed.
var ErrDamaged = errors.New("the file system is damaged")

// CheckExt4 replays the journal of an ext2, 3 or 4 file system in an image and has all of it checked. It changes the image.
func CheckExt4(ctx context.Context, image string) error {
	if out, err := exec.CommandContext(ctx, "e2fsck", "-y", "-E", "journal_only", image).CombinedOutput(); err != nil && exitCode(err) != 1 {
		return fmt.Errorf("%w: journal: %w: %s", ErrDamaged, err, out)
	}
	if out, err := exec.CommandContext(ctx, "e2fsck", "-f", "-n", image).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %w: %s", ErrDamaged, err, out)
	}
	return nil
}

// CheckXFS mounts an image's XFS file system, which replays its log, and has it checked. It needs root, and changes the image.
func CheckXFS(ctx context.Context, image string) error {
	at, err := os.MkdirTemp("", "oracle-xfs-")
	if err != nil {
		return err
	}
	defer os.Remove(at)
	if out, err := exec.CommandContext(ctx, "mount", "-t", "xfs", "-o", "loop,nouuid", image, at).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: mount: %w: %s", ErrDamaged, err, out)
	}
	if out, err := exec.CommandContext(context.WithoutCancel(ctx), "umount", at).CombinedOutput(); err != nil {
		return fmt.Errorf("umount: %w: %s", err, out)
	}
	if out, err := exec.CommandContext(ctx, "xfs_repair", "-n", image).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %w: %s", ErrDamaged, err, tail(out))
	}
	return nil
}

func tail(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

func exitCode(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return -1
}
