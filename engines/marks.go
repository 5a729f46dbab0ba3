package engines

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"

	"github.com/understudy-ha/understudy/pki"
)

// Marks remembers, through crashes, which requests of a section were carried out: a request is a value that changes.
type Marks struct {
	path string
	mu   sync.Mutex
	done map[string]string
}

// OpenMarks reads the marks of a home.
func (h Home) OpenMarks() (*Marks, error) {
	m := &Marks{path: h.file("marks.json"), done: map[string]string{}}
	b, err := os.ReadFile(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return nil, fmt.Errorf("engine home: %w", err)
	}
	if err := json.Unmarshal(b, &m.done); err != nil {
		return nil, fmt.Errorf("%s: %w", m.path, err)
	}
	return m, nil
}

// Get gives the value that was carried out last; "" for none.
func (m *Marks) Get(what string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.done[what]
}

// Set notes that values were carried out, together: pairs of what and value. It is on disk when it returns.
func (m *Marks) Set(pairs ...string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := map[string]string{}
	maps.Copy(next, m.done)
	for i := 0; i+1 < len(pairs); i += 2 {
		next[pairs[i]] = pairs[i+1]
	}
	b, err := json.Marshal(next)
	if err == nil {
		err = pki.WriteFile(m.path, b, 0o600)
	}
	if err == nil {
		err = syncDir(filepath.Dir(m.path))
	}
	if err != nil {
		return fmt.Errorf("engine home: %w", err)
	}
	m.done = next
	return nil
}

// Clear forgets everything that was carried out.
func (m *Marks) Clear() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := errors.Join(os.RemoveAll(m.path), syncDir(filepath.Dir(m.path))); err != nil {
		return fmt.Errorf("engine home: %w", err)
	}
	m.done = map[string]string{}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
