package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/understudy-ha/understudy/api"
)

// resources describe both sites and the machine.
func (l *machineLab) resources() ([]any, error) {
	head := func(kind, name string) map[string]any {
		return map[string]any{"apiVersion": api.Version, "kind": kind, "metadata": map[string]any{"name": name}}
	}
	with := func(kind, name string, spec any) any {
		m := head(kind, name)
		m["spec"] = spec
		return m
	}
	out := []any{
		with("Site", "p", map[string]any{"controllers": []string{"c1"}, "nodes": []string{"p1", "psp"}}),
		with("Site", "r", map[string]any{"controllers": []string{"c2"}, "nodes": []string{"r1", "psr"}}),
		with("Site", "w", map[string]any{"controllers": []string{"c3"}}),
		with("Fabric", "fp", map[string]any{"site": "p", "nodes": []string{"p1"}}),
		with("Fabric", "fr", map[string]any{"site": "r", "nodes": []string{"r1"}}),
		with("ReplicationPolicy", "gold", map[string]any{"crashConsistentEvery": "1s", "appConsistentEvery": l.guest.freeze}),
		with("ProcessServer", "psp", map[string]any{"node": "psp", "site": "p", "address": machineAddress("psp") + ":" + shipPort}),
		with("ProcessServer", "psr", map[string]any{"node": "psr", "site": "r", "address": machineAddress("psr") + ":" + shipPort}),
	}
	for _, v := range []struct{ name, site, keeper string }{{"vr", "r", "r1"}, {"vp", "p", "p1"}} {
		id, err := age.GenerateX25519Identity()
		if err != nil {
			return nil, err
		}
		l.keys[v.name] = id
		secret := head("Secret", v.name+"-key")
		secret["data"] = map[string]string{"identity": id.String()}
		out = append(out, secret, with("Vault", v.name, map[string]any{"site": v.site, "url": "file://" + l.vaultDir(v.site), "recipient": id.Recipient().String(),
			"keyRef": v.name + "-key", "keeper": v.keeper}))
	}
	nic := func(mode, host, port string) []any {
		return []any{map[string]any{"mode": mode, "forwards": []any{map[string]any{"listen": serviceAddress(host, port), "port": l.guest.port}}}}
	}
	check := func(host, port string) any {
		c := map[string]any{"timeout": bootLimit.String(), "url": "http://" + serviceAddress(host, port) + "/state"}
		if l.guest.debian {
			delete(c, "url")
			c["address"] = serviceAddress(host, port)
		}
		return c
	}
	return append(out, with("ProtectedMachine", machine, map[string]any{
		"source":        map[string]any{"site": "p", "fabric": "fp", "node": "p1"},
		"disks":         []any{map[string]any{"name": "root", "path": l.disk}},
		"vm":            map[string]any{"memoryMiB": l.guest.memory, "guestAgent": l.guest.debian, "nics": nic("user", "p1", servicePort)},
		"policy":        "gold",
		"processServer": "psp", "vault": "vr", "check": check("p1", servicePort), "stopTimeout": "20s",
		"recovery": map[string]any{"site": "r", "fabric": "fr", "node": "r1", "nics": nic("user", "r1", servicePort), "testNetwork": nic("isolated", "r1", drillPort),
			"check": check("r1", servicePort), "testCheck": check("r1", drillPort)},
		"failback": map[string]any{"vault": "vp", "processServer": "psr"},
	})), nil
}

func (l *machineLab) vaultDir(site string) string { return filepath.Join(l.dir, site, "vault") }

// apply writes resources.
func (l *machineLab) apply(ctx context.Context, resources ...any) error {
	var file bytes.Buffer
	for _, r := range resources {
		b, err := json.Marshal(r)
		if err != nil {
			return err
		}
		fmt.Fprintf(&file, "---\n%s\n", b)
	}
	path := filepath.Join(l.dir, "machines.yaml")
	if err := writeFile(path, file.String()); err != nil {
		return err
	}
	_, err := l.ctl(ctx, "apply", "-f", path)
	return err
}

