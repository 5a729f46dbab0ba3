package azure

import (
	"fmt"
	"net/url"
	"strings"
)

// resourceID is a parsed ARM id.
type resourceID struct {
	subscription, group string
	// kind is the type as written, like "Microsoft.Network/networkInterfaces"; of a child with all types.
	kind string
	// name is the last name.
	name string
	full string
}

const (
	kindNIC     = "Microsoft.Network/networkInterfaces"
	kindAddress = "Microsoft.Network/publicIPAddresses"
	kindTable   = "Microsoft.Network/routeTables"
	kindSubnet  = "Microsoft.Network/virtualNetworks/subnets"
)

const maxID = 1024

// parseID takes an ARM id apart. Ids go into URLs, so whatever could change a URL's meaning is refused.
func parseID(id string) (resourceID, error) {
	bad := func(why string) (resourceID, error) {
		return resourceID{}, fmt.Errorf("id %.200q: %s; want /subscriptions/S/resourceGroups/G/providers/Microsoft.Network/TYPE/NAME", id, why)
	}
	if len(id) > maxID {
		return bad("longer than 1024 bytes")
	}
	p := strings.Split(id, "/")
	if len(p) < 9 || len(p)%2 == 0 || p[0] != "" {
		return bad("not a full ARM id")
	}
	for _, s := range p[1:] {
		if s == "" || s == "." || s == ".." {
			return bad("has an empty part")
		}
		if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == 0xfffd || strings.ContainsRune(`?#%\<>"&:`, r) }) {
			return bad("has a character that ARM names do not have")
		}
	}
	if !strings.EqualFold(p[1], "subscriptions") || !strings.EqualFold(p[3], "resourceGroups") || !strings.EqualFold(p[5], "providers") {
		return bad("not a full ARM id")
	}
	kind := p[6]
	for i := 7; i < len(p); i += 2 {
		kind += "/" + p[i]
	}
	return resourceID{subscription: p[2], group: p[4], kind: kind, name: p[len(p)-1], full: id}, nil
}

// parseIDOf is parseID for one type.
func parseIDOf(id, kind string) (resourceID, error) {
	r, err := parseID(id)
	if err != nil {
		return r, err
	}
	if !strings.EqualFold(r.kind, kind) {
		return resourceID{}, fmt.Errorf("id %q: is of type %s; want one of %s", id, r.kind, kind)
	}
	return r, nil
}

// path gives the id as the path of a URL.
func (r resourceID) path() string {
	p := strings.Split(r.full, "/")
	for i := range p {
		p[i] = url.PathEscape(p[i])
	}
	return strings.Join(p, "/")
}

// fold makes ids comparable: ARM's know no case.
func fold(id string) string { return strings.ToLower(id) }

// nicOf gives the NIC of an IP configuration's id, and the configuration's name; "" if it is none.
func nicOf(ipConfiguration string) (nic, name string) {
	low := fold(ipConfiguration)
	i := strings.LastIndex(low, "/ipconfigurations/")
	if i < 0 || !strings.Contains(low[:i], "/microsoft.network/networkinterfaces/") {
		return "", ""
	}
	return ipConfiguration[:i], ipConfiguration[i+len("/ipConfigurations/"):]
}
