package mutant

// The defects of the vault, which its own simulation must find, each with the rule it breaks.
const (
	BlindSwap       Name = "vault-blind-swap"        // a head is swapped whatever it has become
	NoFence         Name = "vault-no-fence"          // a writer goes on although the head names another one
	CollectPinned   Name = "vault-collect-pinned"    // the collector does not look at pins
	CollectInFlight Name = "vault-collect-in-flight" // the collector does not make writers put again what it may have deleted
	MergeAcross     Name = "vault-merge-across"      // compaction drops what retained points need
	UnknownIsDone   Name = "vault-unknown-is-done"   // an unknown outcome is taken for success
	PointInGap      Name = "vault-point-in-gap"      // points inside gaps are offered
)

// Vault lists the vault's defects.
func Vault() []Name {
	return []Name{BlindSwap, NoFence, CollectPinned, CollectInFlight, MergeAcross, UnknownIsDone, PointInGap}
}
