package hanva

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/understudy-ha/understudy/api"
)

// Facts are what the daemon asked Azure for when it ran: the private addresses of network interfaces and the routes of
// tables. The zero value knows nothing.
type Facts struct {
	addresses map[string]string  // by NIC id, lower case
	routes    map[string][]route // by table id, lower case
}

type route struct{ name, prefix, nextHop string }

// resource is a NIC or a route table, as the az tool prints it or as ARM answers.
type resource struct {
	ID               string            `json:"id"`
	IPConfigurations []ipConfiguration `json:"ipConfigurations"`
	Routes           []azRoute         `json:"routes"`
	Properties       struct {
		IPConfigurations []ipConfiguration `json:"ipConfigurations"`
		Routes           []azRoute         `json:"routes"`
	} `json:"properties"`
}

type ipConfiguration struct {
	Primary          *bool  `json:"primary"`
	PrivateIPAddress string `json:"privateIPAddress"`
	Properties       struct {
		Primary          *bool  `json:"primary"`
		PrivateIPAddress string `json:"privateIPAddress"`
	} `json:"properties"`
}

type azRoute struct {
	Name             string `json:"name"`
	AddressPrefix    string `json:"addressPrefix"`
	NextHopIPAddress string `json:"nextHopIpAddress"`
	Properties       struct {
		AddressPrefix    string `json:"addressPrefix"`
		NextHopIPAddress string `json:"nextHopIpAddress"`
	} `json:"properties"`
}

// Add takes the output of "az network nic list -o json" or "az network route-table list -o json", or ARM's own answer to such a
// question. name stands in errors.
func (f *Facts) Add(name string, doc []byte) error {
	var list []resource
	if json.Unmarshal(doc, &list) != nil {
		var answer struct {
			Value []resource `json:"value"`
		}
		if err := json.Unmarshal(doc, &answer); err != nil || answer.Value == nil {
			return &api.Invalid{Fields: []api.FieldError{{Field: name, Value: "no list of Azure resources",
				Want: `the output of "az network nic list -o json" or "az network route-table list -o json"`}}}
		}
		list = answer.Value
	}
	if f.addresses == nil {
		f.addresses, f.routes = map[string]string{}, map[string][]route{}
	}
	for _, r := range list {
		f.add(r)
	}
	return nil
}

func (f *Facts) add(r resource) {
	id := strings.ToLower(r.ID)
	configurations := append(r.IPConfigurations, r.Properties.IPConfigurations...)
	for i, c := range configurations {
		primary, address := c.Primary, c.PrivateIPAddress
		if primary == nil {
			primary = c.Properties.Primary
		}
		if address == "" {
			address = c.Properties.PrivateIPAddress
		}
		if i == 0 || primary != nil && *primary {
			f.addresses[id] = address
		}
	}
	for _, x := range append(r.Routes, r.Properties.Routes...) {
		f.routes[id] = append(f.routes[id], route{x.Name, x.AddressPrefix + x.Properties.AddressPrefix, x.NextHopIPAddress + x.Properties.NextHopIPAddress})
	}
}

// placeholders hands out addresses of 192.0.2.0/24, which are set aside for documentation and belong to nobody.
type placeholders struct{ used int }

func (p *placeholders) next() string {
	p.used++
	return fmt.Sprintf("192.0.2.%d", p.used)
}
