package hostnet

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// SetSysctl writes a setting of the namespace, like "net.ipv4.ip_forward". A link's name with dots in it is written
// with slashes instead: "net/ipv4/conf/eth0.5/rp_filter".
func (n *Net) SetSysctl(key, value string) error {
	return n.Do(func() error {
		if err := os.WriteFile(sysctlPath(key), []byte(value), 0o644); err != nil {
			return fmt.Errorf("sysctl %s: %w", key, err)
		}
		return nil
	})
}

// Sysctl reads a setting of the namespace.
func (n *Net) Sysctl(key string) (string, error) {
	var value string
	err := n.Do(func() error {
		b, err := os.ReadFile(sysctlPath(key))
		if err != nil {
			return fmt.Errorf("sysctl %s: %w", key, err)
		}
		value = strings.TrimSpace(string(b))
		return nil
	})
	return value, err
}

func sysctlPath(key string) string {
	if !strings.Contains(key, "/") {
		key = strings.ReplaceAll(key, ".", "/")
	}
	return filepath.Join("/proc/sys", key)
}
