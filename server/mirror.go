package server

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/vault"
)

// A mirror is a copy, in a vault, of every resource that is needed to recover the machines kept there when no controller is left. It is
// specified in docs/formats/mirror.md.

const (
	mirrorFormat = "understudy-mirror/1"
	// mirrorKind is what the lists are among the resources of a vault; no resource has it.
	mirrorKind = "Mirror"
	// mirrorLetters is where the holders' letters lie in the mailbox.
	mirrorLetters = "mirror"
)

// mirrorKinds are mirrored.
var mirrorKinds = []api.Kind{api.KindSite, api.KindFabric, api.KindNode, api.KindSecret, api.KindVault, api.KindReplicationPolicy,
	api.KindProcessServer, api.KindProvider, api.KindApplianceGroup, api.KindProtectedMachine, api.KindRecoveryPlan}

// mirrorTurn orders what mirrors say: first by leadership, then by the leader's rounds.
type mirrorTurn struct {
	Epoch int64 `json:"epoch"`
	Round int64 `json:"round"`
}

func (t mirrorTurn) compare(o mirrorTurn) int {
	return cmp.Or(cmp.Compare(t.Epoch, o.Epoch), cmp.Compare(t.Round, o.Round))
}

// mirrorDoc is one mirrored resource.
type mirrorDoc struct {
	Format string `json:"format"`
	mirrorTurn
	// Object as people write it, without a status; a Secret with its values. Assignment is what is intended of it.
	Object     json.RawMessage `json:"object"`
	Assignment *api.Assignment `json:"assignment,omitempty"`
}

// mirrorList says what a mirror holds. It is written after everything that it names, and after what it does not name is gone.
type mirrorList struct {
	Format string `json:"format"`
	mirrorTurn
	ClusterID string    `json:"clusterID"`
	At        time.Time `json:"at"`
	Version   string    `json:"version"`
	Tenant    string    `json:"tenant"`
	Vault     string    `json:"vault"` // the Vault resource
	// Objects: the SHA-256 of each mirrorDoc by "Kind/tenant/name".
	Objects map[string]string `json:"objects"`
	// Withheld Secrets open vaults: they are not mirrored.
	Withheld []string `json:"withheld,omitempty"`
}

// mirrorHolder is the letter that says whose mirror it is. It is no secret: whoever mirrors cannot read what is encrypted.
type mirrorHolder struct {
	Format    string    `json:"format"`
	ClusterID string    `json:"clusterID"`
	Epoch     int64     `json:"epoch"`
	At        time.Time `json:"at"`
}

// mirrorItem is what a resource looks like in a mirror, but for the turn.
type mirrorItem struct {
	ref        api.Ref
	object     json.RawMessage
	assignment *api.Assignment
	sum        [sha256.Size]byte
}

func newMirrorItem(o api.Object) (mirrorItem, error) {
	it := mirrorItem{ref: o.Head().Ref()}
	h := *o.Head()
	h.Metadata.ETag = ""
	switch o := o.(type) {
	case *api.ProtectedMachine:
		it.assignment = o.Status.Assignment
	case *api.RecoveryPlan:
		it.assignment = o.Status.Assignment
	case *api.ApplianceGroup:
		it.assignment = o.Status.Assignment
	}
	plain := withoutStatus(o, h)
	if s, ok := o.(*api.Secret); ok {
		plain = &api.Secret{Header: h, Data: s.Data}
	}
	var err error
	if it.object, err = json.Marshal(plain); err != nil {
		return it, err
	}
	assigned, err := json.Marshal(it.assignment)
	it.sum = sha256.Sum256(bytes.Join([][]byte{it.object, assigned}, []byte{0}))
	return it, err
}

// doc gives the item as it is put in a turn, with the hash that lists have of it.
func (it *mirrorItem) doc(t mirrorTurn) (r vault.Resource, hash string, err error) {
	b, err := json.Marshal(mirrorDoc{Format: mirrorFormat, mirrorTurn: t, Object: it.object, Assignment: it.assignment})
	return vault.Resource{Kind: string(it.ref.Kind), Tenant: it.ref.Tenant, Name: it.ref.Name, Data: b}, hashOf(b), err
}

func hashOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// mirrorSet is what the mirrors of a tenant's vaults hold.
type mirrorSet struct {
	items    []mirrorItem
	withheld []string
	sum      [sha256.Size]byte // of everything
}

// newMirrorSet sums a tenant's resources up. Secrets have their values; those that open a vault are left out: a vault's key is at its
// recovery site alone, and what lies in one vault must not open another.
func newMirrorSet(objects []api.Object) (*mirrorSet, error) {
	keys := map[string]bool{}
	for _, o := range objects {
		if v, ok := o.(*api.Vault); ok {
			keys[v.Spec.KeyRef] = true
		}
	}
	s := &mirrorSet{}
	all := sha256.New()
	for _, o := range objects {
		ref := o.Head().Ref()
		if ref.Kind == api.KindSecret && keys[ref.Name] {
			s.withheld = append(s.withheld, ref.String())
			continue
		}
		it, err := newMirrorItem(o)
		if err != nil {
			return nil, fmt.Errorf("mirror %s: %w", ref, err)
		}
		s.items = append(s.items, it)
		all.Write(it.sum[:])
	}
	slices.Sort(s.withheld)
	all.Write([]byte(fmt.Sprint(s.withheld)))
	all.Sum(s.sum[:0])
	return s, nil
}

// usedVaults lists the vaults that machines use, sorted.
func usedVaults(machines []api.Object) []api.Ref {
	seen := map[api.Ref]bool{}
	var out []api.Ref
	for _, o := range machines {
		m := o.(*api.ProtectedMachine)
		names := []string{m.Spec.Vault}
		if m.Spec.Failback != nil {
			names = append(names, m.Spec.Failback.Vault)
		}
		for _, n := range names {
			if ref := (api.Ref{Kind: api.KindVault, Tenant: m.Metadata.Tenant, Name: n}); !seen[ref] {
				seen[ref] = true
				out = append(out, ref)
			}
		}
	}
	slices.SortFunc(out, func(a, b api.Ref) int { return cmp.Compare(a.String(), b.String()) })
	return out
}
