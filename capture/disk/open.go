package disk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/capture"
)

// Open takes up the capture of a machine: where the directory is empty as a new stream, with everything in Config.Initial
// dirty; otherwise where it was left. What was in memory of an earlier process is lost, and costs a gap; after a power loss
// the hot extents are dirty too. The disks are usable when it returns.
func Open(cfg Config) (*Machine, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	unlock, err := cfg.directory.lock()
	if err != nil {
		return nil, fmt.Errorf("capture directory: %w", err)
	}
	m := &Machine{
		cfg: cfg, dir: cfg.directory, unlock: unlock, log: cfg.Log, now: cfg.now, granule: cfg.Granule,
		conditions: map[string]capture.Condition{}, gapKick: make(chan struct{}, 1), janitor: make(chan struct{}, 1),
	}
	m.queue = queue{maxBytes: cfg.QueueBytes, maxRecords: cfg.QueueRecords, wake: make(chan struct{}, 1)}
	m.gate.access = cfg.Access
	m.gap.shipping = !cfg.Paused
	for i, d := range cfg.Disks {
		m.disks = append(m.disks, &Disk{m: m, index: uint16(i), id: d.ID, lower: d.Lower})
		m.sizes = append(m.sizes, d.Lower.Size())
	}
	if err := m.load(); err != nil {
		m.closeFiles()
		return nil, fmt.Errorf("capture directory %s: %w", cfg.Dir, err)
	}
	m.rotated = m.now()
	m.hopeful()
	m.start()
	return m, nil
}

// load reads the directory, or makes it.
func (m *Machine) load() error {
	st, err := openState(m.dir)
	if missing(err) || errors.Is(err, errUnmade) {
		return m.create()
	}
	if err != nil {
		return err
	}
	m.state = st
	if err := m.compare(); err != nil {
		return err
	}
	return m.resume()
}

// compare refuses a directory of something else.
func (m *Machine) compare() error {
	s, c := &m.state.identity, &m.cfg
	switch {
	case c.MachineUID != "" && s.Machine != c.MachineUID:
		return fmt.Errorf("it belongs to machine %q; asked for %q", s.Machine, c.MachineUID)
	case c.Stream != "" && s.Stream != c.Stream:
		return fmt.Errorf("%w: %q; asked for %q", ErrOtherStream, s.Stream, c.Stream)
	case s.Epoch > c.Epoch:
		return fmt.Errorf("%w: %d; asked for %d", ErrStale, s.Epoch, c.Epoch)
	case !slices.Equal(s.Disks, c.diskIDs()):
		return fmt.Errorf("%w: %v; asked for %v", ErrOtherDisks, s.Disks, c.diskIDs())
	}
	m.stream, m.epoch, m.granule = s.Stream, c.Epoch, s.Granule
	return nil
}

// create makes a directory. The state file comes last: without it there is nothing.
func (m *Machine) create() error {
	c := &m.cfg
	if c.Stream == "" {
		return errors.New("stream: is empty; a new directory needs one")
	}
	if err := m.removeFiles("bitmap-", activityFile, stateFile); err != nil {
		return err
	}
	m.stream, m.epoch, m.next = c.Stream, c.Epoch, 1
	f, err := m.dir.create(activityFile, 2*activitySize(c.ActivityExtents))
	if err != nil {
		return err
	}
	m.openLog(f, activityImage{Size: c.extent, Slots: c.ActivityExtents})
	if err := m.activity.store(nil, &m.activity.image); err != nil {
		return err
	}
	if m.gens, err = m.initialBitmaps(Start{Initial: c.Initial, ZeroBase: c.ZeroBase}); err != nil {
		return err
	}
	m.state, err = createState(m.dir, identity{
		Machine: c.MachineUID, Stream: m.stream, Epoch: m.epoch, Granule: m.granule, Boot: c.boot, Disks: c.diskIDs(),
	})
	if err != nil {
		return err
	}
	m.openInitialGap()
	if err := m.state.write(func(s *identity) { s.Reserved = 1 + reserveAhead }); err != nil {
		return err
	}
	return m.dir.sync()
}

// openInitialGap makes the stream begin with what was dirty before it. Position 0 may be missing: the stream has no base yet.
func (m *Machine) openInitialGap() {
	m.state.put(liveNext, m.next)
	m.openGap(0)
	m.current().lossy = false // only the initial bitmap lost something
}

// markRanges sets bits; nil means all.
func (m *Machine) markRanges(b *bitmap, ranges []capture.Range) error {
	if ranges == nil {
		b.setAll()
	}
	for _, r := range ranges {
		if int(r.Disk) >= len(m.sizes) || r.Off < 0 || r.Len < 0 || r.Off+r.Len > m.sizes[r.Disk] {
			return fmt.Errorf("initial range: disk %d [%d, +%d) is not inside %d disks of %v bytes", r.Disk, r.Off, r.Len, len(m.sizes), m.sizes)
		}
		if r.Len > 0 {
			b.set(r.Disk, r.Off, r.Len)
		}
	}
	return nil
}

func (m *Machine) openLog(f file, image activityImage) {
	m.activity = newActivity(f, image)
	m.activity.settle, m.activity.fail = m.settle, m.metadataFailed
}

