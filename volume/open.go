package volume

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Open a volume, or make it if there is no map at cfg.Path + ".map". Only one process may have it open; another is refused.
func Open(cfg Config) (*Volume, error) {
	v, err := open(cfg)
	if err != nil {
		return nil, fmt.Errorf("open volume %s: %w", cfg.Path, err)
	}
	return v, nil
}

// Remove a volume that is not open, and its file.
func Remove(path string) error {
	// The map last: a file without a map could be taken for a whole disk.
	for _, p := range []string{path, path + ".map"} {
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func open(cfg Config) (*Volume, error) {
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(cfg.Path + ".map"); errors.Is(err, fs.ErrNotExist) {
		if err := create(cfg); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	meta, err := os.OpenFile(cfg.Path+".map", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(meta.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another process has it open: %w", err), meta.Close())
	}
	data, err := os.OpenFile(cfg.Path, os.O_RDWR, 0)
	if err != nil {
		return nil, errors.Join(err, meta.Close())
	}
	v, err := load(cfg, osFile{data}, osFile{meta}, boot)
	if err != nil {
		return nil, errors.Join(err, data.Close(), meta.Close())
	}
	return v, nil
}

// bootID changes whenever the host boots: then what was in its memory only is gone.
func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
}

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

// normalise sorts and merges ranges.
func normalise(in []Range, size int64) ([]Range, error) {
	in = slices.Clone(in)
	slices.SortFunc(in, func(a, b Range) int {
		switch {
		case a.Off < b.Off:
			return -1
		case a.Off > b.Off:
			return 1
		}
		return 0
	})
	var out []Range
	for _, r := range in {
		if r.Off < 0 || r.Len < 0 || r.Off > size-r.Len || r.Off%sector != 0 || r.Len%sector != 0 {
			return nil, fmt.Errorf("missing range of %d bytes at %d: want multiples of %d inside %d", r.Len, r.Off, sector, size)
		}
		if k := len(out) - 1; k >= 0 && r.Off <= out[k].Off+out[k].Len {
			out[k].Len = max(out[k].Len, r.Off+r.Len-out[k].Off)
		} else if r.Len > 0 {
			out = append(out, r)
		}
	}
	return out, nil
}

func encodeMissing(ranges []Range) []byte {
	b := make([]byte, 0, len(ranges)*16+4)
	for _, r := range ranges {
		b = binary.LittleEndian.AppendUint64(b, uint64(r.Off))
		b = binary.LittleEndian.AppendUint64(b, uint64(r.Len))
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeMissing(b []byte, size int64) ([]Range, error) {
	list := b[:len(b)-4]
	if binary.LittleEndian.Uint32(b[len(list):]) != crc32.Checksum(list, castagnoli) {
		return nil, &MapError{"the checksum of the missing ranges is wrong"}
	}
	out := make([]Range, len(list)/16)
	end := int64(0)
	for i := range out {
		r := Range{int64(binary.LittleEndian.Uint64(list[i*16:])), int64(binary.LittleEndian.Uint64(list[i*16+8:]))}
		if r.Off < end || r.Len <= 0 || r.Off > size-r.Len {
			return nil, &MapError{fmt.Sprintf("missing range %d: %d bytes at %d: want them sorted, apart and inside %d", i, r.Len, r.Off, size)}
		}
		end = r.Off + r.Len
		out[i] = r
	}
	return out, nil
}

// load a volume from its files, in this boot of the host.
func load(cfg Config, data, meta file, boot string) (*Volume, error) {
	b := make([]byte, headerSize)
	if _, err := meta.ReadAt(b, 0); err != nil {
		return nil, err
	}
	head, err := decodeHeader(b)
	if err != nil {
		return nil, err
	}
	m := &mapFile{f: meta, head: head, n: granulesOf(head.size), changed: [2]pages{{}, {}}}
	v := &Volume{data: data, meta: m, base: cfg.Base, size: head.size, inPlace: head.inPlace}
	list := make([]byte, head.missing*16+4)
	if _, err := meta.ReadAt(list, mapSize(head.size, 0)-4); err != nil {
		return nil, err
	}
	if v.missing, err = decodeMissing(list, head.size); err != nil {
		return nil, err
	}
	if err := v.loadBitmaps(boot); err != nil {
		return nil, err
	}
	if err := v.findFilled(); err != nil {
		return nil, err
	}
	v.space.quota = cfg.QuotaBytes
	whole := v.meta.durable[durablePresent].count() == m.n
	v.complete.Store(whole)
	switch {
	case whole:
	case cfg.Base == nil:
		return nil, ErrNoBase
	case cfg.Base.Size() != v.size:
		return nil, fmt.Errorf("the base has %d bytes, the volume %d: want the same", cfg.Base.Size(), v.size)
	}
	return v, nil
}

// loadBitmaps takes the current ones if the host has not been down since, otherwise the durable ones.
func (v *Volume) loadBitmaps(boot string) (err error) {
	m := v.meta
	for i := range m.durable {
		if m.durable[i], err = m.readBitmap(i); err != nil {
			return err
		}
	}
	current := []*bitmap{&v.present, &v.written}
	same := m.head.boot == boot
	for i, b := range current {
		if *b, err = m.readBitmap(currentPresent + i); err != nil {
			return err
		}
		for w := range b.words {
			if !same {
				b.words[w] = m.durable[i].words[w]
			}
			if b.words[w] |= m.durable[i].words[w]; b.words[w] != m.durable[i].words[w] {
				m.changed[i][int64(w)*8/page] = true
			}
		}
		if same {
			continue
		}
		if err := m.writeWords(currentPresent+i, b, 0, int64(len(b.words))); err != nil {
			return err
		}
	}
	m.kept = newBitmap(m.n)
	v.nPresent.Store(v.present.count())
	copy(m.kept.words, m.durable[durableWritten].words)
	if same { // what the former process wrote of the durable bitmaps may not be synced
		return m.f.Sync()
	}
	m.head.boot = boot
	_, err = m.f.WriteAt(m.head.encode(), 0)
	return err
}

// findFilled asks the file system what takes space.
func (v *Volume) findFilled() error {
	v.filled = newBitmap(v.meta.n)
	for off := int64(0); off < v.size; {
		at, n, err := v.data.Data(off, v.size)
		if err != nil {
			return err
		}
		first, end := span(at, n)
		for g := first; g < end && n > 0; g++ {
			v.filled.set(g)
		}
		off = at + max(n, 1)
	}
	v.space.filled = v.filled.count() * Granule
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
