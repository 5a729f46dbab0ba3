package objstore_test

import (
	"context"
	"errors"
	"testing"

	"github.com/understudy-ha/understudy/objstore"
	"github.com/understudy-ha/understudy/objstore/memory"
)

// careless takes some conditions and does not look at them.
type careless struct {
	objstore.Store
	ignores func(objstore.Cond) bool
}

func (c careless) Put(ctx context.Context, key string, data []byte, cond objstore.Cond) (objstore.Tag, error) {
	if c.ignores(cond) {
		cond = objstore.Always
	}
	return c.Store.Put(ctx, key, data, cond)
}

func TestAStoreThatIgnoresConditionsIsFound(t *testing.T) {
	match := func(c objstore.Cond) bool { _, ok := c.Match(); return ok }
	for name, ignores := range map[string]func(objstore.Cond) bool{
		"if absent": objstore.Cond.Absent, "if match": match, "both": func(objstore.Cond) bool { return true },
	} {
		s := memory.New(nil)
		if err := objstore.CheckConditions(t.Context(), careless{s, ignores}); !errors.Is(err, objstore.ErrUnconditional) {
			t.Errorf("%s ignored: %v", name, err)
		}
		empty(t, s)
	}
	s := memory.New(nil)
	if err := objstore.CheckConditions(t.Context(), s); err != nil {
		t.Errorf("a good store: %v", err)
	}
	empty(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := objstore.CheckConditions(t.Context(), s); err == nil || errors.Is(err, objstore.ErrUnconditional) {
		t.Errorf("a store that does not answer: %v", err)
	}
}

func empty(t *testing.T, s objstore.Store) {
	t.Helper()
	err := s.List(t.Context(), "", "", func(i objstore.Info) bool { t.Errorf("%s is left", i.Key); return true })
	if err != nil {
		t.Error(err)
	}
}
