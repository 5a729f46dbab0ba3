package engines

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
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

// Set notes that a value was carried out; it is on disk when it returns.
func (m *Marks) Set(what, value string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	was, had := m.done[what]
	m.done[what] = value
	b, err := json.Marshal(m.done)
	if err == nil {
		err = pki.WriteFile(m.path, b, 0o600)
	}
	if err != nil {
		if delete(m.done, what); had {
			m.done[what] = was
		}
		return fmt.Errorf("engine home: %w", err)
	}
	return nil
}
