package steward

import "github.com/understudy-ha/understudy/api"

// runsApart tells whether the section's engine is a process of its own, which outlives the agent.
func runsApart(s api.Section) bool {
	return s.Protect != nil || s.ProcessServer != nil || s.Site != nil || s.Keeper != nil
}

// vaults lists the vaults that a section reaches.
func vaults(s api.Section) []api.VaultAccess {
	var out []api.VaultAccess
	switch {
	case s.Protect != nil && s.Protect.Yield != nil:
		out = append(out, s.Protect.Yield.Home, s.Protect.Yield.Into)
	case s.ProcessServer != nil:
		for _, a := range s.ProcessServer.Streams {
			out = append(out, a.Vault)
		}
	case s.Site != nil:
		out = append(out, s.Site.Vault)
		if s.Site.Yield != nil {
			out = append(out, s.Site.Yield.Home, s.Site.Yield.Into)
		}
		if s.Site.Ship != nil {
			out = append(out, s.Site.Ship.Into)
		}
	case s.Keeper != nil:
		out = append(out, s.Keeper.Vault)
	}
	return out
}

// secretsOf picks what a section refers to out of what came with its push.
func secretsOf(s api.Section, all map[string]map[string]string) map[string]map[string]string {
	var out map[string]map[string]string
	for _, v := range vaults(s) {
		for _, name := range []string{v.CredentialsRef, v.KeyRef} {
			if data, ok := all[name]; ok && name != "" {
				if out == nil {
					out = map[string]map[string]string{}
				}
				out[name] = data
			}
		}
	}
	return out
}
