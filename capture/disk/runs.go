package disk

// runs is a set of positions that only grows at its end and shrinks from both: which records somebody answers for.
type runs struct {
	list  []run // ascending
	total uint64
}

type run struct{ first, last uint64 }

// add takes a position greater than all others.
func (r *runs) add(seq uint64) {
	r.total++
	if n := len(r.list); n > 0 && r.list[n-1].last+1 == seq {
		r.list[n-1].last = seq
		return
	}
	r.list = append(r.list, run{seq, seq})
}

// append takes positions that are all greater than its own.
func (r *runs) append(more runs) {
	r.list = append(r.list, more.list...)
	r.total += more.total
}

// takeUpTo removes the positions up to and including seq and tells how many they were.
func (r *runs) takeUpTo(seq uint64) uint64 {
	before, i := r.total, 0
	for i < len(r.list) && r.list[i].last <= seq {
		r.total -= r.list[i].last - r.list[i].first + 1
		i++
	}
	r.list = r.list[i:]
	if len(r.list) == 0 {
		r.list = nil // let go of the array
	} else if r.list[0].first <= seq {
		r.total -= seq - r.list[0].first + 1
		r.list[0].first = seq + 1
	}
	return before - r.total
}

// takeFrom removes the positions from seq on and tells how many they were.
func (r *runs) takeFrom(seq uint64) uint64 {
	before, n := r.total, len(r.list)
	for n > 0 && r.list[n-1].first >= seq {
		n--
		r.total -= r.list[n].last - r.list[n].first + 1
	}
	r.list = r.list[:n]
	if n > 0 && r.list[n-1].last >= seq {
		r.total -= r.list[n-1].last - seq + 1
		r.list[n-1].last = seq - 1
	}
	return before - r.total
}
