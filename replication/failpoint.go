package replication

// Failpoint is a place at which a test kills the process, to show what a crash right there leaves behind.
type Failpoint string

// The failpoints of a process server. A crash between the segment and its head is the vault's: wrap its object store.
const (
	BeforeSpoolSync   Failpoint = "before-spool-sync"   // a batch is written, not synced
	AfterSpoolSync    Failpoint = "after-spool-sync"    // it is durable, not answered
	BeforeAppend      Failpoint = "before-append"       // the vault has not been asked yet
	AfterAppendCommit Failpoint = "after-append-commit" // it is committed, not answered, and still in the spool
)
