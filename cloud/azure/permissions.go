package azure

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// The actions of the role that a mover needs: the original's "NVA Operator".
const (
	actionNICRead     = kindNIC + "/read"
	actionNICWrite    = kindNIC + "/write"
	actionTableRead   = kindTable + "/read"
	actionTableWrite  = kindTable + "/write"
	actionRouteRead   = kindTable + "/routes/read"
	actionRouteWrite  = kindTable + "/routes/write"
	actionAddressRead = kindAddress + "/read"
	actionAddressJoin = kindAddress + "/join/action"
	actionSubnetJoin  = kindSubnet + "/join/action"
	// actionGroupJoin is needed for NICs with a network security group, where ARM checks references that did not change.
	actionGroupJoin = "Microsoft.Network/networkSecurityGroups/join/action"
)

// Actions lists the permissions that moving needs, for a custom role.
func Actions() []string {
	return []string{
		actionNICRead, actionNICWrite, actionTableRead, actionTableWrite, actionRouteRead, actionRouteWrite,
		actionAddressRead, actionAddressJoin, actionSubnetJoin,
	}
}

// grant is one role's say at a scope.
type grant struct {
	Actions    []string `json:"actions"`
	NotActions []string `json:"notActions"`
}

// permits tells whether some role gives the action. What one role leaves out by notActions another may give. Deny
// assignments are not in the answer and therefore not known.
func permits(grants []grant, action string) bool {
	for _, g := range grants {
		if matchesAny(g.Actions, action) && !matchesAny(g.NotActions, action) {
			return true
		}
	}
	return false
}

func matchesAny(patterns []string, action string) bool {
	for _, p := range patterns {
		if matches(strings.ToLower(p), strings.ToLower(action)) {
			return true
		}
	}
	return false
}

// matches knows "*" as any run of characters, "/" included, as Azure does.
func matches(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == s
	}
	first, last := parts[0], parts[len(parts)-1]
	if len(s) < len(first)+len(last) || !strings.HasPrefix(s, first) || !strings.HasSuffix(s, last) {
		return false
	}
	s = s[len(first) : len(s)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s = s[i+len(part):]
	}
	return true
}

// parseGrants reads one page of an answer of the permissions API.
func parseGrants(body []byte) (grants []grant, next string, err error) {
	var page struct {
		Value    []grant `json:"value"`
		NextLink string  `json:"nextLink"`
	}
	if err := json.Unmarshal(body, &page); err != nil {
		return nil, "", fmt.Errorf("permissions: %w", err)
	}
	return page.Value, page.NextLink, nil
}

// maxPages bounds what one look at permissions reads.
const maxPages = 20

// grantsAt asks what the caller may do at a scope.
func (d *Driver) grantsAt(ctx context.Context, id string) ([]grant, error) {
	rid, err := parseID(id)
	if err != nil {
		return nil, err
	}
	op := "read permissions at " + id
	address := d.client.address(rid, "/providers/Microsoft.Authorization/permissions", authorizationVersion)
	w := &waiter{poll: d.poll}
	var all []grant
	for page := 0; address != "" && page < maxPages; {
		a, err := d.client.do(ctx, op, http.MethodGet, address, nil, "")
		if err == nil && a.status != http.StatusOK {
			err = d.client.refusal(op, a.status, a.body, retryAfter(a.header, time.Now()))
		}
		if err != nil {
			if err = w.wait(ctx, err); err != nil {
				return nil, err
			}
			continue
		}
		grants, next, err := parseGrants(a.body)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", op, err)
		}
		all = append(all, grants...)
		address = trusted(next, d.client.endpoint)
		page++
	}
	return all, nil
}
