package mutant

// The defects of machines that a world of machines must find, each with the rule it breaks.
const (
	RenewsOld     Name = "machine-renews-old"     // a leader gives the side that was left its word
	WordFromDisk  Name = "machine-word-from-disk" // an agent takes what it did in an earlier life for a leader's word
	EpochKept     Name = "machine-epoch-kept"     // a move writes under the generation of the side that it leaves
	Unpinned      Name = "machine-unpinned"       // a keeper is not told which points are in use
	PointNotThere Name = "machine-point-on-way"   // a shutdown's last point is not waited for until it is stored
	WrongBase     Name = "machine-wrong-base"     // a stream is said to stand on what it does not descend from
)

// Machines lists them.
func Machines() []Name {
	return []Name{RenewsOld, WordFromDisk, EpochKept, Unpinned, PointNotThere, WrongBase}
}
