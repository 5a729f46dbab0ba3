package dir

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/understudy-ha/understudy/objstore"
)

var (
	errIsDir = errors.New("the key is the directory of other keys")
	errNoDir = errors.New("the key's directory is another key")
)

func isAbsent(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) }

// failure gives err of the system as an error of the store. The call changed nothing.
func failure(op, key string, err error) error {
	e := &objstore.Error{Op: op, Key: key, Kind: objstore.ErrUnavailable, Cause: err}
	kind := func(k error, hint string) error { e.Kind, e.Hint = k, hint; return e }
	for _, sentinel := range []error{objstore.ErrExists, objstore.ErrChanged} {
		if errors.Is(err, sentinel) {
			return &objstore.Error{Op: op, Key: key, Kind: sentinel}
		}
	}
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return kind(objstore.ErrNoSpace, "free some space or raise the quota")
	case op == "put" && (errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.ENOTEMPTY) ||
		errors.Is(err, fs.ErrExist) || errors.Is(err, errIsDir) || errors.Is(err, errNoDir)):
		return kind(objstore.ErrInvalid, "no key may be the directory of another")
	case op != "put" && isAbsent(err):
		return kind(objstore.ErrNotFound, "")
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS), errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return kind(objstore.ErrDenied, "the directory must be there and be ours to write")
	}
	return e
}
