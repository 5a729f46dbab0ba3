package controller

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/lead"
	"github.com/understudy-ha/understudy/store"
)

// jobEntry is a job as stored. It is parsed when somebody asks for it: of many finished jobs hardly any are needed,
// and followers need none.
type jobEntry struct {
	stored []byte
	rev    store.Rev
	job    *api.Job // nil: not parsed yet, or not to be parsed
}

func (c *Core) nextID() uint64 {
	c.lastID++
	return c.lastID
}

// transact asks for a transaction; then runs with its outcome.
func (c *Core) transact(conds []store.Cond, ops []store.Op, then func(TxnDone)) {
	id := c.nextID()
	c.txns[id] = then
	c.do(Transact{ID: id, Conds: conds, Ops: ops})
}

func (c *Core) txnDone(e TxnDone) {
	if then := c.txns[e.ID]; then != nil {
		delete(c.txns, e.ID)
		then(e)
	}
}

// read asks for a fresh read; then runs with its outcome.
func (c *Core) read(keys, prefixes []string, then func(ReadDone)) {
	id := c.nextID()
	c.reads[id] = then
	c.do(Read{ID: id, Keys: keys, Prefixes: prefixes})
}

func (c *Core) readDone(e ReadDone) {
	if then := c.reads[e.ID]; then != nil {
		delete(c.reads, e.ID)
		then(e)
	}
}

// changed takes a watch's delivery.
func (c *Core) changed(e Changed) {
	if e.Batch.Complete {
		entries := make([]store.Entry, 0, len(e.Batch.Changes))
		for _, ch := range e.Batch.Changes {
			entries = append(entries, ch.Entry)
		}
		c.shown(entries)
		c.replace(entries, under("obj/", "assign/", "request/"), func(key string) bool { return c.own[key] != 0 })
		for _, en := range entries {
			if strings.HasPrefix(en.Key, "lead/") {
				c.sawLead(en)
			}
		}
		return
	}
	for _, ch := range e.Batch.Changes {
		switch {
		case ch.Deleted:
			c.forget(ch.Key)
		case strings.HasPrefix(ch.Key, "lead/"):
			c.sawLead(ch.Entry)
		default:
			c.shown([]store.Entry{ch.Entry})
			c.learn(ch.Entry)
		}
	}
	c.retarget()
}

// shown takes note of which of our own writes the watch has shown.
func (c *Core) shown(entries []store.Entry) {
	for _, e := range entries {
		if e.Rev >= c.own[e.Key] {
			delete(c.own, e.Key)
		}
	}
}

// since gives a test whether a key was learned after now: a read asked for now may not have seen it.
func (c *Core) since() func(key string) bool {
	asked := c.steps
	return func(key string) bool { return c.learned[key] > asked }
}

// under gives a test whether a key is below one of the prefixes.
func under(prefixes ...string) func(key string) bool {
	return func(key string) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(key, p) })
	}
}

// replace takes everything there was among the keys that covered accepts: what is not in it is gone, unless it is
// newer than the entries.
func (c *Core) replace(entries []store.Entry, covered, newer func(key string) bool) {
	has := map[string]bool{}
	for _, e := range entries {
		has[e.Key] = true
	}
	for _, key := range c.knownKeys() {
		if !has[key] && covered(key) && !newer(key) {
			c.forget(key)
		}
	}
	for _, e := range entries {
		c.learn(e)
	}
	c.retarget()
}

// knownKeys lists what is cached, sorted.
func (c *Core) knownKeys() []string {
	var keys []string
	for ref := range c.providers {
		keys = append(keys, api.ObjectKey(ref))
	}
	for ref := range c.jobs {
		keys = append(keys, api.ObjectKey(ref))
	}
	for ref := range c.things {
		keys = append(keys, api.ObjectKey(ref))
	}
	for ref := range c.secrets {
		keys = append(keys, api.ObjectKey(ref))
	}
	for ref, d := range c.subjects {
		s := d.base()
		if s.specRev != 0 {
			keys = append(keys, api.ObjectKey(ref))
		}
		if s.assign != nil {
			keys = append(keys, api.AssignKey(ref))
		}
		if s.request != nil {
			keys = append(keys, api.RequestKey(ref))
		}
	}
	slices.Sort(keys)
	return keys
}

// locate splits a key of ours into its area and the resource it belongs to.
func locate(key string) (area string, ref api.Ref, ok bool) {
	area, rest, _ := strings.Cut(key, "/")
	ref, ok = api.ParseRef(rest)
	return area, ref, ok
}

// learn takes the state of one key, unless something newer is known. What does not parse is left out: admission
// checked it, so only another version of the product can have written it.
func (c *Core) learn(e store.Entry) {
	area, ref, ok := locate(e.Key)
	if !ok || e.Key == lead.EpochKey {
		return
	}
	c.learned[e.Key] = c.steps
	switch {
	case area == "obj" && ref.Kind == api.KindProvider:
		if p := parse[api.Provider](e.Value); p != nil {
			p.Default()
			c.providers[ref] = p
			c.dirtyAll()
		}
	case area == "obj" && ref.Kind == api.KindJob:
		if e.Rev > c.jobs[ref].rev {
			c.jobs[ref] = jobEntry{stored: e.Value, rev: e.Rev}
		}
	case area == "obj" && c.learnResource(ref, e):
	default:
		if d := c.subject(ref); d != nil {
			c.learnAbout(d, area, e)
		}
	}
}

func (c *Core) learnAbout(d driven, area string, e store.Entry) {
	switch area {
	case "obj":
		d.learn(e.Value, e.Rev)
	case "assign":
		if a := parse[api.Assignment](e.Value); a != nil {
			d.base().setAssignment(d, a, e.Rev)
			c.standing.stale = true
		}
	case "request":
		if r := parse[api.Request](e.Value); r != nil {
			d.base().setRequest(r, e.Rev)
		}
	}
}

// forget takes the absence of one key.
func (c *Core) forget(key string) {
	area, ref, ok := locate(key)
	if !ok {
		return
	}
	delete(c.learned, key)
	delete(c.own, key)
	switch {
	case area == "obj" && ref.Kind == api.KindProvider:
		delete(c.providers, ref)
	case area == "obj" && ref.Kind == api.KindJob:
		delete(c.jobs, ref)
	case area == "obj" && (c.things[ref] != nil || c.secrets[ref] != 0):
		c.forgetResource(ref)
	case c.subjects[ref] != nil:
		forgetAbout(c.subjects[ref], area)
	}
}

func forgetAbout(d driven, area string) {
	s := d.base()
	switch area {
	case "obj":
		d.forget()
		s.specRev = 0
	case "assign":
		s.assign, s.assignRev = nil, 0
	case "request":
		s.request, s.requestRev = nil, 0
	}
	s.dirty = true
}

func parse[T any](b []byte) *T {
	v := new(T)
	if json.Unmarshal(b, v) != nil {
		return nil
	}
	return v
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("controller: " + err.Error()) // resources are plain structs; they always marshal
	}
	return b
}
