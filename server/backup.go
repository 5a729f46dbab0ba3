package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/lead"
	"github.com/understudy-ha/understudy/store"
)

// A backup is JSON lines: a BackupHeader, then one backupLine for each key, then a line {"end":N} with their number. It
// reads the same from every store, so a restore may also change the store. Secrets in it are sealed: it opens nothing without the key
// file, which is kept elsewhere.

// BackupHeader is the first line of a backup.
type BackupHeader struct {
	Format    string    `json:"format"` // understudy-backup/1
	ClusterID string    `json:"clusterID"`
	At        time.Time `json:"at"`
	Version   string    `json:"version"`
}

const backupFormat = "understudy-backup/1"

type backupLine struct {
	Key   string `json:"key,omitempty"`
	Value []byte `json:"value,omitempty"`
	End   *int   `json:"end,omitempty"`
}

// steadyTries is how often a backup lists the store to get a state that did not change meanwhile.
const steadyTries = 20

// listSteady gives everything in the store as it was at one moment: two lists in a row that agree. The election's
// beat, which always changes, is left out.
func listSteady(ctx context.Context, st store.Store) ([]store.Entry, error) {
	var last []store.Entry
	for range steadyTries {
		now, err := st.List(ctx, "")
		if err != nil {
			return nil, err
		}
		now = slices.DeleteFunc(slices.Clone(now), func(e store.Entry) bool { return e.Key == lead.BeatKey })
		if last != nil && slices.EqualFunc(now, last, func(a, b store.Entry) bool { return a.Key == b.Key && a.Rev == b.Rev }) {
			return now, nil
		}
		last = now
	}
	return nil, api.Errorf(api.CodeConflict, "the store changed during each of %d attempts; try again when it is quieter", steadyTries)
}

// getBackup answers with a backup.
func (s *Server) getBackup(c *call) error {
	if !c.who.sees(api.AllTenants) {
		return api.Errorf(api.CodeForbidden, "a backup holds every tenant: this needs admin of all (\"*\")")
	}
	entries, err := listSteady(c.r.Context(), s.store)
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "application/x-ndjson")
	out := json.NewEncoder(c.w)
	err = out.Encode(BackupHeader{Format: backupFormat, ClusterID: s.cluster.ClusterID, At: s.now().UTC(), Version: s.opt.Version})
	for _, e := range entries {
		err = errors.Join(err, out.Encode(backupLine{Key: e.Key, Value: e.Value}))
	}
	n := len(entries)
	if err := errors.Join(err, out.Encode(backupLine{End: &n})); err != nil {
		slog.Warn("backup was not delivered", "err", err) // it lacks its last line, by which the reader sees so
	}
	return nil
}

// ReadBackup reads a backup whole, and refuses one that is cut short.
func ReadBackup(r io.Reader) (BackupHeader, []store.Entry, error) {
	var h BackupHeader
	in := bufio.NewReader(r)
	first, err := in.ReadBytes('\n')
	if err != nil || json.Unmarshal(first, &h) != nil || h.Format != backupFormat {
		return h, nil, fmt.Errorf("backup: the first line is no header of format %q", backupFormat)
	}
	var entries []store.Entry
	for n := 2; ; n++ {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return h, nil, fmt.Errorf("backup: cut short after line %d", n-1)
		}
		var l backupLine
		if err := json.Unmarshal(line, &l); err != nil {
			return h, nil, fmt.Errorf("backup: line %d: %w", n, err)
		}
		if l.End != nil {
			if *l.End != len(entries) {
				return h, nil, fmt.Errorf("backup: has %d keys, its last line says %d", len(entries), *l.End)
			}
			return h, entries, nil
		}
		if err := store.ValidKey(l.Key); err != nil || len(l.Value) > store.MaxValue {
			return h, nil, fmt.Errorf("backup: line %d: key %q with %d bytes is outside the store's limits", n, l.Key, len(l.Value))
		}
		entries = append(entries, store.Entry{Key: l.Key, Value: l.Value})
	}
}

// epochLeap is what a restore adds to the epoch: more than can have passed since the backup was made.
const epochLeap = 1 << 20

// Restore writes a backup into the store that the controller in dir is configured for, as a new life of its cluster: a new
// cluster id with a higher serial, signed by the CA, and a higher epoch, so that agents refuse whoever still acts for the old
// life. The store must be empty. No controller may run. It gives the new cluster id.
//
// Controllers whose embedded etcds are one cluster all run Restore at the same time, each in its directory: the first
// by name writes, the others wait until it has.
func Restore(ctx context.Context, dir string, cfg Config, backup io.Reader) (string, error) {
	header, entries, err := ReadBackup(backup)
	if err != nil {
		return "", err
	}
	id, err := loadIdentity(dir, cfg)
	if err != nil {
		return "", err
	}
	st, err := openStore(ctx, dir, cfg, id.seal)
	if err != nil {
		return "", err
	}
	var cluster string
	together := cfg.Store.Etcd.InitialCluster != "" && len(cfg.Store.Endpoints) == 0 && len(cfg.Peers) > 1
	if together && cfg.Name != cfg.ControllerNames()[0] {
		cluster, err = awaitRestore(ctx, st)
	} else {
		cluster, err = restoreInto(ctx, st, id, header, entries)
	}
	if together && err == nil {
		err = sleep(ctx, lingerTogether)
	}
	return cluster, errors.Join(err, st.Close())
}

