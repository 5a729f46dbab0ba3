package azure

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/cloud"
)

// The codes of findings.
const (
	NICPairingBroken       = "NICPairingBroken"       // a member lacks a NIC that addresses or routes name
	NotAnID                = "NotAnID"                // an id is not one of ARM
	ResourceMissing        = "ResourceMissing"        // does not exist
	ReadFailed             = "ReadFailed"             // could not be read
	ProvisioningFailed     = "ProvisioningFailed"     // its last write failed
	ProvisioningUnderWay   = "ProvisioningUnderWay"   // somebody is writing to it
	IPForwardingOff        = "IPForwardingOff"        // the NIC drops what is not addressed to it
	NICAddressDiffers      = "NICAddressDiffers"      // routes would name an address that the NIC does not have
	IPConfigurationMissing = "IPConfigurationMissing" // an address names an IP configuration that the NIC lacks
	IPConfigurationTaken   = "IPConfigurationTaken"   // another public address is on it
	RoutePrefixDiffers     = "RoutePrefixDiffers"     // a route of this name has another prefix
	LocationDiffers        = "LocationDiffers"        // an address and a NIC are in different regions
	PermissionMissing      = "PermissionMissing"      // an action is not allowed at a resource
	PermissionsUnknown     = "PermissionsUnknown"     // the permissions could not be read
)

// check gathers findings. Its methods are pure once everything is read.
type check struct {
	group    *api.ApplianceGroup
	found    map[string]reading
	findings []cloud.Finding
	// needs lists the actions that moving needs, by folded id; order has the ids as written.
	needs map[string][]string
	order []string
}

// Check reads every resource of the group and the caller's permissions at each, and changes nothing. The error is for a
// context that ended; what cannot be read is a finding.
func (d *Driver) Check(ctx context.Context, group *api.ApplianceGroup) ([]cloud.Finding, error) {
	c := &check{group: group, needs: map[string][]string{}}
	ids := c.collect()
	c.found = d.readAll(ctx, ids)
	for _, id := range ids {
		c.resource(id, c.found[fold(id)])
	}
	for _, m := range group.Spec.Members {
		c.addresses(m)
		c.nics(m)
	}
	c.routes()
	d.permissions(ctx, c)
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("check group %s: %w", group.Metadata.Name, err)
	}
	return c.findings, nil
}

func (c *check) add(code string, severity api.Severity, blocks bool, resource, format string, args ...any) {
	c.findings = append(c.findings, cloud.Finding{Code: code, Severity: severity, Resource: resource, Message: fmt.Sprintf(format, args...), Blocks: blocks})
}

func (c *check) need(id string, actions ...string) {
	k := fold(id)
	if _, ok := c.needs[k]; !ok {
		c.order = append(c.order, id)
	}
	for _, a := range actions {
		if !slices.Contains(c.needs[k], a) {
			c.needs[k] = append(c.needs[k], a)
		}
	}
}

// collect lists the ids to read, each once, finds members that do not pair, and notes what must be allowed.
func (c *check) collect() []string {
	var ids []string
	seen := map[string]bool{}
	take := func(id, kind, where string, actions ...string) {
		if _, err := parseIDOf(id, kind); err != nil {
			c.add(NotAnID, api.Critical, true, id, "%s: %v", where, err)
			return
		}
		if !seen[fold(id)] {
			seen[fold(id)] = true
			ids = append(ids, id)
		}
		c.need(id, actions...)
	}
	spec := c.group.Spec
	for _, m := range spec.Members {
		for _, name := range c.nicNames() {
			nic, ok := nicNamed(m, name)
			if !ok {
				c.add(NICPairingBroken, api.Critical, true, "", "member %s has no NIC named %q, which addresses or routes name; every member wants one", m.Name, name)
				continue
			}
			actions := []string{actionNICRead}
			if c.carriesAddress(name) {
				actions = append(actions, actionNICWrite)
			}
			take(nic.ID, kindNIC, "member "+m.Name+", NIC "+name, actions...)
		}
	}
	for _, a := range spec.PublicAddresses {
		take(a.ID, kindAddress, "public address "+a.Name, actionAddressRead, actionAddressJoin)
	}
	for _, t := range spec.RouteTables {
		take(t.ID, kindTable, "route table", actionTableRead, actionTableWrite, actionRouteRead, actionRouteWrite)
	}
	return ids
}

