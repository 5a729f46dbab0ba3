package guest

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/understudy-ha/understudy/hypervisor/guest/cpio"
)

// initScript loads the modules, waits for the root disk, and hands over to the root's own first program.
const initScript = `#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs devtmpfs /dev
for m in $($b cat /modules/order); do $b insmod /modules/$m.ko || echo "UNDERSTUDY-GUEST FAILED insmod $m"; done
n=0
while [ ! -b /dev/vda1 ]; do
  n=$((n+1)); [ $n -gt 600 ] && { echo "UNDERSTUDY-GUEST FAILED no disk"; $b poweroff -f; }
  $b usleep 50000
done
$b mount -t ext4 -o rw /dev/vda1 /root || { echo "UNDERSTUDY-GUEST FAILED mount root"; $b poweroff -f; }
$b umount /proc
$b umount /sys
$b mount --move /dev /root/dev
exec $b switch_root /root /sbin/init
`

// initramfs of all guests.
func (k Kit) initramfs() ([]byte, error) {
	busybox, err := os.ReadFile(k.Busybox)
	if err != nil {
		return nil, err
	}
	order, err := os.ReadFile(filepath.Join(k.Modules, "order"))
	if err != nil {
		return nil, err
	}
	var a cpio.Archive
	for _, d := range []string{"bin", "dev", "modules", "proc", "root", "sys"} {
		a.Dir(d, 0o755)
	}
	a.CharDevice("dev/console", 0o600, 5, 1)
	a.File("init", 0o755, []byte(initScript))
	a.File("bin/busybox", 0o755, busybox)
	a.File("modules/order", 0o644, order)
	for m := range strings.FieldsSeq(string(order)) {
		b, err := os.ReadFile(filepath.Join(k.Modules, m+".ko"))
		if err != nil {
			return nil, fmt.Errorf("module %s: %w", m, err)
		}
		a.File("modules/"+m+".ko", 0o644, b)
	}
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, err = z.Write(a.Bytes())
	if err == nil {
		err = z.Close()
	}
	return out.Bytes(), err
}
