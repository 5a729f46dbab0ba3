package pki

import (
	"fmt"
	"strings"

	"github.com/understudy-ha/understudy/api"
)

// Role is the kind of party that a certificate names.
type Role string

// The roles.
const (
	RoleController Role = "controller"
	RoleNode       Role = "node"
	RoleUser       Role = "user"
)

// Identity is a certificate's common name, parsed.
type Identity struct {
	Role Role
	// Tenant of a node; "" for others.
	Tenant string
	Name   string
}

// String gives the common name: "controller:c1", "node:default/nva1", "user:ann".
func (i Identity) String() string {
	if i.Role == RoleNode {
		return string(i.Role) + ":" + i.Tenant + "/" + i.Name
	}
	return string(i.Role) + ":" + i.Name
}

// Controller, Node and User give the identity of one.
func Controller(name string) Identity { return Identity{Role: RoleController, Name: name} }

// Node gives a node's identity.
func Node(tenant, name string) Identity { return Identity{RoleNode, tenant, name} }

// User gives a person's identity.
func User(name string) Identity { return Identity{Role: RoleUser, Name: name} }

// ParseIdentity reads a common name.
func ParseIdentity(cn string) (Identity, error) {
	role, name, _ := strings.Cut(cn, ":")
	id := Identity{Role: Role(role), Name: name}
	ok := false
	switch id.Role {
	case RoleController, RoleUser:
		ok = true
	case RoleNode:
		id.Tenant, id.Name, ok = strings.Cut(name, "/")
		ok = ok && api.ValidName(id.Tenant)
	}
	if !ok || !api.ValidName(id.Name) {
		return Identity{}, fmt.Errorf(`certificate name %q: want "controller:NAME", "node:TENANT/NAME" or "user:NAME"`, cn)
	}
	return id, nil
}
