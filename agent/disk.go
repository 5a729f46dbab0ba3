package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/understudy-ha/understudy/steward"
)

const (
	stateFile  = "state.json"
	grantsFile = "grants.json"
)

// disk keeps an agent's state. Writes are made by goroutines of their own, so that a disk that hangs does not keep the
// agent from giving up what it must.
type disk struct {
	dir string
	// stores wait to be written. The steward asks for the next when it has heard of the last but for one withdrawal, so a few
	// places are enough; stored hears of each.
	stores chan steward.Store
	stored func(steward.Stored)

	mu     sync.Mutex
	grants *steward.Grants // newest not yet written
	poke   chan struct{}
}

func openDisk(dir string) (*disk, error) {
	return &disk{dir: dir, stores: make(chan steward.Store, 16), poke: make(chan struct{}, 1)}, nil
}

// load reads what an earlier life left; state is nil if there is nothing. State that cannot be read is an error: what
// the kernel has stays as it is. Grants that cannot be read are none.
func (d *disk) load() (*steward.State, steward.Grants, error) {
	var grants steward.Grants
	if b, err := os.ReadFile(filepath.Join(d.dir, grantsFile)); err == nil {
		if json.Unmarshal(b, &grants) != nil {
			grants = steward.Grants{}
		}
	}
	path := filepath.Join(d.dir, stateFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, grants, nil
	}
	if err != nil {
		return nil, grants, fmt.Errorf("agent state: %w", err)
	}
	state, err := steward.DecodeState(b)
	if err != nil {
		return nil, grants, fmt.Errorf("%s: %w; move it away to start without", path, err)
	}
	return state, grants, nil
}

// store queues a state to be written.
func (d *disk) store(s steward.Store) { d.stores <- s }

// storeGrants has the grants written soon. Only the newest count.
func (d *disk) storeGrants(g steward.Grants) {
	d.mu.Lock()
	d.grants = &g
	d.mu.Unlock()
	select {
	case d.poke <- struct{}{}:
	default:
	}
}

// run writes until ctx ends.
func (d *disk) run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { d.runGrants(ctx) })
	defer wg.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-d.stores:
			b, err := s.State.Encode()
			if err == nil {
				err = writeFile(filepath.Join(d.dir, stateFile), b, true)
			}
			d.stored(steward.Stored{N: s.N, Err: err})
		}
	}
}

func (d *disk) runGrants(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.poke:
		}
		d.mu.Lock()
		g := d.grants
		d.mu.Unlock()
		if b, err := json.Marshal(g); err == nil {
			// One that is not written is worth less than it was: a restart then knows an older one, or none.
			_ = writeFile(filepath.Join(d.dir, grantsFile), b, false)
		}
	}
}

// writeFile replaces a file whole. With sync it outlives a power cut.
func writeFile(path string, b []byte, sync bool) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil && sync {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil || !sync {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
