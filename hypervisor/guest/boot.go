package guest

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	sector = 512
	// partitionStart is where the root partition begins. Grub's core lies in front of it.
	partitionStart = 1 << 20
	// coreAddress is where the first sector of grub's core has the rest loaded, as a segment.
	coreAddress = 0x820
)

// grubConfig boots at once. no_timer_check: on a loaded host the timer of an emulated machine may come late, which is no defect.
const grubConfig = `set root=(hd0,msdos1)
linux /boot/vmlinuz rw console=tty0 console=ttyS0 quiet no_timer_check panic=5 %s
initrd /boot/initrd
boot
`

// writeBoot makes the disk f, of size bytes, bootable by BIOS: master boot record, partition table, grub's core from sector 1 on.
func (k Kit) writeBoot(ctx context.Context, f *os.File, size int64, kernelArgs string) error {
	record, err := os.ReadFile(filepath.Join(k.GrubDir, "boot.img"))
	if err != nil {
		return err
	}
	core, err := k.grubCore(ctx, kernelArgs)
	if err != nil {
		return err
	}
	if len(record) != sector || len(core) > partitionStart-sector {
		return fmt.Errorf("grub: boot.img has %d bytes and the core %d; want %d and at most %d", len(record), len(core), sector, partitionStart-sector)
	}
	if _, err := f.WriteAt(bootRecord(record, size), 0); err != nil {
		return err
	}
	_, err = f.WriteAt(locateCore(core), sector)
	return err
}

// bootRecord says where grub's core is, and has one partition up to the end of the disk.
func bootRecord(img []byte, size int64) []byte {
	b := append([]byte(nil), img...)
	le := binary.LittleEndian
	le.PutUint64(b[0x5c:], 1)     // the core is in sector 1
	b[0x64] = 0xff                // of the disk that the BIOS booted
	b[0x66], b[0x67] = 0x90, 0x90 // and not of a floppy
	clear(b[0x1be:0x1fe])         // partition table
	b[0x1be] = 0x80               // active
	b[0x1be+4] = 0x83             // Linux
	le.PutUint32(b[0x1be+8:], partitionStart/sector)
	le.PutUint32(b[0x1be+12:], uint32((size-partitionStart)/sector))
	b[0x1fe], b[0x1ff] = 0x55, 0xaa
	return b
}

// locateCore fills in the core's list of where its own rest is: from sector 2 on, in one piece.
func locateCore(core []byte) []byte {
	sectors := (len(core) + sector - 1) / sector
	b := make([]byte, sectors*sector)
	copy(b, core)
	le := binary.LittleEndian
	le.PutUint64(b[sector-12:], 2)
	le.PutUint16(b[sector-4:], uint16(sectors-1))
	le.PutUint16(b[sector-2:], coreAddress)
	return b
}

func (k Kit) grubCore(ctx context.Context, kernelArgs string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "understudy-grub-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	config, out := filepath.Join(dir, "cfg"), filepath.Join(dir, "core.img")
	if err := os.WriteFile(config, fmt.Appendf(nil, grubConfig, kernelArgs), 0o600); err != nil {
		return nil, err
	}
	// Not to a pipe: grub-mkimage syncs its output.
	err = run(ctx, "grub-mkimage", "-d", k.GrubDir, "-O", "i386-pc", "-p", "(hd0,msdos1)/boot/grub", "-c", config, "-o", out,
		"biosdisk", "part_msdos", "ext2", "linux", "boot")
	if err != nil {
		return nil, err
	}
	return os.ReadFile(out)
}

// run a tool to its end; what it complained about is in the error.
func run(ctx context.Context, tool string, args ...string) error {
	path, err := findTool(tool)
	if err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, path, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", tool, err, strings.TrimSpace(string(out)))
	}
	return nil
}
