package server

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/lead"
	"github.com/understudy-ha/understudy/store"
)

// nodeStatusEvery is how often the statuses of nodes are compared with what the store says of them.
const nodeStatusEvery = time.Second

func cut(node string) (tenant, name string, ok bool) { return strings.Cut(node, "/") }

// watchNodes ends the sessions of nodes that were deleted, and keeps the statuses of the others up to date while this
// controller leads.
func (rt *runtime) watchNodes(ctx context.Context) {
	for sleep(ctx, nodeStatusEvery) == nil {
		rt.sessions.dropDeleted()
		leading, epoch := rt.leading()
		if !leading {
			continue
		}
		for _, o := range rt.s.hub.objects(api.KindNode) {
			if err := rt.nodeStatus(ctx, o.(*api.Node), epoch); err != nil {
				slog.Debug("write the status of a node", "node", o.Head().Ref(), "err", err)
				break // the store is away, or somebody else leads
			}
		}
	}
}

// deletedAfter is how long a session may be older than what the watch shows of its node.
const deletedAfter = 2 * time.Second

// dropDeleted ends the sessions of nodes that are not there any more. Their certificates open no other.
func (ss *sessions) dropDeleted() {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for name, s := range ss.byNode {
		tenant, node, _ := cut(name)
		ref := api.Ref{Kind: api.KindNode, Tenant: tenant, Name: node}
		if time.Since(s.opened) > deletedAfter && ss.rt.s.hub.entry(api.ObjectKey(ref)).Rev == 0 {
			slog.Info("node was deleted; its session ends", "node", name)
			s.cancel()
		}
	}
}

// nodeStatus writes one node's status if it differs from what is stored. It is bound to the epoch, like all that a leader writes.
func (rt *runtime) nodeStatus(ctx context.Context, n *api.Node, epoch int64) error {
	want := rt.sessions.status(n.Metadata.Tenant + "/" + n.Metadata.Name)
	if !want.Connected {
		want = n.Status
		want.Connected = false
		if n.Status.Connected {
			want.Since = time.Now().UTC()
		}
	}
	a, err := json.Marshal(want)
	if err != nil {
		return err
	}
	if b, err := json.Marshal(n.Status); err != nil || bytes.Equal(a, b) {
		return err
	}
	return rt.putStatus(ctx, n.Ref(), a, epoch)
}

// putStatus stores the status of a resource that is there, if this controller leads in that epoch.
func (rt *runtime) putStatus(ctx context.Context, ref api.Ref, value []byte, epoch int64) error {
	guard := rt.s.hub.entry(lead.EpochKey)
	var doc lead.EpochDoc
	if json.Unmarshal(guard.Value, &doc) != nil || doc.Epoch != epoch || doc.Holder != rt.s.name {
		return nil // not caught up yet, or not leading any more
	}
	obj := rt.s.hub.entry(api.ObjectKey(ref))
	_, err := rt.s.store.Txn(ctx, []store.Cond{{Key: lead.EpochKey, Rev: guard.Rev}, {Key: obj.Key, Rev: obj.Rev}},
		[]store.Op{{Key: api.StatusKey(ref), Value: value}})
	return err
}