func (l *machineLab) machine() (m api.ProtectedMachine, err error) {
	err = l.desk.get("/v1/protectedmachines/"+machine, &m)
	return m, err
}

// waitMachine waits until the controllers say so of the machine.
func (l *machineLab) waitMachine(ctx context.Context, what string, limit time.Duration, ok func(api.MachineStatus) bool) (api.MachineStatus, error) {
	var m api.ProtectedMachine
	var err error
	if waitFor(ctx, limit, func() bool {
		m, err = l.machine()
		return err == nil && ok(m.Status)
	}) {
		return m.Status, nil
	}
	b, _ := json.Marshal(m.Status)
	return m.Status, fmt.Errorf("not after %s: %s; it is %s (%w)", limit, what, b, err)
}

// allows tells whether an operation may be asked for.
func allows(s api.MachineStatus, op api.OperationKind) bool {
	return slices.Contains(s.AllowedOperations, op)
}

// operate asks for an operation and gives the job that carries it out, once there is one.
func (l *machineLab) operate(ctx context.Context, op api.Operation) (job string, err error) {
	if _, err := l.waitMachine(ctx, string(op.Operation)+" is allowed", time.Minute, func(s api.MachineStatus) bool { return allows(s, op.Operation) }); err != nil {
		return "", err
	}
	return l.ask(ctx, "protectedmachines/"+machine, op)
}

// ask asks a machine or a plan for an operation and gives the job that carries it out, once there is one.
func (l *machineLab) ask(ctx context.Context, subject string, op api.Operation) (job string, err error) {
	body, err := json.Marshal(op)
	if err != nil {
		return "", err
	}
	var q api.Request
	if err := l.desk.call(deskCall{Method: "POST", Path: "/v1/" + subject + "/operations", Body: body}, &q); err != nil {
		return "", err
	}
	if !waitFor(ctx, 20*time.Second, func() bool {
		var list struct{ Items []api.Job }
		if l.desk.get("/v1/jobs", &list) != nil {
			return false
		}
		for _, j := range list.Items {
			if j.Spec.RequestID == q.ID {
				job = j.Metadata.Name
			}
		}
		return job != ""
	}) {
		return "", fmt.Errorf("%s of %s: no job after 20s", op.Operation, subject)
	}
	return job, nil
}

// waitJob waits for a job's end, which must be a success.
func (l *machineLab) waitJob(ctx context.Context, name string, limit time.Duration) (j api.Job, err error) {
	if !waitFor(ctx, limit, func() bool {
		j = api.Job{}
		err = l.desk.get("/v1/jobs/"+name, &j)
		return err == nil && j.Status.Phase.Ended()
	}) {
		return j, fmt.Errorf("job %s has not ended after %s: %s (%w)", name, limit, stepsOf(j), err)
	}
	if j.Status.Phase != api.Succeeded {
		return j, fmt.Errorf("job %s: %s: %s; %s", name, j.Status.Phase, j.Status.Message, stepsOf(j))
	}
	for _, s := range j.Status.Steps {
		l.say("    %-24s %6.1f s  %s", s.ID, s.DoneAt.Sub(s.IntendedAt).Seconds(), s.Outcome+s.Error)
	}
	return j, nil
}

// do asks for an operation and waits for its success.
func (l *machineLab) do(ctx context.Context, op api.Operation, limit time.Duration) (api.Job, error) {
	name, err := l.operate(ctx, op)
	if err != nil {
		return api.Job{}, err
	}
	return l.waitJob(ctx, name, limit)
}

func stepsOf(j api.Job) string {
	var out []string
	for _, s := range j.Status.Steps {
		out = append(out, fmt.Sprintf("%s=%s %s%s", s.ID, s.State, s.Outcome, s.Error))
	}
	return strings.Join(out, ", ")
}