// nicNames lists the NIC names that addresses and routes name, in order.
func (c *check) nicNames() []string {
	var names []string
	add := func(n string) {
		if !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	for _, a := range c.group.Spec.PublicAddresses {
		add(a.NIC)
	}
	for _, t := range c.group.Spec.RouteTables {
		for _, r := range t.Routes {
			add(r.NIC)
		}
	}
	return names
}

func (c *check) carriesAddress(nic string) bool {
	return slices.ContainsFunc(c.group.Spec.PublicAddresses, func(a api.PublicAddress) bool { return a.NIC == nic })
}

func (c *check) resource(id string, r reading) {
	var e *Error
	switch {
	case notFound(r.err):
		c.add(ResourceMissing, api.Critical, true, id, "does not exist")
	case errors.As(r.err, &e) && (e.Status == http.StatusForbidden || e.Status == http.StatusUnauthorized):
		c.add(ReadFailed, api.Critical, true, id, "may not be read: %s: %s", e.Code, e.Message)
	case r.err != nil:
		c.add(ReadFailed, api.Warning, true, id, "%v", r.err)
	case r.doc.working():
		c.add(ProvisioningUnderWay, api.Info, false, id, "a write is under way (%s); a move waits for it", r.doc.state())
	case !r.doc.succeeded():
		c.add(ProvisioningFailed, api.Warning, false, id, "its last write ended as %s; a move writes it again, which may fail too", r.doc.state())
	}
}

// doc gives a resource that could be read, or nil.
func (c *check) doc(id string) document { return c.found[fold(id)].doc }

// addresses looks whether a member could take every address.
func (c *check) addresses(m api.Member) {
	ours := map[string]bool{}
	for _, a := range c.group.Spec.PublicAddresses {
		ours[fold(a.ID)] = true
	}
	for _, a := range c.group.Spec.PublicAddresses {
		nic, _ := nicNamed(m, a.NIC)
		n := c.doc(nic.ID)
		if _, read := c.found[fold(a.ID)]; n == nil || !read {
			continue
		}
		cfg := n.configuration(a.IPConfiguration)
		switch has := addressOf(cfg); {
		case cfg == nil:
			c.add(IPConfigurationMissing, api.Critical, true, nic.ID, "has no IP configuration %q, which public address %s names", a.IPConfiguration, a.Name)
		case has != "" && !ours[fold(has)]:
			c.add(IPConfigurationTaken, api.Critical, true, nic.ID, "IP configuration %s has the public address %s, which does not move; public address %s wants another ipConfiguration", text(cfg, "name"), has, a.Name)
		}
		if p := c.doc(a.ID); p != nil && !strings.EqualFold(text(p, "location"), text(n, "location")) {
			c.add(LocationDiffers, api.Critical, true, nic.ID, "is in %s, public address %s in %s; want one region", text(n, "location"), a.Name, text(p, "location"))
		}
		c.joins(n)
	}
}

// joins notes the permissions that a write of the NIC needs on what the NIC refers to.
func (c *check) joins(nic document) {
	for _, cfg := range nic.configurations() {
		if id := text(object(object(cfg, "properties"), "subnet"), "id"); id != "" {
			c.need(id, actionSubnetJoin)
		}
		if id := addressOf(cfg); id != "" {
			c.need(id, actionAddressJoin)
		}
	}
	if id := text(object(nic.properties(), "networkSecurityGroup"), "id"); id != "" {
		c.need(id, actionGroupJoin)
	}
}

// nics looks at every NIC of a member that addresses or routes name. Routes to a NIC that does not forward are a
// black hole; one with addresses alone may terminate its traffic itself.
func (c *check) nics(m api.Member) {
	routed := map[string]bool{}
	for _, t := range c.group.Spec.RouteTables {
		for _, r := range t.Routes {
			routed[r.NIC] = true
		}
	}
	for _, name := range c.nicNames() {
		nic, _ := nicNamed(m, name)
		n := c.doc(nic.ID)
		if n == nil {
			continue
		}
		if on, _ := n.properties()["enableIPForwarding"].(bool); !on {
			severity := api.Warning
			if routed[name] {
				severity = api.Critical
			}
			c.add(IPForwardingOff, severity, routed[name], nic.ID, "NIC %s of member %s does not forward; set enableIPForwarding", name, m.Name)
		}
		has := slices.ContainsFunc(n.configurations(), func(cfg map[string]any) bool {
			return text(object(cfg, "properties"), "privateIPAddress") == nic.Address
		})
		if routed[name] && !has {
			c.add(NICAddressDiffers, api.Critical, true, nic.ID, "NIC %s of member %s does not have the address %s, which routes would name", name, m.Name, nic.Address)
		}
	}
}

func (c *check) routes() {
	for _, t := range c.group.Spec.RouteTables {
		d := c.doc(t.ID)
		if d == nil {
			continue
		}
		for _, r := range t.Routes {
			p := object(d.route(routeName(r), r.Prefix), "properties")
			if has := text(p, "addressPrefix"); p != nil && has != r.Prefix {
				c.add(RoutePrefixDiffers, api.Critical, true, t.ID, "route %s has the prefix %s; the group says %s", routeName(r), has, r.Prefix)
			}
		}
	}
}

// permissions asks at each resource what the caller may do there.
func (d *Driver) permissions(ctx context.Context, c *check) {
	type result struct {
		grants []grant
		err    error
	}
	results := make([]result, len(c.order))
	var wg sync.WaitGroup
	slots := make(chan struct{}, parallel)
	for i, id := range c.order {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			grants, err := d.grantsAt(ctx, id)
			results[i] = result{grants, err}
		})
	}
	wg.Wait()
	for i, id := range c.order {
		if err := results[i].err; err != nil {
			c.add(PermissionsUnknown, api.Warning, false, id, "the permissions cannot be read: %v", err)
			continue
		}
		for _, a := range c.needs[fold(id)] {
			if !permits(results[i].grants, a) {
				c.add(PermissionMissing, api.Critical, true, id, "the provider's identity may not %s; give it a role with this action here or above", a)
			}
		}
	}
}
