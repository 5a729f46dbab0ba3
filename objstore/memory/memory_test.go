package memory_test

import (
	"testing"

	"github.com/understudy-ha/understudy/objstore"
	"github.com/understudy-ha/understudy/objstore/memory"
	"github.com/understudy-ha/understudy/objstore/objtest"
)

func TestConformance(t *testing.T) {
	objtest.Run(t, objtest.Backend{Fresh: func(*testing.T) func() objstore.Store {
		s := memory.New(nil)
		return func() objstore.Store { return s }
	}})
}
