package api

// KindInfo is what tools need to know of a kind.
type KindInfo struct {
	Kind Kind
	// Plural is the kind's name in URLs and on the command line.
	Plural string
	// Aliases are other names that the command line understands.
	Aliases []string
	// ReadOnly kinds are written by controllers alone.
	ReadOnly bool
	// New makes an empty resource.
	New func() Object
}

// Kinds lists every kind.
func Kinds() []KindInfo {
	return []KindInfo{
		{Kind: KindNode, Plural: "nodes", Aliases: []string{"node"}, New: func() Object { return new(Node) }},
		{Kind: KindProvider, Plural: "providers", Aliases: []string{"provider"}, New: func() Object { return new(Provider) }},
		{Kind: KindApplianceGroup, Plural: "appliancegroups", Aliases: []string{"appliancegroup", "groups", "group", "ag"},
			New: func() Object { return new(ApplianceGroup) }},
		{Kind: KindJob, Plural: "jobs", Aliases: []string{"job"}, ReadOnly: true, New: func() Object { return new(Job) }},
		{Kind: KindEvent, Plural: "events", Aliases: []string{"event"}, ReadOnly: true, New: func() Object { return new(Event) }},
		{Kind: KindSecret, Plural: "secrets", Aliases: []string{"secret"}, New: func() Object { return new(Secret) }},
		{Kind: KindSite, Plural: "sites", Aliases: []string{"site"}, New: func() Object { return new(Site) }},
		{Kind: KindFabric, Plural: "fabrics", Aliases: []string{"fabric"}, New: func() Object { return new(Fabric) }},
		{Kind: KindVault, Plural: "vaults", Aliases: []string{"vault"}, New: func() Object { return new(Vault) }},
		{Kind: KindReplicationPolicy, Plural: "replicationpolicies", Aliases: []string{"replicationpolicy", "policies", "policy"},
			New: func() Object { return new(ReplicationPolicy) }},
		{Kind: KindProcessServer, Plural: "processservers", Aliases: []string{"processserver", "ps"}, New: func() Object { return new(ProcessServer) }},
		{Kind: KindProtectedMachine, Plural: "protectedmachines", Aliases: []string{"protectedmachine", "machines", "machine", "pm"},
			New: func() Object { return new(ProtectedMachine) }},
		{Kind: KindRecoveryPlan, Plural: "recoveryplans", Aliases: []string{"recoveryplan", "plans", "plan", "rp"}, New: func() Object { return new(RecoveryPlan) }},
	}
}

// LookupKind finds a kind by its name, plural or alias.
func LookupKind(name string) (KindInfo, bool) {
	for _, k := range Kinds() {
		if string(k.Kind) == name || k.Plural == name {
			return k, true
		}
		for _, a := range k.Aliases {
			if a == name {
				return k, true
			}
		}
	}
	return KindInfo{}, false
}
