package armsim

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	typeNIC    = "microsoft.network/networkinterfaces"
	typePublic = "microsoft.network/publicipaddresses"
	typeTable  = "microsoft.network/routetables"
)

type resource struct {
	id      string // as first written
	kind    string // lower-case type
	doc     map[string]any
	latency time.Duration
	op      *operation // running, or nil
}

func key(id string) string { return strings.ToLower(strings.TrimRight(id, "/")) }

// kindOf gives the lower-case type of a top-level resource id, or "".
func kindOf(id string) string {
	p := strings.Split(key(id), "/")
	if len(p) != 9 || p[1] != "subscriptions" || p[3] != "resourcegroups" || p[5] != "providers" {
		return ""
	}
	return p[6] + "/" + p[7]
}

func nameOf(id string) string { return id[strings.LastIndexByte(id, '/')+1:] }

func (s *Server) load() error {
	for _, p := range s.top.PublicAddresses {
		if err := s.add(p.ID, typePublic, "Microsoft.Network/publicIPAddresses", 0, nil, map[string]any{
			"ipAddress": p.Address, "publicIPAllocationMethod": "Static", "publicIPAddressVersion": "IPv4",
		}); err != nil {
			return err
		}
	}
	for _, n := range s.top.NICs {
		if err := s.add(n.ID, typeNIC, "Microsoft.Network/networkInterfaces", latencyOr(n.Latency.D(), s.top.Latencies.NIC.D()), n.Tags, nicProperties(n)); err != nil {
			return err
		}
	}
	for _, t := range s.top.RouteTables {
		if err := s.add(t.ID, typeTable, "Microsoft.Network/routeTables", latencyOr(t.Latency.D(), s.top.Latencies.RouteTable.D()), t.Tags, tableProperties(t)); err != nil {
			return err
		}
	}
	for _, r := range s.resources {
		if r.kind != typeNIC {
			continue
		}
		if e := s.checkNIC(r.doc, r); e != nil {
			return fmt.Errorf("%s: %s", r.id, e.message)
		}
	}
	s.relink()
	return nil
}

func latencyOr(own, kind time.Duration) time.Duration {
	if own > 0 {
		return own
	}
	return kind
}

func (s *Server) add(id, kind, typ string, latency time.Duration, tags map[string]string, properties map[string]any) error {
	if kindOf(id) != kind {
		return fmt.Errorf("id %q: want /subscriptions/S/resourceGroups/G/providers/%s/NAME", id, typ)
	}
	if s.resources[key(id)] != nil {
		return fmt.Errorf("id %q: is there twice", id)
	}
	properties["provisioningState"] = "Succeeded"
	properties["resourceGuid"] = fmt.Sprintf("%08x-0000-4000-8000-%012x", s.rng.Uint32(), len(s.resources))
	doc := map[string]any{"id": id, "name": nameOf(id), "type": typ, "location": s.top.location(), "properties": properties}
	if len(tags) > 0 {
		doc["tags"] = tags
	}
	r := &resource{id: id, kind: kind, doc: clone(doc), latency: latency}
	s.touch(r)
	s.resources[key(id)] = r
	return nil
}

func nicProperties(n NIC) map[string]any {
	var configs []any
	for i, c := range n.IPConfigurations {
		p := map[string]any{
			"privateIPAddress": c.Address, "privateIPAllocationMethod": "Static", "privateIPAddressVersion": "IPv4",
			"primary": i == 0, "subnet": map[string]any{"id": c.Subnet}, "provisioningState": "Succeeded",
		}
		if c.PublicAddress != "" {
			p["publicIPAddress"] = map[string]any{"id": c.PublicAddress}
		}
		configs = append(configs, map[string]any{"id": n.ID + "/ipConfigurations/" + c.Name, "name": c.Name, "properties": p})
	}
	p := map[string]any{
		"ipConfigurations": configs, "enableIPForwarding": n.IPForwarding, "enableAcceleratedNetworking": true,
		"dnsSettings": map[string]any{"dnsServers": n.DNSServers}, "macAddress": "00-0D-3A-00-00-01",
	}
	if n.SecurityGroup != "" {
		p["networkSecurityGroup"] = map[string]any{"id": n.SecurityGroup}
	}
	return p
}

func tableProperties(t RouteTable) map[string]any {
	routes := []any{}
	for _, r := range t.Routes {
		p := map[string]any{"addressPrefix": r.Prefix, "nextHopType": "Internet", "provisioningState": "Succeeded"}
		if r.NextHop != "" {
			p["nextHopType"], p["nextHopIpAddress"] = "VirtualAppliance", r.NextHop
		}
		routes = append(routes, map[string]any{"id": t.ID + "/routes/" + r.Name, "name": r.Name, "properties": p})
	}
	return map[string]any{"routes": routes, "disableBgpRoutePropagation": true}
}

// touch gives the resource a new etag.
func (s *Server) touch(r *resource) {
	s.serial++
	r.doc["etag"] = fmt.Sprintf("W/\"%08x-0000-4000-8000-000000000000\"", s.serial)
}

// relink makes each public address say which IP configuration has it. The NICs are the truth.
func (s *Server) relink() {
	holder := map[string]string{}
	for _, r := range s.resources {
		if r.kind != typeNIC {
			continue
		}
		for _, c := range list(props(r.doc), "ipConfigurations") {
			if pip := refOf(props(c), "publicIPAddress"); pip != "" {
				holder[key(pip)] = r.id + "/ipConfigurations/" + text(c, "name")
			}
		}
	}
	for _, k := range slices.Sorted(maps.Keys(s.resources)) {
		r := s.resources[k]
		if r.kind != typePublic {
			continue
		}
		p := props(r.doc)
		if refOf(p, "ipConfiguration") == holder[k] {
			continue
		}
		delete(p, "ipConfiguration")
		if h := holder[k]; h != "" {
			p["ipConfiguration"] = map[string]any{"id": h}
		}
		s.touch(r)
	}
}

// clone copies a document by way of JSON, which also makes its types those of a decoded one.
func clone(doc map[string]any) map[string]any {
	b, err := json.Marshal(doc)
	if err != nil {
		return nil // documents come from JSON or from strings, numbers and booleans
	}
	var out map[string]any
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	if d.Decode(&out) != nil {
		return nil
	}
	return out
}

func props(doc map[string]any) map[string]any {
	p, _ := doc["properties"].(map[string]any)
	return p
}

func list(m map[string]any, field string) []map[string]any {
	l, _ := m[field].([]any)
	var out []map[string]any
	for _, e := range l {
		if d, ok := e.(map[string]any); ok {
			out = append(out, d)
		}
	}
	return out
}

func text(m map[string]any, field string) string {
	t, _ := m[field].(string)
	return t
}

func refOf(m map[string]any, field string) string {
	r, _ := m[field].(map[string]any)
	return text(r, "id")
}
