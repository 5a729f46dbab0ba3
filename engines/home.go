// Package engines is what runs below an agent as processes of their own: they carry
// bytes, so they outlive the agent and are adopted by the next one. An engine has a
// home directory in which the agent leaves its whole desired state as one file, and
// a control socket at which it is asked how it is.
//
//	agent ── config.json ──► engine process ── engine.sock ──► state, set, stop
//
// An engine that is killed comes up again with what its home says.
package engines

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/pki"
)

// Home is the directory of one engine.
type Home string

// Config is the whole desired state of an engine. It holds secrets: its file is readable by its owner alone.
type Config struct {
	// Section with exactly the payload of its engine.
	Section api.Section `json:"section"`
	// Confirmed tells that, in this life of the agent, a leader said that the section's generation still holds. An engine that opens a
	// protected disk for writing waits for it; one that has it open already goes on.
	Confirmed bool `json:"confirmed"`
	// Secrets by name, those that the section refers to.
	Secrets map[string]map[string]string `json:"secrets,omitempty"`
	// IdentityFile is the agent's identity: certificate, key and CA, for mutual TLS.
	IdentityFile string `json:"identityFile"`
	// HooksDir holds the programs that freeze hooks name.
	HooksDir string `json:"hooksDir"`
}

// The files of a home.
func (h Home) file(name string) string { return filepath.Join(string(h), name) }

// Name is the home's among those of its agent, for people.
func (h Home) Name() string { return filepath.Base(string(h)) }

// Socket is where the engine listens for control.
func (h Home) Socket() string { return h.file("engine.sock") }

// Log is where a child's output goes.
func (h Home) Log() string { return h.file("engine.log") }

// Data is where the engine keeps what it must not lose.
func (h Home) Data() string { return h.file("data") }

// WriteConfig replaces the desired state, whole.
func (h Home) WriteConfig(c Config) error {
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(string(h), 0o700); err != nil {
		return fmt.Errorf("engine home: %w", err)
	}
	return pki.WriteFile(h.file("config.json"), b, 0o600)
}

// ReadConfig reads the desired state.
func (h Home) ReadConfig() (Config, error) {
	var c Config
	b, err := os.ReadFile(h.file("config.json"))
	if err != nil {
		return c, fmt.Errorf("engine home: %w", err)
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("%s: %w", h.file("config.json"), err)
	}
	return c, nil
}

// ErrBusy says that another process has the home.
var ErrBusy = errors.New("another process runs in this engine's home")

// Lock takes the home for this process, for as long as it lives, and notes its pid.
func (h Home) Lock() (unlock func(), err error) {
	f, err := os.OpenFile(h.file("lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("engine home: %w", err)
	}
	for range 20 { // one that was just killed may not be quite gone
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			if err = f.Truncate(0); err == nil {
				_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
			}
			if err != nil {
				f.Close()
				return nil, fmt.Errorf("engine home: %w", err)
			}
			return func() { f.Close() }, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	f.Close()
	return nil, fmt.Errorf("%s: %w", h, ErrBusy)
}

// Remove takes the home away. ErrBusy while a process runs in it; one that is not there is removed already.
func (h Home) Remove() error {
	if !h.Exists() {
		return nil
	}
	unlock, err := h.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	return os.RemoveAll(string(h))
}

// Exists tells whether an engine ever was at home here.
func (h Home) Exists() bool {
	_, err := os.Stat(string(h))
	return !errors.Is(err, fs.ErrNotExist)
}

// Pid is the process that has the home now, or had it last; 0 if none ever did.
func (h Home) Pid() int {
	b, err := os.ReadFile(h.file("lock"))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0
	}
	return pid
}
