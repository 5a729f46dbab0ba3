package api

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"sort"
	"strings"
	"time"
)

const nameWant = `1 to 63 of a-z, 0-9, "-" and ".", with a letter or digit first and last`

// ValidName tells whether s may be the name of a resource, tenant or member.
func ValidName(s string) bool {
	if len(s) < 1 || len(s) > 63 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		alnum := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !alnum && (c != '-' && c != '.' || i == 0 || i == len(s)-1) {
			return false
		}
	}
	return true
}

func (e *Invalid) name(field, v string) {
	if !ValidName(v) {
		e.Add(field, quote(v), nameWant)
	}
}

// oneOf refuses what is not in the list.
func oneOf[T ~string](e *Invalid, field string, v T, want ...T) {
	if !slices.Contains(want, v) {
		e.Add(field, quote(string(v)), "one of "+list(want))
	}
}

func list[T ~string](vs []T) string {
	s := make([]string, len(vs))
	for i, v := range vs {
		s[i] = string(v)
	}
	return strings.Join(s, ", ")
}

func (e *Invalid) span(field string, v Duration, from, to time.Duration) {
	if v.D() < from || v.D() > to {
		e.Add(field, v.String(), short(from)+" to "+short(to))
	}
}

// short is a duration without its zero minutes and seconds: "1h", not "1h0m0s".
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func (e *Invalid) count(field string, v, from, to int) {
	if v < from || v > to {
		e.Add(field, fmt.Sprint(v), fmt.Sprintf("%d to %d", from, to))
	}
}

func (e *Invalid) ip(field, v string) {
	if a, err := netip.ParseAddr(v); err != nil || a.Zone() != "" {
		e.Add(field, quote(v), "an IP address")
	}
}

func (e *Invalid) cidr(field, v string) {
	p, err := netip.ParsePrefix(v)
	switch {
	case err != nil:
		e.Add(field, quote(v), "a prefix in CIDR form, like 10.2.0.0/16")
	case p.Masked() != p:
		e.Add(field, quote(v), p.Masked().String()+", with its host bits zero")
	}
}

func (e *Invalid) url(field, v string, schemes ...string) {
	u, err := url.Parse(v)
	if err != nil || u.Host == "" || u.User != nil || !slices.Contains(schemes, u.Scheme) {
		e.Add(field, quote(v), "an absolute "+strings.Join(schemes, " or ")+" URL without a user")
	}
}

func (e *Invalid) header(h *Header, k Kind) {
	if h.APIVersion != Version {
		e.Add("apiVersion", quote(h.APIVersion), quote(Version))
	}
	if h.Kind != k {
		e.Add("kind", quote(string(h.Kind)), quote(string(k)))
	}
	e.name("metadata.name", h.Metadata.Name)
	e.name("metadata.tenant", h.Metadata.Tenant)
	if n := len(h.Metadata.Labels); n > 64 {
		e.Add("metadata.labels", fmt.Sprintf("%d labels", n), "at most 64")
	}
	for _, key := range sortedKeys(h.Metadata.Labels) {
		if v := h.Metadata.Labels[key]; key == "" || len(key) > 63 || len(v) > 63 {
			e.Add("metadata.labels."+key, quote(v), "a key of 1 to 63 bytes and a value of at most 63")
		}
	}
}

// Validate implements Object.
func (n *Node) Validate() error {
	var e Invalid
	e.header(&n.Header, KindNode)
	e.short("spec.zone", n.Spec.Zone)
	e.short("spec.host", n.Spec.Host)
	return e.Err()
}

func (e *Invalid) short(field, v string) {
	if len(v) > 253 {
		e.Add(field, quote(v), "at most 253 bytes")
	}
}

// Validate implements Object. Jobs are written by leaders; people meet this in tests only.
func (j *Job) Validate() error {
	var e Invalid
	e.header(&j.Header, KindJob)
	oneOf(&e, "spec.kind", j.Spec.Kind, jobKinds()...)
	if j.Spec.Subject.Kind != KindRecoveryPlan {
		e.name("spec.to", j.Spec.To)
	}
	e.name("spec.subject.name", j.Spec.Subject.Name)
	return e.Err()
}

func jobKinds() []JobKind {
	kinds := []JobKind{JobEstablish, JobFailover, JobPlanned, JobFailback, JobRepair}
	for _, op := range Operations() {
		kinds = append(kinds, JobKind(op))
	}
	return kinds
}

// Validate implements Object.
func (ev *Event) Validate() error {
	var e Invalid
	e.header(&ev.Header, KindEvent)
	oneOf(&e, "severity", ev.Severity, Info, Warning, Critical)
	if ev.Code == "" {
		e.Add("code", "", "a code in CamelCase")
	}
	return e.Err()
}

// MaxSecret is the most that the keys and values of a Secret may add up to, in bytes.
const MaxSecret = 128 << 10

// Validate implements Object. Its errors name keys, never values.
func (s *Secret) Validate() error {
	var e Invalid
	e.header(&s.Header, KindSecret)
	if len(s.Data) == 0 || len(s.Data) > 64 {
		e.Add("data", fmt.Sprintf("%d keys", len(s.Data)), "1 to 64 keys")
	}
	size := 0
	for _, k := range sortedKeys(s.Data) {
		if k == "" || len(k) > 63 {
			e.Add("data", quote(k), "keys of 1 to 63 bytes")
		}
		size += len(k) + len(s.Data[k])
	}
	if size > MaxSecret {
		e.Add("data", fmt.Sprintf("%d bytes", size), fmt.Sprintf("at most %d", MaxSecret))
	}
	return e.Err()
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
