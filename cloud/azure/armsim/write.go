package armsim

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"
)

// refusal is why a document is not accepted.
type refusal struct {
	status  int
	code    string
	message string
}

// write replaces a resource, as ARM's PUT does: what the document leaves out is gone.
func (s *Server) write(a *answer, r *resource, ifMatch string, body []byte, f *Fault) {
	var doc map[string]any
	d := json.NewDecoder(strings.NewReader(string(body)))
	d.UseNumber()
	if len(body) > maxBody || d.Decode(&doc) != nil || props(doc) == nil {
		a.refuse(http.StatusBadRequest, "InvalidRequestContent", "The request content was invalid and could not be deserialized.")
		return
	}
	if ifMatch != "" && ifMatch != "*" && ifMatch != text(r.doc, "etag") {
		a.refuse(http.StatusPreconditionFailed, "PreconditionFailed", "Etag provided in if-match header "+ifMatch+" does not match etag "+text(r.doc, "etag")+" of resource "+r.id)
		return
	}
	if r.op != nil {
		s.busy(a)
		return
	}
	if !s.joinsAllowed(a, doc) {
		return
	}
	if e := s.check(doc, r); e != nil {
		a.refuse(e.status, e.code, e.message)
		return
	}
	s.readOnly(doc, r)
	if r.latency == 0 && f == nil {
		now := s.Now()
		s.ops["immediate"] = &operation{id: "immediate", resource: r, accepted: now, due: now, doc: doc}
		s.finish(s.ops["immediate"])
		delete(s.ops, "immediate")
		a.body = clone(r.doc)
		return
	}
	s.announce(a, s.start(r, doc, r.latency, f))
}

// readOnly puts back what clients cannot set.
func (s *Server) readOnly(doc map[string]any, r *resource) {
	for _, f := range []string{"id", "name", "type", "location"} {
		doc[f] = r.doc[f]
	}
	delete(doc, "etag")
	for _, f := range []string{"resourceGuid", "macAddress"} {
		if v, ok := props(r.doc)[f]; ok {
			props(doc)[f] = v
		}
	}
	if r.kind == typeNIC {
		if _, ok := props(doc)["enableIPForwarding"]; !ok {
			props(doc)["enableIPForwarding"] = false
		}
	}
}

func (s *Server) check(doc map[string]any, r *resource) *refusal {
	if r.kind == typeNIC {
		return s.checkNIC(doc, r)
	}
	return checkTable(doc)
}

func (s *Server) checkNIC(doc map[string]any, r *resource) *refusal {
	configs := list(props(doc), "ipConfigurations")
	if len(configs) == 0 {
		return &refusal{http.StatusBadRequest, "NetworkInterfaceMustHaveAtLeastOneIpConfiguration", "Network interface " + r.id + " must have at least one ip configuration."}
	}
	seen := map[string]bool{}
	for _, c := range configs {
		if refOf(props(c), "subnet") == "" {
			return &refusal{http.StatusBadRequest, "SubnetIsRequired", "IP configuration " + text(c, "name") + " names no subnet."}
		}
		pip := refOf(props(c), "publicIPAddress")
		if pip == "" {
			continue
		}
		if p := s.resources[key(pip)]; p == nil || p.kind != typePublic {
			return &refusal{http.StatusBadRequest, "InvalidResourceReference", "Resource " + pip + " referenced by resource " + r.id + " was not found."}
		}
		if seen[key(pip)] {
			return &refusal{http.StatusBadRequest, "PublicIPReferencedByMultipleIPConfigs", "Public ip address " + pip + " is referenced by multiple ipconfigs in resource " + r.id + "."}
		}
		seen[key(pip)] = true
		if holder := s.holder(pip, r); holder != "" {
			return &refusal{http.StatusBadRequest, "PublicIPAddressInUse", "Resource " + r.id + " is referencing public IP address " + pip + " that is already allocated to resource " + holder + "."}
		}
	}
	return nil
}

// holder gives the NIC other than r that has a public address, or is about to.
func (s *Server) holder(pip string, r *resource) string {
	for _, n := range s.resources {
		if n == r || n.kind != typeNIC {
			continue
		}
		docs := []map[string]any{n.doc}
		if n.op != nil && !n.op.fail {
			docs = append(docs, n.op.doc)
		}
		for _, d := range docs {
			for _, c := range list(props(d), "ipConfigurations") {
				if strings.EqualFold(refOf(props(c), "publicIPAddress"), pip) {
					return n.id + "/ipConfigurations/" + text(c, "name")
				}
			}
		}
	}
	return ""
}

func checkTable(doc map[string]any) *refusal {
	names, prefixes := map[string]bool{}, map[string]bool{}
	for _, r := range list(props(doc), "routes") {
		name, prefix := strings.ToLower(text(r, "name")), text(props(r), "addressPrefix")
		if names[name] || prefixes[prefix] {
			return &refusal{http.StatusBadRequest, "RouteConflict", "Route " + name + " with prefix " + prefix + " conflicts with another route of the table."}
		}
		names[name], prefixes[prefix] = true, true
		if _, err := netip.ParsePrefix(prefix); err != nil || name == "" {
			return &refusal{http.StatusBadRequest, "InvalidAddressPrefixFormat", "Route " + name + " has the prefix '" + prefix + "' that is not a valid address prefix."}
		}
		_, err := netip.ParseAddr(text(props(r), "nextHopIpAddress"))
		if appliance := text(props(r), "nextHopType") == "VirtualAppliance"; appliance != (err == nil) {
			return &refusal{http.StatusBadRequest, "InvalidNextHopIpAddress", "Route " + name + " has next hop type " + text(props(r), "nextHopType") + " with the next hop '" + text(props(r), "nextHopIpAddress") + "'."}
		}
	}
	return nil
}
