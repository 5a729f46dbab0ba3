package sim

import (
	"strconv"

	"github.com/understudy-ha/understudy/controller"
)

// traceEvent writes what a core is told. Common events are short.
func (w *world) traceEvent(h *host, ev controller.Event) {
	switch e := ev.(type) {
	case controller.Wake:
		w.note(h.m.name, "wake")
	case controller.Probed:
		w.note(h.m.name, "probed", e.Group.Name, e.Member, strconv.Itoa(int(e.Outcome)))
	case controller.Heard:
		w.note(h.m.name, "heard", e.Observer, strconv.Itoa(len(e.Opinions)))
	case controller.Changed:
		key := ""
		if len(e.Batch.Changes) > 0 {
			key = e.Batch.Changes[0].Key
		}
		w.note(h.m.name, "changed", strconv.Itoa(len(e.Batch.Changes)), key, strconv.FormatBool(e.Batch.Complete))
	case controller.TxnDone:
		w.note(h.m.name, "txn-done", strconv.FormatUint(e.ID, 10), errText(e.Err))
	case controller.ReadDone:
		w.note(h.m.name, "read-done", strconv.FormatUint(e.ID, 10), strconv.Itoa(len(e.Entries)), errText(e.Err))
	case controller.AgentTick:
		w.note(h.m.name, "tick", e.Node, strconv.FormatUint(e.Seq, 10))
	case controller.AgentHello:
		w.note(h.m.name, "hello", e.Node, strconv.FormatUint(e.Session, 10), e.Life)
	case controller.AgentReport:
		w.note(h.m.name, "report", e.Node, strconv.Itoa(len(e.Sections)), strconv.Itoa(len(e.Holds)))
	case controller.AgentApplied:
		w.note(h.m.name, "applied", e.Node, e.Code, e.Detail)
	case controller.AgentGone:
		w.note(h.m.name, "gone", e.Node, strconv.FormatUint(e.Session, 10))
	case controller.StepDone:
		w.note(h.m.name, "step-done", e.Job, e.Step, errText(e.Err))
	case controller.Observed:
		w.note(h.m.name, "observed", e.Group.Name, e.State.On(), errText(e.Err))
	case controller.Checked:
		w.note(h.m.name, "checked", e.Group.Name)
	case controller.Stop:
		w.note(h.m.name, "stop")
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// traceTxn writes what a core asks of the store.
func (w *world) traceTxn(h *host, e controller.Transact) {
	key := ""
	if len(e.Ops) > 0 {
		key = e.Ops[0].Key
	}
	w.note(h.m.name, "txn", strconv.FormatUint(e.ID, 10), key)
}
