package steward

import (
	"github.com/understudy-ha/understudy/api"
)

// Event is something that happened to the agent.
type Event interface{ event() }

// The events.
type (
	// Wake comes when the time that Step gave is over, or earlier.
	Wake struct{}

	// Opened: a connection to a controller stands; it wants a hello. Sessions are numbered by the shell, never twice.
	Opened struct{ Session uint64 }

	// Welcomed: the controller answered the hello. Proven tells that it showed the CA's signature of the cluster's id.
	Welcomed struct {
		Session uint64
		Cluster string
		Proven  bool
	}

	// Closed: the connection is gone.
	Closed struct{ Session uint64 }

	// Echoed: a leader says that it still led after the agent had sent the tick.
	Echoed struct {
		Session uint64
		Life    string
		Seq     uint64
		Cluster string
		Epoch   int64
		Renews  []string
	}

	// Pushed: a leader wants sections changed. Malformed tells that the sections could not be read, and why.
	Pushed struct {
		Session  uint64
		ID       uint64
		Token    api.Token
		Life     string
		Tick     uint64
		Sections []api.Section
		// Secrets by name: those that the sections refer to.
		Secrets   map[string]map[string]string
		Malformed string
	}

	// Stored answers Store: the state is on disk, synced, or Err says why not.
	Stored struct {
		N   uint64
		Err error
	}

	// Applied answers Apply.
	Applied struct {
		N             uint64
		Engine, Owner string
		Err           error
	}

	// Dropped answers Drop.
	Dropped struct {
		Owner string
		Err   error
	}

	// Repaired: an engine found the kernel changed by others and put Count things right, or could not (Err).
	Repaired struct {
		Engine, Owner string
		Count         int
		Err           error
	}

	// Said: an engine that runs as a process of its own tells how it is.
	Said struct {
		Engine, Owner string
		State         api.EngineState
	}

	// Asked: another node asks to promise that this one takes no grant for ttl + margin. ID goes back in Answer.
	Asked struct {
		ID    uint64
		Owner string
		Node  string
	}

	// Answered: a candidate answered Ask, or could not be reached (Promised is false).
	Answered struct {
		Round     uint64
		Owner     string
		Candidate string
		Promised  bool
	}
)

func (Wake) event()     {}
func (Opened) event()   {}
func (Welcomed) event() {}
func (Closed) event()   {}
func (Echoed) event()   {}
func (Pushed) event()   {}
func (Stored) event()   {}
func (Applied) event()  {}
func (Dropped) event()  {}
func (Repaired) event() {}
func (Said) event()     {}
func (Asked) event()    {}
func (Answered) event() {}
