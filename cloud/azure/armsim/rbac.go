package armsim

import (
	"maps"
	"net/http"
	"slices"
	"strings"
)

// may tells whether some role gives the action at the scope.
func (s *Server) may(action, scope string) bool {
	if len(s.top.Roles) == 0 {
		return true
	}
	for _, r := range s.top.Roles {
		if r.covers(scope) && matchAny(r.Actions, action) && !matchAny(r.NotActions, action) {
			return true
		}
	}
	return false
}

func (r Role) covers(scope string) bool {
	at := key(r.Scope)
	return at == "" || key(scope) == at || strings.HasPrefix(key(scope), at+"/")
}

func (s *Server) allowed(a *answer, action, scope string) bool {
	if s.may(action, scope) {
		return true
	}
	a.refuse(http.StatusForbidden, "AuthorizationFailed", "The client does not have authorization to perform action '"+action+"' over scope '"+scope+"' or the scope is invalid.")
	return false
}

// joinsAllowed checks the permissions that references need.
func (s *Server) joinsAllowed(a *answer, doc map[string]any) bool {
	need := map[string]string{}
	for _, c := range list(props(doc), "ipConfigurations") {
		need[refOf(props(c), "subnet")] = "Microsoft.Network/virtualNetworks/subnets/join/action"
		need[refOf(props(c), "publicIPAddress")] = "Microsoft.Network/publicIPAddresses/join/action"
	}
	need[refOf(props(doc), "networkSecurityGroup")] = "Microsoft.Network/networkSecurityGroups/join/action"
	delete(need, "")
	for _, scope := range slices.Sorted(maps.Keys(need)) {
		action := need[scope]
		if !s.may(action, scope) {
			a.refuse(http.StatusForbidden, "LinkedAuthorizationFailed", "The client has permission to perform the write, but does not have permission to perform action '"+action+"' on the linked scope '"+scope+"' or the linked scope is invalid.")
			return false
		}
	}
	return true
}

func (s *Server) permissions(a *answer, scope string) {
	value := []any{}
	for _, r := range s.top.Roles {
		if r.covers(scope) {
			value = append(value, map[string]any{"actions": r.Actions, "notActions": r.NotActions})
		}
	}
	if len(s.top.Roles) == 0 {
		value = append(value, map[string]any{"actions": []string{"*"}, "notActions": []string{}})
	}
	a.body = map[string]any{"value": value}
}

// SetRoles replaces the caller's roles. None at all means everything is allowed.
func (s *Server) SetRoles(roles []Role) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.top.Roles = append([]Role(nil), roles...)
}

func matchAny(patterns []string, action string) bool {
	for _, p := range patterns {
		if match(strings.ToLower(p), strings.ToLower(action)) {
			return true
		}
	}
	return false
}

// match knows "*" as any run of characters.
func match(pattern, s string) bool {
	head, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == s
	}
	if !strings.HasPrefix(s, head) {
		return false
	}
	for i := len(head); i <= len(s); i++ {
		if match(rest, s[i:]) {
			return true
		}
	}
	return false
}
