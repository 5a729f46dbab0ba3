package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// create the file, unless it is there to be used in place, and then its map, whole.
func create(cfg Config) error {
	size, err := createData(cfg)
	if err != nil {
		return err
	}
	if cfg.Base == nil {
		return ErrNoBase
	}
	if cfg.Base.Size() != size {
		return fmt.Errorf("the base has %d bytes, the file %d: want the same", cfg.Base.Size(), size)
	}
	missing, err := normalise(cfg.Missing, size)
	if err != nil {
		return err
	}
	tmp := cfg.Path + ".map.tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := reserve(f, mapSize(size, int64(len(missing)))); err != nil {
		return err
	}
	if err := writeMap(osFile{f}, size, cfg.InPlace, missing); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(tmp, cfg.Path+".map"); err != nil {
		return err
	}
	return syncDir(filepath.Dir(cfg.Path))
}

func createData(cfg Config) (int64, error) {
	if cfg.InPlace {
		f, err := os.OpenFile(cfg.Path, os.O_RDWR, 0)
		if err != nil {
			return 0, err
		}
		defer f.Close()
		size, err := f.Seek(0, 2)
		return size, errors.Join(err, checkSize(size))
	}
	if cfg.Base == nil {
		return 0, ErrNoBase
	}
	size := cfg.Base.Size()
	if err := checkSize(size); err != nil {
		return 0, err
	}
	if len(cfg.Missing) > 0 {
		return 0, errors.New("missing ranges are for volumes made in place")
	}
	f, err := os.OpenFile(cfg.Path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	// One that an earlier attempt left has no byte in it.
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Blocks > 0 {
		return 0, errors.Join(err, errors.New("a file that is no volume's is there already; remove it, or open it in place"))
	}
	return size, errors.Join(f.Truncate(size), f.Sync())
}

// mapSize in bytes of a disk of so many bytes, with so many missing ranges.
func mapSize(size, missing int64) int64 {
	return page + bitmaps*bitmapSize(granulesOf(size)) + missing*16 + 4
}

// reserve the map's place, so that a full file system cannot refuse a later change.
func reserve(f *os.File, size int64) error {
	if err := f.Truncate(size); err != nil {
		return err
	}
	err := again(func() error { return unix.Fallocate(int(f.Fd()), 0, 0, size) })
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}

// writeMap writes a whole new map into a file of zeroes.
func writeMap(f file, size int64, inPlace bool, missing []Range) error {
	m := &mapFile{f: f, n: granulesOf(size)}
	if inPlace {
		held := newBitmap(m.n)
		for g := range m.n {
			held.set(g)
		}
		for _, r := range missing {
			first, end := span(r.Off, r.Len)
			for g := first; g < end; g++ {
				held.clear(g)
			}
		}
		if err := m.writeWords(durablePresent, &held, 0, int64(len(held.words))); err != nil {
			return err
		}
	}
	if _, err := f.WriteAt(encodeMissing(missing), mapSize(size, 0)-4); err != nil {
		return err
	}
	_, err := f.WriteAt(header{size: size, inPlace: inPlace, missing: int64(len(missing))}.encode(), 0)
	return err
}
