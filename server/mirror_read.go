package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/lead"
	"github.com/understudy-ha/understudy/vault"
)

// Mirror is what a vault tells of the cluster whose machines it keeps.
type Mirror struct {
	Root vault.Root
	// ClusterID of the newest life that mirrored there, At its newest list's time, Epoch the highest leadership.
	ClusterID string
	At        time.Time
	Epoch     int64
	// Objects with their assignments, if they have one; statuses are empty but for that.
	Objects []api.Object
	// Withheld Secrets that the mirror leaves out, as "Secret/tenant/name".
	Withheld []string
	// Vaults names, by tenant, the Vault resource that this vault is, as the newest list says.
	Vaults map[string]string
	// Streams that the vault holds, by id.
	Streams map[string]vault.StreamInfo
	// Unused says, by name, what could not be used and why; Doubtful what was used all the same.
	Unused, Doubtful []string
}

// ErrNoMirror says that a vault holds no mirror at all.
var ErrNoMirror = errors.New("the vault holds no mirror of a cluster's resources: it is written by the leader once a ProtectedMachine names the vault")

// ReadMirror reads the mirror of a vault that was opened with its identity. What is damaged, missing or of another version is left
// out and named in Unused.
func ReadMirror(ctx context.Context, v *vault.Vault) (*Mirror, error) {
	m := &Mirror{Root: v.Root(), Vaults: map[string]string{}, Streams: map[string]vault.StreamInfo{}}
	found, err := v.Resources(ctx)
	if err := m.damage(err); err != nil {
		return nil, err
	}
	lists := m.lists(found)
	if len(found) == 0 && len(m.Unused) == 0 {
		return nil, ErrNoMirror
	}
	seen := map[string]bool{}
	for i := range found {
		if r := &found[i]; r.Kind != mirrorKind {
			name := r.Kind + "/" + r.Tenant + "/" + r.Name
			seen[name] = true
			m.take(r, name, lists[r.Tenant])
		}
	}
	for _, u := range m.Unused {
		name, _, _ := strings.Cut(u, ": ")
		seen[name] = true
	}
	for _, l := range lists {
		for name := range l.Objects {
			if !seen[name] {
				m.leave(name, "it is missing")
			}
		}
		m.Withheld = append(m.Withheld, l.Withheld...)
	}
	slices.Sort(m.Withheld)
	slices.Sort(m.Unused)
	slices.Sort(m.Doubtful)
	sortObjects(m.Objects)
	return m, m.readStreams(ctx, v)
}

func (m *Mirror) leave(name, format string, args ...any) {
	m.Unused = append(m.Unused, name+": "+fmt.Sprintf(format, args...))
}

// damage takes note of what is damaged in the vault; any other error is given back.
func (m *Mirror) damage(err error) error {
	if err == nil {
		return nil
	}
	each := []error{err}
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		each = several.Unwrap()
	}
	for _, e := range each {
		var bad *journal.Error
		if !errors.As(e, &bad) {
			return err
		}
		m.leave(strings.TrimPrefix(bad.Object, "resources/"), "it is damaged: %v", e)
	}
	return nil
}

// lists gives each tenant's newest list.
func (m *Mirror) lists(found []vault.Resource) map[string]*mirrorList {
	out := map[string]*mirrorList{}
	for _, r := range found {
		if r.Kind != mirrorKind {
			continue
		}
		l := &mirrorList{}
		if err := json.Unmarshal(r.Data, l); err != nil || l.Format != mirrorFormat || l.Tenant != r.Tenant {
			m.leave(r.Kind+"/"+r.Tenant+"/"+r.Name, "format %q; this program reads %q", l.Format, mirrorFormat)
			continue
		}
		if was := out[r.Tenant]; was == nil || was.compare(l.mirrorTurn) < 0 {
			out[r.Tenant], m.Vaults[r.Tenant] = l, l.Vault
		}
		m.Epoch = max(m.Epoch, l.Epoch)
		if lead.CompareClusters(l.ClusterID, m.ClusterID) > 0 {
			m.ClusterID = l.ClusterID
		}
		if l.At.After(m.At) {
			m.At = l.At
		}
	}
	return out
}

// take decides what becomes of one mirrored resource. Without a list all are taken. What a list does not name, although it is
// newer, was deleted; what it names with another hash was overwritten late by an older leader, or put back by somebody.
func (m *Mirror) take(r *vault.Resource, name string, l *mirrorList) {
	var d mirrorDoc
	if err := json.Unmarshal(r.Data, &d); err != nil || d.Format != mirrorFormat {
		m.leave(name, "format %q; this program reads %q", d.Format, mirrorFormat)
		return
	}
	m.Epoch = max(m.Epoch, d.Epoch)
	if l != nil && d.compare(l.mirrorTurn) <= 0 {
		switch hash, named := l.Objects[name]; {
		case !named:
			return
		case hash != hashOf(r.Data):
			m.Doubtful = append(m.Doubtful, fmt.Sprintf("%s: it is not the one of the list (epoch %d, round %d) but of epoch %d, round %d", name, l.Epoch, l.Round, d.Epoch, d.Round))
		}
	}
	o, err := api.Decode(d.Object)
	if err == nil {
		o.Default()
		err = o.Validate()
	}
	if err == nil && o.Head().Ref().String() != name {
		err = fmt.Errorf("it says that it is %s", o.Head().Ref())
	}
	if err != nil {
		m.leave(name, "it does not read (a newer program may): %v", err)
		return
	}
	switch o := o.(type) {
	case *api.ProtectedMachine:
		o.Status = api.MachineStatus{Assignment: d.Assignment}
	case *api.RecoveryPlan:
		o.Status = api.RecoveryPlanStatus{Assignment: d.Assignment}
	case *api.ApplianceGroup:
		o.Status = api.GroupStatus{Assignment: d.Assignment}
	}
	m.Objects = append(m.Objects, o)
}

// readStreams reads what the vault has of the machines.
func (m *Mirror) readStreams(ctx context.Context, v *vault.Vault) error {
	ids, err := v.Streams(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		info, err := v.Stream(ctx, id)
		switch bad := (*journal.Error)(nil); {
		case errors.As(err, &bad):
			m.leave("stream "+id, "it is damaged: %v", err)
		case err != nil:
			return err
		default:
			m.Streams[id] = info
		}
	}
	return nil
}

// stream finds, of a machine's numbered streams in the vault, the newest and its number; nil and 0 if there is none.
func (m *Mirror) stream(uid string) (newest *vault.StreamInfo, number int) {
	for id, info := range m.Streams {
		var n int
		if rest, ok := strings.CutPrefix(id, uid+"-"); !ok || uid == "" {
			continue
		} else if _, err := fmt.Sscanf(rest, "%d", &n); err != nil || fmt.Sprint(n) != rest {
			continue
		}
		if n > number {
			newest, number = &info, n
		}
	}
	return newest, number
}
