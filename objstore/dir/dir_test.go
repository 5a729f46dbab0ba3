package dir_test

import (
	"os"
	"testing"

	"github.com/understudy-ha/understudy/objstore"
	"github.com/understudy-ha/understudy/objstore/dir"
	"github.com/understudy-ha/understudy/objstore/objtest"
)

func open(t *testing.T, path string) *dir.Store {
	t.Helper()
	s, err := dir.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// shm gives a directory in memory: a thousand synced writes are many on a busy disk.
func shm(t *testing.T) string {
	t.Helper()
	path, err := os.MkdirTemp("/dev/shm", "understudy-dir-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(path) })
	return path
}

func TestConformance(t *testing.T) {
	objtest.Run(t, objtest.Backend{Keys: true, Fresh: func(t *testing.T) func() objstore.Store {
		path := shm(t)
		return func() objstore.Store { return open(t, path) }
	}})
}
