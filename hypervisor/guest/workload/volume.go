package workload

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// volume is one file system that records are written to.
type volume struct {
	name string // data, data2, …
	file *os.File
	last uint64
	// wrong with what was found; "" if nothing.
	wrong string
}

// openVolume reads all records of the file in dir.
func openVolume(name, dir string) (*volume, error) {
	f, err := os.OpenFile(filepath.Join(dir, "records"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	v := &volume{name: name, file: f}
	found := make([]slotState, slots)
	b := make([]byte, RecordSize)
	for i := range found {
		n, err := f.ReadAt(b, int64(i)*RecordSize)
		if n == 0 && errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("volume %s: %w", name, err)
		}
		clear(b[n:])
		found[i] = stateOf(b)
	}
	v.last, v.wrong = judge(found)
	if v.wrong != "" {
		v.wrong = name + ": " + v.wrong
	}
	return v, nil
}

// stateOf a slot's bytes. Zeroes are an empty slot: the file grew and its data did not come.
func stateOf(b []byte) slotState {
	if n, _, ok := decodeRecord(b); ok {
		return slotState{n: n}
	}
	for _, c := range b {
		if c != 0 {
			return slotState{torn: true}
		}
	}
	return slotState{}
}

// write record n so that it outlives a power cut.
func (v *volume) write(n uint64, unixNano int64) error {
	if _, err := v.file.WriteAt(encodeRecord(n, unixNano), int64(n%slots)*RecordSize); err != nil {
		return err
	}
	if err := v.file.Sync(); err != nil {
		return err
	}
	v.last = n
	return nil
}

// verify that the volumes agree: record n goes to each in turn, so that an earlier one is ahead by at most one. A prefix of what was
// written to all disks passes; disks of different moments do not.
func verify(volumes []*volume) (seq uint64, wrong string) {
	for i, v := range volumes {
		if v.wrong != "" {
			return volumes[0].last, v.wrong
		}
		if i > 0 && (v.last > volumes[i-1].last || volumes[0].last-v.last > 1) {
			return v.last, fmt.Sprintf("%s is at record %d, %s at %d", volumes[i-1].name, volumes[i-1].last, v.name, v.last)
		}
	}
	return volumes[len(volumes)-1].last, ""
}
