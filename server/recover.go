package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/cloud"
	"github.com/understudy-ha/understudy/lead"
	"github.com/understudy-ha/understudy/pki"
	"github.com/understudy-ha/understudy/store"
)

// Recovery is what a controller is built from when no other is left.
type Recovery struct {
	Mirror *Mirror
	// Identity is the vault's private key as text (AGE-SECRET-KEY-1…). It becomes the Secret that the Vault names.
	Identity string
	// URL by which the vault was reached, and Credentials for it: the Vault gets both.
	URL         string
	Credentials map[string]string
	// Config of the controller, without defaults.
	Config Config
}

// Recovered is the outcome of a recovery.
type Recovered struct {
	ClusterID string `json:"clusterID"`
	// Notes say what differs from what was mirrored, Missing what is referred to and is not there.
	Notes   []string `json:"notes,omitempty"`
	Missing []string `json:"missing,omitempty"`
}

// CheckRecoverDir refuses a directory in which something is already.
func CheckRecoverDir(dir string) error {
	there, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && len(there) > 0 {
		err = api.Errorf(api.CodeConflict, "%s is not empty (%s …): want a directory that is not there yet", dir, there[0].Name())
	}
	return err
}

// Recover makes dir a controller, a cluster of one, whose store holds what the mirror has. It is a new life with a CA of its own:
// its serial, epoch and generations come after those of the mirror, whatever happened since. dir appears whole or not at all.
func Recover(ctx context.Context, dir string, r Recovery, now time.Time) (out Recovered, err error) {
	if err := CheckRecoverDir(dir); err != nil {
		return out, err
	}
	objects, out := r.Prepare()
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return out, err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), filepath.Base(dir)+".recovering-")
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	cfg := r.Config
	cfg.Default(tmp)
	if err := cfg.Validate(); err != nil {
		return out, err
	}
	m, err := newMaterial(now, lead.ClusterSerial(r.Mirror.ClusterID)+1, "server recover")
	if err != nil {
		return out, err
	}
	out.ClusterID = m.seed.Cluster.ClusterID
	if err := errors.Join(m.write(tmp, cfg, now), pki.WriteFile(filepath.Join(tmp, fileToken), []byte(m.token+"\n"), 0o600),
		m.clientConfig(cfg.Servers).Save(filepath.Join(tmp, FileClient)), r.Config.Save(tmp)); err != nil {
		return out, err
	}
	if err := r.fillStore(ctx, tmp, cfg, m, objects); err != nil {
		return out, fmt.Errorf("fill the store: %w", err)
	}
	return out, os.Rename(tmp, dir)
}

// fillStore writes everything into the store in dir.
func (r *Recovery) fillStore(ctx context.Context, dir string, cfg Config, m *material, objects []api.Object) (err error) {
	keyPEM, err := m.ca.KeyPEM()
	if err != nil {
		return err
	}
	entries, err := encodeAll(&resources{seal: m.seal}, objects)
	if err != nil {
		return err
	}
	for _, d := range []struct {
		key string
		doc any
	}{
		{caKey, caDoc{Cert: m.ca.CertPEM(), Sealed: m.seal.Seal(caKey, keyPEM)}},
		{tokenPrefix + m.seed.Admin.ID, m.seed.Admin},
		{lead.EpochKey, lead.EpochDoc{Epoch: r.Mirror.Epoch + epochLeap}},
		{clusterKey, m.seed.Cluster}, // last: without it no controller takes the store for whole
	} {
		value, err := json.Marshal(d.doc)
		if err != nil {
			return err
		}
		entries = append(entries, store.Entry{Key: d.key, Value: value})
	}
	st, err := openStore(ctx, dir, cfg, m.seal)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	if err := awaitEmpty(ctx, st); err != nil {
		return err
	}
	return createAll(ctx, st, entries)
}

// encodeAll gives what the store holds of resources: themselves, what is intended of them, and what they own.
func encodeAll(r *resources, objects []api.Object) (entries []store.Entry, err error) {
	add := func(key string, value []byte, e error) {
		entries, err = append(entries, store.Entry{Key: key, Value: value}), errors.Join(err, e)
	}
	claimed := map[string]bool{}
	for _, o := range objects {
		ref := o.Head().Ref()
		value, e := r.encodeStored(o)
		add(api.ObjectKey(ref), value, e)
		var assignment *api.Assignment
		var claims []string
		switch o := o.(type) {
		case *api.ProtectedMachine:
			assignment, claims = o.Status.Assignment, diskClaims(o)
		case *api.ApplianceGroup:
			assignment, claims = o.Status.Assignment, cloud.Claims(o)
		case *api.RecoveryPlan:
			assignment = o.Status.Assignment
		}
		if assignment != nil {
			value, e := json.Marshal(assignment)
			add(api.AssignKey(ref), value, e)
		}
		for _, c := range claims {
			if key := api.ClaimKey(c); !claimed[key] {
				claimed[key] = true
				add(key, []byte(ref.String()), nil)
			}
		}
	}
	return entries, err
}

// missing lists what objects refer to and is not among them, as "Kind/tenant/name, which … needs".
func missing(objects []api.Object) (out []string) {
	there := map[api.Ref]bool{}
	for _, o := range objects {
		there[o.Head().Ref()] = true
	}
	for _, o := range objects {
		for _, ref := range uses(o) {
			if !there[ref] {
				out = append(out, fmt.Sprintf("%s, which %s needs", ref, o.Head().Ref()))
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// uses lists what any resource refers to.
func uses(o api.Object) []api.Ref {
	tenant := o.Head().Metadata.Tenant
	switch o := o.(type) {
	case *api.ApplianceGroup:
		return []api.Ref{{Kind: api.KindProvider, Tenant: tenant, Name: o.Spec.Provider}}
	case *api.Provider:
		if o.Spec.Azure == nil || o.Spec.Azure.Credential.SecretRef == "" {
			return nil
		}
		return []api.Ref{{Kind: api.KindSecret, Tenant: tenant, Name: o.Spec.Azure.Credential.SecretRef}}
	}
	return users(o)
}
