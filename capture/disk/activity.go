package disk

import (
	"cmp"
	"slices"
	"sync"
)

// activity is the log of extents that may be written: an extent is in its durable image before a byte of it changes. After
// a power loss nothing is known about hot extents, and everything about cold ones: when an extent is evicted, its disk is
// flushed and the bitmaps are synced first.
//
// A write to hot extents costs a map look-up. Cold ones wait for one image to be written; all that wait share it. An eighth
// of the slots is evicted at a time.
type activity struct {
	file  file
	size  int64 // bytes of an extent
	slots int
	// settle makes durable what is written on these disks, and the bitmaps.
	settle func(disks map[uint16]bool) error
	// fail is told, once, that the log cannot be written. When it returns, and until recover, nothing is tracked.
	fail func(error)

	mu         sync.Mutex
	image      activityImage // the durable one
	changed    *sync.Cond    // an image was written, or an extent is used by nobody
	hot        map[extent]*hotExtent
	tick       uint64   // orders uses
	leaving    []extent // being evicted
	evictions  uint64   // that are over
	wanted     map[extent]bool
	committing bool
	failing    bool
	untracked  int // users that entered while failing
}

type hotExtent struct {
	users int
	used  uint64
}

// visit is one use of extents, from enter to leave.
type visit struct {
	few       [3]*hotExtent // enough for writes up to two extents long
	hot       []*hotExtent
	untracked bool
}

func newActivity(f file, image activityImage) *activity {
	a := &activity{file: f, size: image.Size, slots: image.Slots, image: image, hot: map[extent]*hotExtent{}, wanted: map[extent]bool{}}
	a.changed = sync.NewCond(&a.mu)
	for _, e := range image.Hot {
		a.hot[e] = &hotExtent{}
	}
	return a
}

// longest is how many bytes one visit may cover, so that a few always fit.
func (a *activity) longest() int64 { return int64(a.slots/4) * a.size }

// enter returns when the range's extents are hot and durably so; they stay hot until leave.
func (a *activity) enter(v *visit, disk uint16, off, n int64) {
	first, last := extentOf(disk, off, a.size), extentOf(disk, off+n-1, a.size)
	a.mu.Lock()
	defer a.mu.Unlock()
	for !a.allHot(first, last) {
		if a.committing {
			for e := first; e <= last; e++ {
				a.wanted[e] = true
			}
			a.changed.Wait()
			continue
		}
		if a.failing {
			a.untracked++
			v.untracked = true
			return
		}
		a.commit(first, last)
	}
	a.tick++
	v.hot = v.few[:0]
	for e := first; e <= last; e++ {
		h := a.hot[e]
		h.users++
		h.used = a.tick
		v.hot = append(v.hot, h)
	}
}

func (a *activity) leave(v *visit) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, h := range v.hot {
		h.users--
	}
	if v.untracked {
		a.untracked--
	}
	if len(a.wanted) > 0 || v.untracked {
		a.changed.Broadcast()
	}
}

func (a *activity) allHot(first, last extent) bool {
	for e := first; e <= last; e++ {
		if a.hot[e] == nil {
			return false
		}
	}
	return true
}

// commit makes the extents hot, and as many of those that others wait for as fit. It waits if not enough extents are idle.
// mu is held, and released meanwhile.
func (a *activity) commit(first, last extent) {
	want := []extent{}
	for e := first; e <= last; e++ {
		if a.hot[e] == nil {
			want = append(want, e)
		}
	}
	victims, room := a.victims(len(want), first, last)
	if room < len(want) {
		a.wanted[first] = true // so that leave tells
		a.changed.Wait()
		return
	}
	for e := range a.wanted {
		if len(want) < room && a.hot[e] == nil && (e < first || e > last) {
			want = append(want, e)
		}
	}
	clear(a.wanted)
	disks := map[uint16]bool{}
	for _, e := range victims {
		disks[e.disk()] = true
		delete(a.hot, e) // whoever wants it now waits for this image and then for another
	}
	a.leaving = victims
	err := a.write(disks, want)
	a.leaving = nil
	if len(victims) > 0 {
		a.evictions++
	}
	if err == nil {
		for _, e := range want {
			a.hot[e] = &hotExtent{used: a.tick}
		}
	}
}

// victims chooses what to evict for so many newcomers, least recently used first, and tells how many slots are free then.
func (a *activity) victims(newcomers int, first, last extent) (victims []extent, room int) {
	room = a.slots - len(a.hot)
	if room >= newcomers {
		return nil, room
	}
	for e, h := range a.hot {
		if h.users == 0 && (e < first || e > last) {
			victims = append(victims, e)
		}
	}
	slices.SortFunc(victims, func(x, y extent) int {
		return cmp.Or(cmp.Compare(a.hot[x].used, a.hot[y].used), cmp.Compare(x, y))
	})
	victims = victims[:min(len(victims), max(newcomers-room, a.slots/8))]
	return victims, room + len(victims)
}

// write writes an image of what is hot and what is to be, after settling the disks of evicted extents.
func (a *activity) write(disks map[uint16]bool, more []extent) error {
	next := a.image
	next.Serial++
	next.Hot = make([]extent, 0, len(a.hot)+len(more))
	for e := range a.hot {
		next.Hot = append(next.Hot, e)
	}
	next.Hot = append(next.Hot, more...)
	slices.Sort(next.Hot)
	a.committing = true // until fail has returned: others wait
	a.mu.Unlock()
	err := a.store(disks, &next)
	a.mu.Lock()
	if err == nil {
		a.image = next
	} else if !a.failing {
		a.failing = true
		a.mu.Unlock()
		a.fail(err)
		a.mu.Lock()
	}
	a.committing = false
	a.changed.Broadcast()
	return err
}

func (a *activity) store(disks map[uint16]bool, image *activityImage) error {
	if len(disks) > 0 {
		if err := a.settle(disks); err != nil {
			return err
		}
	}
	if _, err := a.file.WriteAt(image.encode(), int64(image.Serial%2)*activitySize(image.Slots)); err != nil {
		return err
	}
	return a.file.sync()
}

// recover tries to end failing. Newcomers wait meanwhile, and those who came while it failed are waited for; then every
// disk is settled.
func (a *activity) recover(disks map[uint16]bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.committing {
		a.changed.Wait()
	}
	if !a.failing {
		return nil
	}
	a.committing = true
	for a.untracked > 0 {
		a.changed.Wait()
	}
	err := a.write(disks, nil)
	a.failing = err != nil
	return err
}

// list gives the hot extents, those that are being evicted included, and how many evictions are over.
func (a *activity) list() (hot []extent, evictions uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	hot = append(make([]extent, 0, len(a.hot)+len(a.leaving)), a.leaving...)
	for e := range a.hot {
		hot = append(hot, e)
	}
	return hot, a.evictions
}

// evicted tells how many evictions are over.
func (a *activity) evicted() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.evictions
}
