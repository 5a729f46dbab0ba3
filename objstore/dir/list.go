package dir

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/understudy-ha/understudy/objstore"
)

// List implements objstore.Store. It reads one directory at a time.
func (s *Store) List(ctx context.Context, prefix, after string, yield func(objstore.Info) bool) error {
	if err := objstore.ValidPrefix("list", prefix); err != nil {
		return err
	}
	top := ""
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		top = prefix[:i+1]
	}
	w := &walk{s: s, prefix: prefix, after: after, yield: yield}
	err := w.dir(ctx, top)
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// errEnough ends a walk whose yield gave false.
var errEnough = errors.New("enough")

type walk struct {
	s             *Store
	prefix, after string
	yield         func(objstore.Info) bool
}

// dir yields what is in d, which is "" or ends in a slash.
func (w *walk) dir(ctx context.Context, d string) error {
	entries, err := w.entries(ctx, d)
	if err != nil {
		return err
	}
	for _, e := range entries {
		key := d + e.Name()
		switch {
		case objstore.ValidKey("list", key) != nil:
			continue // ours, or nobody's
		case e.IsDir() && w.mayHold(key+"/"):
			err = w.dir(ctx, key+"/")
		case e.Type().IsRegular() && key > w.after && strings.HasPrefix(key, w.prefix):
			err = w.file(key, e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// mayHold tells whether a wanted key may begin with d.
func (w *walk) mayHold(d string) bool {
	return (strings.HasPrefix(d, w.prefix) || strings.HasPrefix(w.prefix, d)) && (d > w.after || strings.HasPrefix(w.after, d))
}

func (w *walk) file(key string, e fs.DirEntry) error {
	info, err := e.Info()
	if isAbsent(err) {
		return nil // deleted meanwhile
	}
	if err != nil {
		return failure("list", w.prefix, err)
	}
	if !w.yield(objstore.Info{Key: key, Size: info.Size(), Modified: info.ModTime()}) {
		return errEnough
	}
	return nil
}

// entries gives d's entries in the order of the keys that they make: a directory counts with its slash. It is a call of its own, so that
// the store is not held while yield works.
func (w *walk) entries(ctx context.Context, d string) ([]fs.DirEntry, error) {
	if err := w.s.begin(ctx, "list", w.prefix); err != nil {
		return nil, err
	}
	defer w.s.use.RUnlock()
	name := strings.TrimSuffix(d, "/")
	if name == "" {
		name = "."
	}
	entries, err := fs.ReadDir(w.s.root.FS(), name)
	if isAbsent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, failure("list", w.prefix, err)
	}
	keyOf := func(e fs.DirEntry) string {
		if e.IsDir() {
			return e.Name() + "/"
		}
		return e.Name()
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(keyOf(a), keyOf(b)) })
	return entries, nil
}
