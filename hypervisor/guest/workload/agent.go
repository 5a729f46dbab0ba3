package workload

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
)

// machine is what the agent may do to the guest.
type machine interface {
	freeze() (int, error)
	thaw() (int, error)
	frozen() bool
	shutdown()
}

// serveAgent answers the commands of QEMU's guest agent that Understudy uses, until the port ends.
func serveAgent(port io.ReadWriter, m machine) error {
	in := bufio.NewReader(port)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return err
		}
		var q struct {
			Execute   string `json:"execute"`
			Arguments struct {
				ID json.Number `json:"id"`
			} `json:"arguments"`
		}
		var reply any
		if err := json.Unmarshal(line, &q); err != nil {
			reply = refusal("JSONParsing", err.Error())
		} else if q.Execute == "guest-shutdown" {
			m.shutdown()
			continue // it gives no answer
		} else {
			reply = answer(q.Execute, q.Arguments.ID, m)
		}
		b, err := json.Marshal(reply)
		if err != nil {
			return err
		}
		if _, err := port.Write(append(b, '\n')); err != nil {
			return err
		}
	}
}

func answer(command string, id json.Number, m machine) any {
	count := func(n int, err error) any {
		if err != nil {
			return refusal("GenericError", err.Error())
		}
		return map[string]any{"return": n}
	}
	switch command {
	case "guest-sync":
		return map[string]any{"return": id}
	case "guest-ping":
		return map[string]any{"return": struct{}{}}
	case "guest-fsfreeze-freeze":
		return count(m.freeze())
	case "guest-fsfreeze-thaw":
		return count(m.thaw())
	case "guest-fsfreeze-status":
		return map[string]any{"return": map[bool]string{true: "frozen", false: "thawed"}[m.frozen()]}
	}
	return refusal("CommandNotFound", fmt.Sprintf("The command %s has not been found", command))
}

func refusal(class, desc string) any {
	return map[string]any{"error": map[string]string{"class": class, "desc": desc}}
}
