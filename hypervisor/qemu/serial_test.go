package qemu

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/understudy-ha/understudy/hypervisor"
)

// TestSerialIsBounded: a guest that talks without end does not fill the disk, and its last words are there.
func TestSerialIsBounded(t *testing.T) {
	ctx, d := context.Background(), open(t, Config{Accelerator: "tcg"})
	if err := d.Start(ctx, blank(t, "one")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(d.dir("one"), serialFile)
	talk := append(bytes.Repeat([]byte("talk "), 3*hypervisor.SerialKept/5), "the end"...)
	if err := os.WriteFile(path, talk, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Status(ctx, "one"); err != nil {
		t.Fatal(err)
	}
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil || s.Size != int64(len(talk)) || s.Blocks*512 > hypervisor.SerialKept+64<<10 {
		t.Errorf("%d bytes in %d KiB, %v; want all %d in %d KiB", s.Size, s.Blocks/2, err, len(talk), hypervisor.SerialKept>>10)
	}
	for at, want := range map[int64]string{-7: "the end", int64(len(talk) - hypervisor.SerialKept): string(talk[len(talk)-hypervisor.SerialKept:][:9])} {
		if got, err := d.Serial(ctx, "one", at); err != nil || !bytes.HasPrefix(got, []byte(want)) {
			t.Errorf("at %d: %.9q, %v; want %q", at, got, err, want)
		}
	}
}
