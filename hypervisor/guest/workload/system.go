package workload

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// fiFreeze and fiThaw are Linux's FIFREEZE and FITHAW.
const (
	fiFreeze = 0xC0045877
	fiThaw   = 0xC0045878
)

// freezeLimit is how long file systems stay frozen when nobody thaws them.
const freezeLimit = 30 * time.Second

// system is the guest as a whole.
type system struct {
	say func(format string, args ...any)

	mu     sync.Mutex
	mounts []string // of file systems with data, root first
	cold   bool
	thawer *time.Timer
}

func (s *system) freeze() (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cold {
		return 0, errors.New("file systems are frozen already")
	}
	for i := len(s.mounts) - 1; i >= 0; i-- { // root last
		if err := freezing(s.mounts[i], fiFreeze); err != nil {
			_, _ = s.thawAll()
			return 0, err
		}
	}
	s.cold = true
	s.thawer = time.AfterFunc(freezeLimit, func() { _, _ = s.thaw() })
	return len(s.mounts), nil
}

func (s *system) thaw() (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.cold {
		return 0, nil
	}
	s.thawer.Stop()
	s.cold = false
	return s.thawAll()
}

func (s *system) thawAll() (n int, err error) {
	for _, m := range s.mounts {
		switch e := freezing(m, fiThaw); {
		case e == nil:
			n++
		case !errors.Is(e, unix.EINVAL): // EINVAL: it was not frozen
			err = e
		}
	}
	return n, err
}

func freezing(mount string, request uint) error {
	d, err := os.Open(mount)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.IoctlSetInt(int(d.Fd()), request, 0); err != nil {
		return fmt.Errorf("%s: %w", mount, err)
	}
	return nil
}

func (s *system) frozen() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cold
}

// shutdown brings everything to the disks and turns the power off.
func (s *system) shutdown() {
	_, _ = s.thaw()
	s.say("DOWN")
	unix.Sync()
	for i := len(s.mounts) - 1; i > 0; i-- {
		_ = unix.Unmount(s.mounts[i], unix.MNT_DETACH)
	}
	_ = unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		s.say("power off: %v", err)
	}
}

// mountAll mounts what the kernel offers, and every whole disk that holds a labelled ext4 file system at /LABEL.
func (s *system) mountAll() error {
	for _, m := range [][3]string{{"proc", "/proc", "proc"}, {"sysfs", "/sys", "sysfs"}, {"devtmpfs", "/dev", "devtmpfs"}, {"tmpfs", "/run", "tmpfs"}} {
		if err := unix.Mount(m[0], m[1], m[2], 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m[1], err)
		}
	}
	s.mounts = []string{"/"}
	disks, _ := filepath.Glob("/dev/vd[a-z]")
	for _, disk := range disks {
		label := ext4Label(disk)
		if label == "" || label == "root" {
			continue
		}
		at := "/" + label
		if err := os.MkdirAll(at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(disk, at, "ext4", 0, ""); err != nil {
			return fmt.Errorf("mount %s at %s: %w", disk, at, err)
		}
		s.mounts = append(s.mounts, at)
	}
	return nil
}

// ext4Label of a disk; "" if it holds no ext4.
func ext4Label(disk string) string {
	f, err := os.Open(disk)
	if err != nil {
		return ""
	}
	defer f.Close()
	b := make([]byte, 256)
	if _, err := f.ReadAt(b, 1024); err != nil || b[0x38] != 0x53 || b[0x39] != 0xEF {
		return ""
	}
	label, _, _ := strings.Cut(string(b[0x78:0x88]), "\x00")
	return label
}

// network brings the cards up. One that stays without an address is said, and is no reason not to go on.
func (s *system) network(settings Settings) {
	s.busybox("ip", "link", "set", "lo", "up")
	for i, address := range settings.Addresses {
		card := fmt.Sprintf("eth%d", i)
		switch {
		case address == "":
			continue
		case address == "dhcp":
			s.busybox("ip", "link", "set", card, "up")
			s.busybox("udhcpc", "-i", card, "-n", "-q", "-f", "-s", "/etc/udhcpc.sh")
		default:
			s.busybox("ip", "addr", "add", address, "dev", card)
			s.busybox("ip", "link", "set", card, "up")
		}
	}
	if settings.Gateway != "" {
		s.busybox("ip", "route", "add", "default", "via", settings.Gateway)
	}
}

func (s *system) busybox(args ...string) {
	if out, err := exec.Command("/bin/busybox", args...).CombinedOutput(); err != nil {
		s.say("%s: %v: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
}