// lingerTogether is how long a member of an embedded cluster stays after a restore, so that the others can see it too.
const lingerTogether = 5 * time.Second

// awaitRestore waits until another member has written everything.
func awaitRestore(ctx context.Context, st store.Store) (string, error) {
	for {
		e, err := st.Get(ctx, clusterKey)
		if err == nil {
			var doc clusterDoc
			err := json.Unmarshal(e.Value, &doc)
			return doc.ClusterID, err
		}
		if !isStoreNotFound(err) && !errors.Is(err, store.ErrUnavailable) {
			return "", err
		}
		if err := sleep(ctx, storeWait); err != nil {
			return "", err
		}
	}
}

func restoreInto(ctx context.Context, st store.Store, id *identity, header BackupHeader, entries []store.Entry) (string, error) {
	if err := awaitEmpty(ctx, st); err != nil {
		return "", err
	}
	cluster, err := newCluster(id.ca, lead.ClusterSerial(header.ClusterID)+1)
	if err != nil {
		return "", err
	}
	last, err := json.Marshal(cluster)
	if err != nil {
		return "", err
	}
	for i := range entries {
		switch entries[i].Key {
		case lead.EpochKey:
			var doc lead.EpochDoc
			if err := json.Unmarshal(entries[i].Value, &doc); err != nil {
				return "", fmt.Errorf("backup: %s: %w", lead.EpochKey, err)
			}
			doc.Epoch += epochLeap
			doc.Holder = ""
			if entries[i].Value, err = json.Marshal(doc); err != nil {
				return "", err
			}
		case caKey:
			if err := sameCA(id, entries[i].Value); err != nil {
				return "", err
			}
		}
	}
	entries = slices.DeleteFunc(entries, func(e store.Entry) bool { return e.Key == clusterKey || strings.HasPrefix(e.Key, "request/") })
	// The cluster's id comes last: without it no controller takes the store for whole.
	if err := createAll(ctx, st, append(entries, store.Entry{Key: clusterKey, Value: last})); err != nil {
		return "", fmt.Errorf("restore: %w; the store may be half filled, empty it before the next attempt", err)
	}
	return cluster.ClusterID, nil
}

// awaitEmpty waits until the store answers, and refuses one that holds anything.
func awaitEmpty(ctx context.Context, st store.Store) error {
	var there []store.Entry
	var err error
	for { // an embedded store takes a moment until it answers
		if there, err = st.List(ctx, ""); !errors.Is(err, store.ErrUnavailable) || sleep(ctx, storeWait) != nil {
			break
		}
	}
	if err != nil {
		return err
	}
	if len(there) > 0 {
		return fmt.Errorf("the store holds %d keys (%s …): want an empty one; move the old data away first", len(there), there[0].Key)
	}
	return nil
}

// sameCA refuses a backup whose certificates the controller could not issue or check.
func sameCA(id *identity, value []byte) error {
	var doc caDoc
	if err := json.Unmarshal(value, &doc); err != nil || !bytes.Equal(doc.Cert, id.ca.CertPEM()) {
		return errors.New("backup: it is of a cluster with another CA; restore it where that cluster's controllers are")
	}
	_, err := id.seal.Open(caKey, doc.Sealed)
	return err
}

// chunk tells how many entries fit one transaction.
func chunk(entries []store.Entry) int {
	size := 0
	for i, e := range entries {
		if size += len(e.Key) + len(e.Value); i > 0 && (i == store.MaxTxnKeys || size > store.MaxTxnBytes) {
			return i
		}
	}
	return len(entries)
}

// createAll writes entries in their order, in as many transactions as they need; the last one has one of its own.
func createAll(ctx context.Context, st store.Store, entries []store.Entry) error {
	for len(entries) > 0 {
		n := max(1, min(chunk(entries), len(entries)-1))
		if err := create(ctx, st, entries[:n]); err != nil {
			return err
		}
		entries = entries[n:]
	}
	return nil
}

func create(ctx context.Context, st store.Store, entries []store.Entry) error {
	var conds []store.Cond
	var ops []store.Op
	for _, e := range entries {
		conds, ops = append(conds, store.Cond{Key: e.Key}), append(ops, store.Op{Key: e.Key, Value: e.Value})
	}
	_, err := st.Txn(ctx, conds, ops)
	return err
}
