package sim

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/cloud"
)

// cloudModel behaves as Azure Resource Manager does towards the steps of cloud/azure: whole documents are read and put,
// a write is accepted, lands some time later and ends later still, or fails, or is forgotten; an address that is
// elsewhere is in use. It has no fencing token: what refuses an old leader is a tag that the driver reads before it writes,
// so an old write may land late, and has to be repaired.
type cloudModel struct {
	w         *world
	at        place
	resources map[string]*resource
	ids       []string
	slow      int // how many faults make it slow
	failing   int // how many faults make it fail
	ifMatch   bool
}

// slowest is how long a write takes in the last examination.
const slowest = 80 * time.Second

// resource is a route table (what: prefix → next hop) or a NIC (what: IP configuration → public address).
type resource struct {
	id     string
	nic    bool
	what   []pair
	tag    mark
	etag   int
	failed bool
	op     *operation
}

type pair struct{ key, value string }

type mark struct {
	token api.Token
	scope string
}

func (m mark) newer(than mark) bool {
	if m.token.Epoch != than.token.Epoch {
		return m.token.Epoch > than.token.Epoch
	}
	return m.scope == than.scope && m.token.Generation > than.token.Generation
}

// operation is a write that was accepted.
type operation struct {
	what []pair
	tag  mark
	by   string
	fail bool
	land bool // has the effect even if it fails
}

func lookup(what []pair, key string) string {
	for _, p := range what {
		if p.key == key {
			return p.value
		}
	}
	return ""
}

func set(what []pair, key, value string) []pair {
	for i, p := range what {
		if p.key == key {
			what[i].value = value
			return what
		}
	}
	return append(what, pair{key, value})
}

func (c *cloudModel) add(id string, nic bool) {
	id = strings.ToLower(id)
	if c.resources[id] == nil {
		c.resources[id] = &resource{id: id, nic: nic, etag: 1}
		c.ids = append(c.ids, id)
	}
}

func (c *cloudModel) find(id string) *resource { return c.resources[strings.ToLower(id)] }

var (
	errCloudBusy   = errors.New("429 another operation is in progress")
	errCloudUse    = errors.New("PublicIPAddressInUse")
	errCloudETag   = errors.New("412 precondition failed")
	errCloudFailed = errors.New("the operation failed")
	errCloudGone   = errors.New("no answer from the cloud")
)

// put accepts a write or refuses it.
func (c *cloudModel) put(r *resource, what []pair, tag mark, etag int, by string) (*operation, error) {
	switch {
	case c.ifMatch && etag != r.etag:
		return nil, errCloudETag
	case r.op != nil:
		return nil, errCloudBusy
	case c.failing > 0 && c.w.chance(0.5):
		return nil, errCloudFailed
	}
	if r.nic {
		for _, p := range what {
			if p.value != "" && c.holder(p.value, r) {
				return nil, errCloudUse
			}
		}
	}
	op := &operation{what: what, tag: tag, by: by}
	op.fail = c.w.chance(c.w.faulty(0.01)) || c.failing > 0 && c.w.chance(0.4)
	op.land = !op.fail || c.w.chance(0.3)
	r.op = op
	lasts := time.Duration(2+c.w.rng.IntN(8)) * time.Second
	if r.nic {
		lasts += time.Duration(c.w.rng.IntN(20)) * time.Second
	}
	switch {
	case c.slow > 0 && c.w.faults.ended:
		lasts = slowest
	case c.slow > 0:
		lasts = min(time.Duration(30+c.w.rng.IntN(450))*time.Second, max(c.w.calm-c.w.now, 30*time.Second))
	}
	landAt := time.Duration(c.w.rng.Int64N(int64(lasts)))
	c.w.after(landAt, func() {
		if op.land {
			r.what, r.tag = slices.Clone(op.what), op.tag
			c.w.note("cloud", "landed", by, r.String())
		}
	})
	c.w.after(lasts, func() {
		r.op, r.failed = nil, op.fail
		r.etag++
		c.w.note("cloud", "ended", by, r.String())
	})
	return op, nil
}

func (r *resource) String() string {
	var b strings.Builder
	b.WriteString(r.id[strings.LastIndexByte(r.id, '/')+1:])
	for _, p := range r.what {
		fmt.Fprintf(&b, " %s=%s", p.key, p.value[strings.LastIndexByte(p.value, '/')+1:])
	}
	return b.String()
}

// holder tells whether another NIC has the address, or is about to.
func (c *cloudModel) holder(address string, not *resource) bool {
	has := func(what []pair) bool {
		return slices.ContainsFunc(what, func(p pair) bool { return strings.EqualFold(p.value, address) })
	}
	for _, id := range c.ids {
		if r := c.resources[id]; r != not && r.nic && (has(r.what) || r.op != nil && has(r.op.what)) {
			return true
		}
	}
	return false
}

// state gives where a group's things point, as the driver's Observe finds it.
func (c *cloudModel) state(g *api.ApplianceGroup) cloud.State {
	var s cloud.State
	scope := g.Metadata.Tenant + "/" + g.Spec.Provider
	for _, a := range g.Spec.PublicAddresses {
		h := cloud.Holding{Thing: cloud.AddressClaim(scope, a), Detail: "on no NIC of the group"}
		for _, m := range g.Spec.Members {
			r := c.find(nicOf(m, a.NIC).ID)
			if r != nil && strings.EqualFold(lookup(r.what, configuration(a.IPConfiguration)), a.ID) {
				h.Member, h.Detail = m.Name, r.id
			}
		}
		s.Holdings = append(s.Holdings, h)
	}
	for _, t := range g.Spec.RouteTables {
		for _, rt := range t.Routes {
			h := cloud.Holding{Thing: cloud.RouteClaim(scope, t, rt)}
			hop := lookup(c.find(t.ID).what, rt.Prefix)
			for _, m := range g.Spec.Members {
				if nicOf(m, rt.NIC).Address == hop {
					h.Member = m.Name
				}
			}
			h.Detail = "next hop " + hop
			s.Holdings = append(s.Holdings, h)
		}
	}
	return s
}

func nicOf(m api.Member, name string) api.NIC {
	for _, n := range m.NICs {
		if n.Name == name {
			return n
		}
	}
	return api.NIC{}
}

// configuration is the name of an IP configuration; the primary one has a name too.
func configuration(name string) string {
	if name == "" {
		return "primary"
	}
	return name
}
