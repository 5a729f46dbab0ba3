package disk

import (
	"errors"
	"fmt"
	"sync/atomic"
)

const (
	stateMagic = "USCS"
	stateFile  = "state"
)

// diskID names a disk and its size, so that bitmaps are never used for another one.
type diskID struct {
	ID   string
	Size int64
}

// identity is what a directory knows for certain, also after a power cut: the newest whole one of two sealed pages.
type identity struct {
	Serial   uint64 // grows by each writing
	Machine  string
	Stream   string
	Epoch    uint64
	Granule  int64
	Reserved uint64 // positions below may have been given
	Stored   uint64 // at least so far was stored at the recovery site
	Boot     string // the boot in which the directory was opened last
	Clean    bool   // closed in order: nothing was under way, and all is durable
	Suspect  bool   // every block is to be taken as dirty
	Disks    []diskID
}

// fits tells whether the fields leave room for the checksum, also with longer names of streams and boots.
func (s *identity) fits() bool { return len(s.fields()) <= pageSize-4-2*maxName }

func (s *identity) encode() []byte {
	b := s.fields()[:pageSize]
	seal(b, stateMagic)
	return b
}

func (s *identity) fields() []byte {
	b := make([]byte, 8, pageSize)
	b = le.AppendUint64(b, s.Serial)
	b = le.AppendUint64(b, s.Epoch)
	b = le.AppendUint64(b, s.Reserved)
	b = le.AppendUint64(b, s.Stored)
	b = le.AppendUint32(b, uint32(s.Granule))
	flags := uint16(0)
	if s.Clean {
		flags |= 1
	}
	if s.Suspect {
		flags |= 2
	}
	b = le.AppendUint16(b, flags)
	b = le.AppendUint16(b, uint16(len(s.Disks)))
	for _, t := range []string{s.Machine, s.Stream, s.Boot} {
		b = putText(b, t)
	}
	for _, d := range s.Disks {
		b = putText(le.AppendUint64(b, uint64(d.Size)), d.ID)
	}
	return b
}

func decodeIdentity(b []byte) (s identity, err error) {
	if err := unseal(b, stateMagic); err != nil {
		return s, err
	}
	c := cursor{b: b[8 : len(b)-4]}
	s.Serial, s.Epoch, s.Reserved, s.Stored = c.u64(), c.u64(), c.u64(), c.u64()
	s.Granule = int64(c.u32())
	flags := c.u16()
	s.Clean, s.Suspect = flags&1 != 0, flags&2 != 0
	n := int(c.u16())
	s.Machine, s.Stream, s.Boot = c.text(), c.text(), c.text()
	for i := 0; i < n && !c.failed; i++ {
		size := int64(c.u64())
		s.Disks = append(s.Disks, diskID{ID: c.text(), Size: size})
	}
	if c.failed || n > maxDisks {
		return s, fmt.Errorf("%w: fields end early, or %d disks are more than %d", ErrCorrupt, n, maxDisks)
	}
	return s, nil
}

// state is the state file: two sealed pages that are written in turn, and a page of shared memory.
type state struct {
	file file
	identity
	live bitset // words of the third page
}

// Words of the third page, stored as they change. They outlive the process, not a power cut.
const (
	liveNext          = iota // the next position
	liveStored               // the newest word of the far side
	liveStoredRecords        // Counters.Stored
	liveGapFrom              // where the gap that is open began, plus 1; 0: none is
	liveUnsent               // since when something is not released, unix nanoseconds; 0: everything is
)

// createState makes the state file; it counts once write succeeded.
func createState(d directory, s identity) (*state, error) {
	f, err := d.create(stateFile, 3*pageSize)
	if err != nil {
		return nil, err
	}
	return mapState(f, s)
}

func mapState(f file, s identity) (*state, error) {
	mem, err := f.mapped()
	if err != nil {
		return nil, err
	}
	return &state{file: f, identity: s, live: wordsOf(mem[2*pageSize:])}, nil
}

// errUnmade says that the state's making was interrupted before it counted.
var errUnmade = errors.New("the state was never written")

// openState reads the newer of the two pages; the other may be half written.
func openState(d directory) (*state, error) {
	f, err := d.open(stateFile)
	if err != nil {
		return nil, err
	}
	if unmade(f) {
		return nil, errors.Join(errUnmade, f.close())
	}
	if f.size() != 3*pageSize {
		return nil, fmt.Errorf("state: %w: %d bytes long; it has %d", ErrCorrupt, f.size(), 3*pageSize)
	}
	var best *identity
	var firstErr error
	for i := range int64(2) {
		page := make([]byte, pageSize)
		if _, err := f.ReadAt(page, i*pageSize); err != nil {
			return nil, err
		}
		s, err := decodeIdentity(page)
		if err != nil && firstErr == nil {
			firstErr = err
		}
		if err == nil && (best == nil || s.Serial > best.Serial) {
			best = &s
		}
	}
	if best == nil {
		return nil, fmt.Errorf("state: %w", firstErr)
	}
	return mapState(f, *best)
}

// write makes the identity durable.
func (s *state) write(change func(*identity)) error {
	next := s.identity
	change(&next)
	next.Serial++
	if _, err := s.file.WriteAt(next.encode(), int64(next.Serial%2)*pageSize); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	if err := s.file.sync(); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	s.identity = next
	return nil
}

// unmade tells that the state has never been written whole: the first writing goes to the second page, and the first page is as it was made. The
// directory is nobody's then: the disks were not open yet.
func unmade(f file) bool {
	pages := make([]byte, 2*pageSize)
	n, err := f.ReadAt(pages[:min(2*pageSize, f.size())], 0)
	if err != nil || n < int(min(2*pageSize, f.size())) || !isZero(pages[:pageSize]) {
		return false
	}
	_, err = decodeIdentity(pages[pageSize:])
	return errors.Is(err, ErrCorrupt)
}

func (s *state) put(word int, v uint64)  { atomic.StoreUint64(&s.live[word], v) }
func (s *state) get(word int) (v uint64) { return atomic.LoadUint64(&s.live[word]) }
