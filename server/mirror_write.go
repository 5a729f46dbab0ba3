package server

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/lead"
	"github.com/understudy-ha/understudy/objstore"
	"github.com/understudy-ha/understudy/objstore/open"
	"github.com/understudy-ha/understudy/vault"
)

const (
	// mirrorLookEvery is how often a mirror that should be whole is looked at; one of which nothing was heard for mirrorStale is stale.
	mirrorLookEvery = 10 * time.Minute
	mirrorStale     = 3 * mirrorLookEvery
	// mirrorTimeout bounds one round of one vault, mirrorParallel is how many of its writes go on at once.
	mirrorTimeout  = time.Minute
	mirrorParallel = 8
)

// mirrored is what one leadership has put into one vault. Its methods are not safe for concurrent use.
type mirrored struct {
	cluster, version string
	now              func() time.Time

	vault string // its id; another one begins anew
	has   map[api.Ref]mirroredAs
	sum   [sha256.Size]byte // of the set that it holds whole
	at    time.Time         // when that was known last
}

// mirroredAs is one resource as it was put.
type mirroredAs struct {
	sum  [sha256.Size]byte
	hash string
}

// due tells whether there is anything to do for a set.
func (m *mirrored) due(set *mirrorSet) bool {
	return m.at.IsZero() || m.sum != set.sum || m.now().Sub(m.at) >= mirrorLookEvery
}

// round makes the vault's mirror what the set is. What it did before an error need not be done again.
func (m *mirrored) round(ctx context.Context, spec *api.Vault, creds map[string]string, set *mirrorSet, turn mirrorTurn) (err error) {
	st, err := open.Store(ctx, spec.Spec.URL, creds)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	v, err := vault.Open(ctx, st, vault.Options{})
	if err != nil {
		return err
	}
	root := v.Root()
	if root.Recipient != spec.Spec.Recipient {
		return fmt.Errorf("what lies there is encrypted to %s, spec.recipient is %s: nothing is mirrored to a key that is not named", root.Recipient, spec.Spec.Recipient)
	}
	if err := m.hold(ctx, v, spec, turn); err != nil {
		return err
	}
	if root.ID != m.vault {
		*m = mirrored{cluster: m.cluster, version: m.version, now: m.now, vault: root.ID}
	}
	if m.has == nil || m.now().Sub(m.at) >= mirrorLookEvery {
		if err := m.look(ctx, v, spec.Metadata.Tenant, set); err != nil {
			return err
		}
	}
	if err := m.fill(ctx, v, set, turn); err != nil {
		return err
	}
	return m.sign(ctx, v, spec, set, turn)
}

// hold writes down whose mirror it is, and refuses that of another life that is newer, or not older and alive.
func (m *mirrored) hold(ctx context.Context, v *vault.Vault, spec *api.Vault, turn mirrorTurn) error {
	tenant := spec.Metadata.Tenant
	b, err := v.GetMail(ctx, mirrorLetters, tenant)
	if err != nil && !errors.Is(err, objstore.ErrNotFound) {
		return err
	}
	var h mirrorHolder
	if err == nil && json.Unmarshal(b, &h) == nil && h.Format == mirrorFormat {
		alive := m.now().Sub(h.At) < mirrorStale
		switch ours, theirs := lead.ClusterSerial(m.cluster), lead.ClusterSerial(h.ClusterID); {
		case h.ClusterID == m.cluster && h.Epoch > turn.Epoch:
			return fmt.Errorf("epoch %d mirrors already, this is %d", h.Epoch, turn.Epoch)
		case h.ClusterID != m.cluster && alive && theirs >= ours:
			return fmt.Errorf("cluster %s has mirrored there since %s, this is %s: end the one of them that is not to be; the other takes over %v later",
				h.ClusterID, h.At.Format(time.RFC3339), m.cluster, mirrorStale)
		}
	}
	doc, err := json.Marshal(mirrorHolder{Format: mirrorFormat, ClusterID: m.cluster, Epoch: turn.Epoch, At: m.now().UTC()})
	if err != nil {
		return err
	}
	return v.PutMail(ctx, mirrorLetters, tenant, doc)
}

// look finds out what of the set is there, and removes what is not to be.
func (m *mirrored) look(ctx context.Context, v *vault.Vault, tenant string, set *mirrorSet) error {
	there, err := v.ResourceNames(ctx)
	if err != nil {
		return err
	}
	wanted := map[api.Ref]bool{}
	for i := range set.items {
		wanted[set.items[i].ref] = true
	}
	has := map[api.Ref]mirroredAs{}
	for _, r := range there {
		if r.Tenant != tenant || r.Kind == mirrorKind {
			continue
		}
		ref := api.Ref{Kind: api.Kind(r.Kind), Tenant: r.Tenant, Name: r.Name}
		if !wanted[ref] {
			if err := v.PutResource(ctx, r); err != nil {
				return err
			}
		} else if p, ours := m.has[ref]; ours {
			has[ref] = p
		}
	}
	m.has = has
	return nil
}

// fill puts what is new or has changed, and removes what is no more.
func (m *mirrored) fill(ctx context.Context, v *vault.Vault, set *mirrorSet, turn mirrorTurn) error {
	var mu sync.Mutex
	var errs []error
	var work sync.WaitGroup
	room := make(chan struct{}, mirrorParallel)
	do := func(ref api.Ref, r vault.Resource, done func()) {
		room <- struct{}{}
		work.Go(func() {
			defer func() { <-room }()
			err := v.PutResource(ctx, r)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", ref, err))
				return
			}
			done()
		})
	}
	gone := map[api.Ref]bool{}
	for ref := range m.has {
		gone[ref] = true
	}
	for i := range set.items {
		it := &set.items[i]
		delete(gone, it.ref)
		mu.Lock()
		p, ok := m.has[it.ref]
		mu.Unlock()
		if ok && p.sum == it.sum {
			continue
		}
		r, hash, err := it.doc(turn)
		if err != nil {
			return err
		}
		do(it.ref, r, func() { m.has[it.ref] = mirroredAs{it.sum, hash} })
	}
	for ref := range gone {
		do(ref, vault.Resource{Kind: string(ref.Kind), Tenant: ref.Tenant, Name: ref.Name}, func() { delete(m.has, ref) })
	}
	work.Wait()
	return errors.Join(errs...)
}

// sign writes the list.
func (m *mirrored) sign(ctx context.Context, v *vault.Vault, spec *api.Vault, set *mirrorSet, turn mirrorTurn) error {
	l := mirrorList{Format: mirrorFormat, mirrorTurn: turn, ClusterID: m.cluster, At: m.now().UTC(), Version: m.version, Tenant: spec.Metadata.Tenant,
		Vault: spec.Metadata.Name, Objects: map[string]string{}, Withheld: set.withheld}
	for ref, p := range m.has {
		l.Objects[ref.String()] = p.hash
	}
	doc, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if err := v.PutResource(ctx, vault.Resource{Kind: mirrorKind, Tenant: l.Tenant, Name: l.Vault, Data: doc}); err != nil {
		return err
	}
	m.sum, m.at = set.sum, l.At
	return nil
}
