package qemu

import (
	"fmt"
	"strings"

	"github.com/understudy-ha/understudy/hypervisor"
)

// blockInfo is what query-block tells of a device.
type blockInfo struct {
	Qdev     string `json:"qdev"`
	IOStatus string `json:"io-status"` // ok, failed or nospace
}

// ask the monitor what the machine is doing.
func ask(l *line) (hypervisor.State, string, error) {
	var run struct {
		Status string `json:"status"`
	}
	if err := l.ask("query-status", nil, &run); err != nil {
		return "", "", err
	}
	var blocks []blockInfo
	if run.Status == "io-error" {
		if err := l.ask("query-block", nil, &blocks); err != nil {
			return "", "", err
		}
	}
	state, reason := interpret(run.Status, blocks)
	return state, reason, nil
}

// interpret QEMU's run state.
func interpret(run string, blocks []blockInfo) (hypervisor.State, string) {
	switch run {
	case "running":
		return hypervisor.Running, ""
	case "paused", "suspended", "prelaunch", "inmigrate", "postmigrate", "debug", "colo", "save-vm", "restore-vm", "finish-migrate":
		return hypervisor.Paused, ""
	case "io-error":
		return hypervisor.Stalled, stalledBy(blocks)
	}
	return hypervisor.Crashed, run // guest-panicked, internal-error, shutdown, watchdog
}

func stalledBy(blocks []blockInfo) string {
	var out []string
	for _, b := range blocks {
		id := strings.TrimSuffix(strings.TrimPrefix(b.Qdev, "/machine/peripheral/"), "/virtio-backend")
		switch b.IOStatus {
		case "nospace":
			out = append(out, fmt.Sprintf("disk %s is full", id))
		case "failed":
			out = append(out, fmt.Sprintf("disk %s fails", id))
		}
	}
	if out == nil {
		return "a disk could not carry out a request"
	}
	return strings.Join(out, ", ")
}
