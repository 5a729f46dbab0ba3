package nbd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrInUse: another live process listens on the socket.
var ErrInUse = errors.New("another server listens there")

// ParseAddress reads "unix:/path" or "tcp:host:port".
func ParseAddress(s string) (network, address string, err error) {
	network, address, _ = strings.Cut(s, ":")
	switch network {
	case "unix":
		if filepath.IsAbs(address) {
			return network, address, nil
		}
	case "tcp":
		if _, _, err := net.SplitHostPort(address); err == nil {
			return network, address, nil
		}
	}
	return "", "", fmt.Errorf("address %q: want unix:/path or tcp:host:port", s)
}

// URI names an export as the NBD tools do.
func URI(network, address, export string) string {
	if network == "unix" {
		return "nbd+unix:///" + escape(export) + "?socket=" + escape(address)
	}
	return "nbd://" + address + "/" + escape(export)
}

// escape for both places of a URI; / stays, for paths.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c == '/' || c == '-' || c == '.' || c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// Listen on "tcp" or "unix". A unix socket is for the server's user alone (mode 0600); one that a killed server left is replaced, one
// that a live server holds (by a lock on PATH.lock) is refused with ErrInUse. Close removes both files.
func Listen(network, address string) (net.Listener, error) {
	if network != "unix" {
		return net.Listen(network, address)
	}
	// The socket is made beside its place and renamed, so that nobody meets it with other permissions, or not at all.
	beside := address + ".new"
	if limit := len(unix.RawSockaddrUnix{}.Path) - 1; len(beside) > limit {
		return nil, fmt.Errorf("listen on %s: the path has %d bytes: want at most %d", address, len(address), limit-len(".new"))
	}
	if info, err := os.Lstat(address); err == nil && info.Mode().Type() != os.ModeSocket {
		return nil, fmt.Errorf("listen on %s: it exists and is no socket", address)
	}
	lock, err := lockFile(address + ".lock")
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	l, err := listenUnix(beside, address)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", address, err), unlock(lock))
	}
	return &unixListener{UnixListener: l, path: address, lock: lock}, nil
}

func listenUnix(beside, address string) (*net.UnixListener, error) {
	if err := os.Remove(beside); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: beside, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(beside, 0o600), os.Rename(beside, address)); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// unixListener owns its socket's path while it holds the lock.
type unixListener struct {
	*net.UnixListener
	path string
	lock *os.File
	once sync.Once
	err  error
}

func (l *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Close may be called again.
func (l *unixListener) Close() error {
	l.once.Do(func() {
		l.err = errors.Join(l.UnixListener.Close(), os.Remove(l.path), unlock(l.lock))
	})
	return l.err
}

// lockFile holds an exclusive lock on a file until unlock, or until the process dies.
func lockFile(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			if err == unix.EWOULDBLOCK {
				err = ErrInUse
			}
			return nil, errors.Join(err, f.Close())
		}
		mine, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if there, err := os.Stat(path); err == nil && os.SameFile(mine, there) {
			return f, nil
		}
		if err := f.Close(); err != nil { // its owner has just removed it
			return nil, err
		}
	}
}

func unlock(f *os.File) error { return errors.Join(os.Remove(f.Name()), f.Close()) }
