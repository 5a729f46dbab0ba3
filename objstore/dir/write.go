package dir

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"path"

	"github.com/understudy-ha/understudy/objstore"
)

func tagOf(data []byte) objstore.Tag {
	sum := sha256.Sum256(data)
	return objstore.Tag(hex.EncodeToString(sum[:]))
}

// Put implements objstore.Store.
func (s *Store) Put(ctx context.Context, key string, data []byte, cond objstore.Cond) (objstore.Tag, error) {
	if err := objstore.ValidPut("put", key, len(data), cond); err != nil {
		return "", err
	}
	if err := s.begin(ctx, "put", key); err != nil {
		return "", err
	}
	defer s.use.RUnlock()
	temp, err := s.writer.write(data)
	if err != nil {
		return "", failure("put", key, err)
	}
	if err := s.replace(ctx, key, temp, cond); err != nil {
		_ = s.root.Remove(temp) // after a rename it is gone
		return "", err
	}
	return tagOf(data), nil
}

// replace renames the synced file temp to key if cond holds. A refusal tells of a state that is on the disk: the writer before us
// may have died between its rename and its sync.
func (s *Store) replace(ctx context.Context, key, temp string, cond objstore.Cond) error {
	if err := s.makeDirs(path.Dir(key)); err != nil {
		return failure("put", key, err)
	}
	unlock, err := s.lock(ctx, key)
	if err != nil {
		return failure("put", key, err)
	}
	defer unlock()
	if refused := s.holds(key, cond); refused != nil {
		return failure("put", key, cmp.Or(s.syncDir(path.Dir(key)), refused))
	}
	if err := s.root.Rename(temp, key); err != nil {
		return failure("put", key, err)
	}
	if err := s.syncDir(path.Dir(key)); err != nil {
		return &objstore.Error{Op: "put", Key: key, Kind: objstore.ErrUnknown, Cause: err}
	}
	return nil
}

// holds decides cond under the key's lock.
func (s *Store) holds(key string, cond objstore.Cond) error {
	if cond == objstore.Always {
		return nil
	}
	tag := objstore.Tag("")
	if cond.Absent() {
		info, err := s.root.Lstat(key)
		if err == nil && info.IsDir() {
			return errIsDir
		}
		if err == nil {
			tag = "any"
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return cond.Holds(tag)
	}
	data, _, err := s.readFile(key)
	if err == nil {
		tag = tagOf(data)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return cond.Holds(tag)
}

// Delete implements objstore.Store. Directories stay.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := objstore.ValidKey("delete", key); err != nil {
		return err
	}
	if err := s.begin(ctx, "delete", key); err != nil {
		return err
	}
	defer s.use.RUnlock()
	unlock, err := s.lock(ctx, key)
	if err != nil {
		return failure("delete", key, err)
	}
	defer unlock()
	info, err := s.root.Lstat(key)
	if err == nil && !info.IsDir() {
		err = s.root.Remove(key)
	}
	if err != nil && !isAbsent(err) {
		return failure("delete", key, err)
	}
	// The directory is synced also when the object is gone already: its deletion may not be on the disk yet.
	if err := s.syncDir(path.Dir(key)); err != nil && !isAbsent(err) {
		return &objstore.Error{Op: "delete", Key: key, Kind: objstore.ErrUnknown, Cause: err}
	}
	return nil
}
