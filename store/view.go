package store

// View is the state under a prefix, kept up to date from a watch's batches. The zero
// map is not ready; use View{}. It is not safe for concurrent use.
type View map[string]Entry

// Apply brings v to the state that b tells of, and returns what differs from before:
// a Complete batch yields also the deletions that happened in the gap. A state that v
// already has yields nothing.
func (v View) Apply(b Batch) []Change {
	var diff []Change
	if b.Complete {
		told := make(map[string]bool, len(b.Changes))
		for _, c := range b.Changes {
			told[c.Key] = !c.Deleted
		}
		for k := range v {
			if !told[k] {
				delete(v, k)
				diff = append(diff, Change{Entry: Entry{Key: k}, Deleted: true})
			}
		}
	}
	for _, c := range b.Changes {
		old, had := v[c.Key]
		switch {
		case c.Deleted && had:
			delete(v, c.Key)
			diff = append(diff, c)
		case !c.Deleted && old.Rev != c.Rev:
			v[c.Key] = c.Entry
			diff = append(diff, c)
		}
	}
	return diff
}
