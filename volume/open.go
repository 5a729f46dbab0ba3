package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
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
	if err == nil {
		v.space.room, err = roomOf(int(data.Fd()), cfg.KeepFreeBytes)
	}
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
		if !same {
			*b = newBitmap(m.n)
		}
		for w, durable := range m.durable[i].words {
			orWord(b, int64(w), durable)
			if b.words[w] != durable {
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
	for w, durable := range m.durable[durableWritten].words {
		orWord(&m.kept, int64(w), durable)
	}
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
