// Package sshtest runs a real OpenSSH server for tests: on loopback, with keys, configuration and users of its own.
package sshtest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Server is a running sshd. The user's key logs in as root.
type Server struct {
	Address string // root@127.0.0.1:port
	Key     string // file of the user's private key
	Known   string // known hosts file with the server's Ed25519 key
	// Fingerprint of the Ed25519 key, FingerprintRSA of the other one.
	Fingerprint, FingerprintRSA string
	Log                         string
}

// Start runs a server until the test ends. path is the PATH of its sessions; "" for the usual one.
func Start(t testing.TB, path string) *Server {
	t.Helper()
	for _, tool := range []string{"/usr/sbin/sshd", "/usr/bin/ssh-keygen"} {
		if _, err := os.Stat(tool); err != nil {
			t.Fatalf("%s is missing: run scripts/deps.sh (packages openssh-server, openssh-client)", tool)
		}
	}
	s, cmd, err := start(t.TempDir(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return s
}

func start(dir, path string) (*Server, *exec.Cmd, error) {
	in := func(name string) string { return filepath.Join(dir, name) }
	s := &Server{Key: in("user"), Known: in("known_hosts"), Log: in("sshd.log")}
	for name, kind := range map[string]string{"user": "ed25519", "host_ed25519": "ed25519", "host_rsa": "rsa"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", kind, "-b", "2048", "-N", "", "-f", in(name)).CombinedOutput(); err != nil {
			return nil, nil, fmt.Errorf("ssh-keygen: %w: %s", err, out)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	config := strings.NewReplacer("DIR", dir, "PORT", port).Replace(`
Port PORT
ListenAddress 127.0.0.1
HostKey DIR/host_ed25519
HostKey DIR/host_rsa
AuthorizedKeysFile DIR/user.pub
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
UsePAM no
PidFile none
`)
	if path != "" {
		config += "SetEnv PATH=" + path + "\n"
	}
	public, err := os.ReadFile(in("host_ed25519.pub"))
	if err != nil {
		return nil, nil, err
	}
	s.Address = "root@127.0.0.1:" + port
	if err := errors.Join(l.Close(), os.WriteFile(in("config"), []byte(config), 0o600), os.MkdirAll("/run/sshd", 0o755),
		os.WriteFile(s.Known, fmt.Appendf(nil, "[127.0.0.1]:%s %s", port, public), 0o600)); err != nil {
		return nil, nil, err
	}
	if s.Fingerprint, err = fingerprint(in("host_ed25519.pub")); err != nil {
		return nil, nil, err
	}
	if s.FingerprintRSA, err = fingerprint(in("host_rsa.pub")); err != nil {
		return nil, nil, err
	}
	log, err := os.Create(s.Log)
	if err != nil {
		return nil, nil, err
	}
	defer log.Close()
	cmd := exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", in("config"))
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	return s, cmd, awaitListener("127.0.0.1:"+port, s.Log)
}

func fingerprint(file string) (string, error) {
	out, err := exec.Command("ssh-keygen", "-lf", file).Output()
	fields := strings.Fields(string(out))
	if err != nil || len(fields) < 2 {
		return "", fmt.Errorf("ssh-keygen -lf %s: %q, %w", file, out, err)
	}
	return fields[1], nil
}

func awaitListener(address, log string) error {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", address); err == nil {
			return c.Close()
		}
	}
	said, _ := os.ReadFile(log)
	return fmt.Errorf("sshd does not listen after 10 s: %s", said)
}