// resume takes up where an earlier process was.
func (m *Machine) resume() error {
	st := m.state
	powerLost := !st.Clean && st.Boot != m.cfg.boot
	suspect := st.Suspect
	wasInGap := !st.Clean || st.get(liveGapFrom) != 0
	m.next, m.stored, m.queue.stored = st.get(liveNext), max(st.get(liveStored), st.Stored), st.get(liveStoredRecords)
	if since := st.get(liveUnsent); since != 0 && !powerLost {
		m.gap.before = time.Unix(0, int64(since))
	}
	if powerLost {
		m.next, m.stored = st.Reserved, st.Stored
		m.setCondition(capture.PowerLost, "the machine lost power: what was written lately is sent again")
	}
	m.stored = min(m.stored, m.next-1)
	if f, image, err := openActivity(m.dir); err == nil {
		m.openLog(f, image)
	} else if err := m.replaceActivity(err); err != nil {
		return err
	} else {
		suspect = true
	}
	useless, trusted, err := m.loadBitmaps()
	if err != nil {
		return err
	}
	suspect = suspect || !trusted
	for _, g := range m.gens {
		g.lost = g.heldAtOpen() // whatever it answered for is not in memory any more
		g.last, g.closed, g.used = m.next-1, m.next-1, true
		m.captured += g.lost
	}
	m.captured += m.queue.stored
	fresh, err := m.freshBitmap(false, false)
	switch {
	case err == nil:
		m.gens = append(m.gens, newGeneration(fresh))
	case len(m.gens) > 0: // the newest goes on
		m.current().closed = math.MaxUint64
		m.setCondition(capture.MetadataFull, "no bitmap can be made: %v", err)
	default:
		return err
	}
	m.queue.drop(m.next - 1)
	if powerLost {
		hot, _ := m.activity.list()
		m.markHot(hot, func(uint16) bool { return true })
	}
	m.reopenGap(wasInGap || suspect || powerLost, suspect)
	if err := m.syncBitmaps(); err != nil {
		return err
	}
	if err := m.writeState(func(s *identity) {
		s.Epoch, s.Boot, s.Clean, s.Suspect, s.Stored = m.epoch, m.cfg.boot, false, false, m.stored
		s.Reserved = max(s.Reserved, m.next+reserveAhead)
	}); err != nil {
		return err
	}
	for _, name := range useless { // what they may have marked is marked elsewhere now
		if err := m.dir.remove(name); err != nil {
			return err
		}
	}
	return nil
}

// reopenGap decides what the stream lost: nothing if everything was answered for and the process ended in order; the sender's
// first Rewind will tell whether the far side has all of it.
func (m *Machine) reopenGap(inGap, suspect bool) {
	st := m.state
	if !inGap {
		for _, g := range m.gens {
			g.end = g.last // what it holds is stored when that is
			m.queue.lost += g.lost
		}
		m.queue.endGap(m.next - 1)
		return
	}
	from := m.stored + 1
	if was := st.get(liveGapFrom); was != 0 {
		from = min(from, was-1)
	}
	for _, g := range m.gens {
		g.lossy = true
		m.queue.lost += g.lost
	}
	m.openGap(from)
	if suspect {
		m.distrustAll(from)
	}
	m.gap.unsure = true
	m.state.put(liveNext, m.next)
	m.state.put(liveStored, m.stored)
}

// replaceActivity makes a new log where the old one cannot be read.
func (m *Machine) replaceActivity(why error) error {
	m.log.Warn("capture: the activity log is lost, everything is taken as dirty", "error", why)
	if err := m.removeFiles(activityFile); err != nil {
		return err
	}
	f, err := m.dir.create(activityFile, 2*activitySize(m.cfg.ActivityExtents))
	if err != nil {
		return err
	}
	m.openLog(f, activityImage{Size: m.cfg.extent, Slots: m.cfg.ActivityExtents})
	return m.activity.store(nil, &m.activity.image)
}

// loadBitmaps maps the stream's bitmaps, oldest first. Others are useless: those of other streams, those whose making was
// interrupted, and those that cannot be read; then the bitmaps are not to be trusted.
func (m *Machine) loadBitmaps() (useless []string, trusted bool, err error) {
	names, err := m.dir.list()
	if err != nil {
		return nil, false, err
	}
	trusted = true
	for _, name := range names {
		if !strings.HasPrefix(name, "bitmap-") {
			continue
		}
		b, err := openBitmap(m.dir, name)
		if err != nil && !neverUsed(m.dir, name) {
			m.log.Warn("capture: a bitmap is lost, everything is taken as dirty", "error", err)
			trusted = false
		}
		if err == nil && b.Stream == m.stream && slices.Equal(b.Sizes, m.sizes) && b.Granule == m.granule {
			m.gens = append(m.gens, newGeneration(b))
			m.lastGeneration = max(m.lastGeneration, b.Generation)
			continue
		}
		if err == nil {
			b.file.close()
		}
		useless = append(useless, name)
		var n uint64
		if _, err := fmt.Sscanf(name, "bitmap-%016x", &n); err == nil {
			m.lastGeneration = max(m.lastGeneration, n) // its name is taken until the end of resume
		}
	}
	slices.SortFunc(m.gens, func(a, b *generation) int { return cmp.Compare(a.Generation, b.Generation) })
	return useless, trusted, nil
}

// neverUsed tells that a file's making was interrupted: its head, which is synced before the bitmap is used, is not there.
func neverUsed(d directory, name string) bool {
	f, err := d.open(name)
	if err != nil {
		return false
	}
	defer f.close()
	page := make([]byte, min(pageSize, f.size()))
	_, err = f.ReadAt(page, 0)
	return err == nil && isZero(page)
}

func (m *Machine) removeFiles(prefixes ...string) error {
	names, err := m.dir.list()
	if err != nil {
		return err
	}
	for _, name := range names {
		if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) }) {
			if err := m.dir.remove(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// closeFiles lets go of what load opened.
func (m *Machine) closeFiles() {
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.abandon()
}
