package api

import (
	"net/url"
	"strings"
)

// Where things live in the store. Names and tenants need no escaping; their form is checked before they get here.

// ObjectPrefix is above every resource of a kind.
func ObjectPrefix(k Kind) string { return "obj/" + string(k) + "/" }

// ObjectKey holds a resource's header and spec; of jobs and events everything.
func ObjectKey(r Ref) string { return "obj/" + r.String() }

// StatusKey holds a resource's status, which only the leader writes.
func StatusKey(r Ref) string { return "status/" + r.String() }

// AssignKey holds a group's Assignment.
func AssignKey(r Ref) string { return "assign/" + r.String() }

// RequestKey holds what an operator asked of a group.
func RequestKey(r Ref) string { return "request/" + r.String() }

// ClaimKey holds the Ref, as text, of who owns a movable thing.
func ClaimKey(id string) string {
	return "claim/" + strings.ReplaceAll(url.QueryEscape(id), "*", "%2A")
}

// ParseRef reads "Kind/tenant/name".
func ParseRef(s string) (Ref, bool) {
	p := strings.Split(s, "/")
	if len(p) != 3 || p[0] == "" || p[1] == "" || p[2] == "" {
		return Ref{}, false
	}
	return Ref{Kind(p[0]), p[1], p[2]}, true
}
