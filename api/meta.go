// Package api holds the resource kinds: what people write, what the product
// answers, their defaults and their validation. It is the wire contract of people
// and needs nothing but the standard library.
package api

import (
	"encoding/json"
	"fmt"
	"time"
)

// Version is the apiVersion of every resource.
const Version = "understudy/v1"

// Kind names a kind of resource.
type Kind string

// The kinds.
const (
	KindNode           Kind = "Node"
	KindProvider       Kind = "Provider"
	KindApplianceGroup Kind = "ApplianceGroup"
	KindJob            Kind = "Job"
	KindEvent          Kind = "Event"
	KindSecret         Kind = "Secret"

	KindSite              Kind = "Site"
	KindFabric            Kind = "Fabric"
	KindVault             Kind = "Vault"
	KindReplicationPolicy Kind = "ReplicationPolicy"
	KindProcessServer     Kind = "ProcessServer"
	KindProtectedMachine  Kind = "ProtectedMachine"
	KindRecoveryPlan      Kind = "RecoveryPlan"
)

// DefaultTenant owns what names no tenant.
const DefaultTenant = "default"

// Metadata is common to every resource.
type Metadata struct {
	// Name is unique within kind and tenant: 1–63 of a-z, 0-9, "-", "."; starts and ends with a letter or digit.
	Name string `json:"name"`
	// Tenant owns the resource. Default "default". Same form as Name. Tenants see only their own.
	Tenant string `json:"tenant,omitempty"`
	// Labels are for people: at most 64, keys and values at most 63 bytes.
	Labels map[string]string `json:"labels,omitempty"`
	// Generation counts changes of the spec, from 1. Set by the server.
	Generation int64 `json:"generation,omitempty"`
	// ETag changes with every write of the resource. Send it back in If-Match. Set by the server.
	ETag string `json:"etag,omitempty"`
	// Created and Updated are set by the server.
	Created time.Time `json:"created,omitzero"`
	Updated time.Time `json:"updated,omitzero"`
}

// Object is any resource.
type Object interface {
	Head() *Header
	// Default fills in what was left out. Calling it twice changes nothing more.
	Default()
	// Validate reports everything that is wrong, each with its field, its value and what would be right (an
	// *Invalid), or nil. It looks at this resource alone; what involves others is admission's business.
	Validate() error
}

// Header stands in front of every resource.
type Header struct {
	APIVersion string   `json:"apiVersion"`
	Kind       Kind     `json:"kind"`
	Metadata   Metadata `json:"metadata"`
}

// Head gives the header.
func (h *Header) Head() *Header { return h }

// Ref is kind/tenant/name, how one resource speaks of another and how store keys are built.
type Ref struct {
	Kind   Kind   `json:"kind"`
	Tenant string `json:"tenant"`
	Name   string `json:"name"`
}

func (r Ref) String() string { return string(r.Kind) + "/" + r.Tenant + "/" + r.Name }

// Ref gives the resource's own reference.
func (h *Header) Ref() Ref { return Ref{h.Kind, h.Metadata.Tenant, h.Metadata.Name} }

// Duration is a time.Duration written as "250ms" or "1m30s" in JSON.
type Duration time.Duration

// D gives the time.Duration.
func (d Duration) D() time.Duration { return time.Duration(d) }

func (d Duration) String() string { return time.Duration(d).String() }

// MarshalJSON writes the duration as a string.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// UnmarshalJSON reads a string with units; a bare number is refused, since nobody knows its unit.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("duration %s: want a string with a unit, like \"250ms\" or \"1m30s\"", b)
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("duration %q: want a number with a unit, like \"250ms\" or \"1m30s\"", s)
	}
	*d = Duration(v)
	return nil
}

// Severity orders conditions and events.
type Severity string

// The severities.
const (
	Info     Severity = "Info"
	Warning  Severity = "Warning"
	Critical Severity = "Critical"
)

// Condition is something that holds about a resource now, for people and machines.
type Condition struct {
	// Code is stable and in CamelCase, like NoHealthyStandby.
	Code     string   `json:"code"`
	Severity Severity `json:"severity"`
	// Message says what holds and what to do.
	Message string `json:"message"`
	// Impacts says what suffers, like "automatic failover is suspended".
	Impacts string    `json:"impacts,omitempty"`
	Since   time.Time `json:"since"`
}
