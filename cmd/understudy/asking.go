package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/client"
)

// asking is how something is asked of a subject, and how its job is followed: what the flags of every such verb say.
type asking struct {
	c                 *console
	cl                *client.Client
	wait, dryRun, yes bool
	timeout           time.Duration
}

func (a *asking) flags(flags *pflag.FlagSet) {
	flags.BoolVar(&a.wait, "wait", false, "wait until the job has ended")
	flags.DurationVar(&a.timeout, "timeout", 10*time.Minute, "with --wait: how long to wait; the job goes on without")
	flags.BoolVar(&a.dryRun, "dry-run", false, "check that it would be accepted and show its plan; change nothing")
	flags.BoolVar(&a.yes, "yes", false, "do not ask")
}

// onTerminal tells whether there is somebody to ask: a program that runs us is not asked.
func (a *asking) onTerminal() bool {
	in, ok := a.c.in.(*os.File)
	return !a.yes && !a.c.json && ok && isTerminal(in) && a.c.errTTY
}

// confirm asks on a terminal.
func (a *asking) confirm(question string) error {
	fmt.Fprintf(a.c.err, "%s [y/N] ", question)
	answer, err := bufio.NewReader(a.c.in).ReadString('\n')
	if w := strings.ToLower(strings.TrimSpace(answer)); w == "y" || w == "yes" {
		return nil
	}
	return errors.Join(errors.New("nothing was done"), err)
}

var errStillRuns = errors.New("the job has not ended; it goes on")

// await asks, waits until a leader has taken the request, and follows its job to the end. A leader's refusal begins with
// refused.
func (a *asking) await(ctx context.Context, ref api.Ref, refused string, ask func(context.Context) (api.Request, error)) (*api.Job, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, a.timeout, errStillRuns)
	defer cancel()
	old, err := refusals(ctx, a.cl, ref)
	if err != nil {
		return nil, err
	}
	q, err := ask(ctx)
	if err != nil {
		return nil, err
	}
	j, err := a.taken(ctx, ref, q.ID, refused, old)
	if err == nil {
		if j.Spec.Kind == api.JobPlanned {
			a.c.say("Job %s moves %s%s.", j.Metadata.Name, ref.Name, toWords(j.Spec.To))
		} else {
			a.c.say("Job %s: %s of %s.", j.Metadata.Name, j.Spec.Kind, subjectWord(ref))
		}
		j, err = a.c.followJob(ctx, a.cl, j.Metadata.Name)
	}
	if err != nil && errors.Is(context.Cause(ctx), errStillRuns) {
		return nil, fmt.Errorf("after %v: %w; see understudy describe %s", a.timeout, errStillRuns, strings.Replace(subjectWord(ref), "/", " ", 1))
	}
	return j, err
}

func toWords(to string) string {
	if to == "" {
		return ""
	}
	return " to " + to
}

// awaitEvery is how often a subject is looked at until a leader has taken the request.
const awaitEvery = 100 * time.Millisecond

// taken waits for the job that answers the request.
func (a *asking) taken(ctx context.Context, ref api.Ref, id, refused string, old map[string]string) (*api.Job, error) {
	for looks := 1; ; looks++ {
		j, err := a.answering(ctx, ref, id, looks%5 == 0)
		if err != nil || j != nil {
			return j, err
		}
		if looks%5 == 0 {
			now, err := refusals(ctx, a.cl, ref)
			if err != nil {
				return nil, err
			}
			for name, why := range now {
				if _, known := old[name]; !known {
					return nil, api.Errorf(api.CodeConflict, "%s: %s", refused, why)
				}
			}
		}
		if looks == 50 {
			a.c.say("No leader has taken the request yet; understudy status shows who leads.")
		}
		if err := sleep(ctx, awaitEvery); err != nil {
			return nil, err
		}
	}
}

// answering gives the job that answers a request, or nil: the subject's newest, or with all any other, if yet another came
// after it.
func (a *asking) answering(ctx context.Context, ref api.Ref, id string, all bool) (*api.Job, error) {
	if all {
		jobs, err := a.cl.List(ctx, api.KindJob, ref.Tenant)
		for _, o := range jobs {
			if j := o.(*api.Job); j.Spec.RequestID == id {
				return j, nil
			}
		}
		return nil, err
	}
	o, err := a.cl.Get(ctx, ref.Kind, ref.Tenant, ref.Name)
	if err != nil {
		return nil, err
	}
	name := assignedJob(o)
	if name == "" {
		return nil, nil
	}
	j, err := a.cl.Job(ctx, ref.Tenant, name)
	if err != nil || j.Spec.RequestID != id {
		return nil, err
	}
	return j, nil
}

// assignedJob names the newest job of a subject.
func assignedJob(o api.Object) string {
	var a *api.Assignment
	switch o := o.(type) {
	case *api.ApplianceGroup:
		a = o.Status.Assignment
	case *api.ProtectedMachine:
		a = o.Status.Assignment
	case *api.RecoveryPlan:
		a = o.Status.Assignment
	}
	if a == nil {
		return ""
	}
	return a.Job
}

// refusals gives the events by which leaders turned requests of a subject down, by name.
func refusals(ctx context.Context, cl *client.Client, ref api.Ref) (map[string]string, error) {
	objs, err := cl.List(ctx, api.KindEvent, ref.Tenant)
	out := map[string]string{}
	for _, o := range objs {
		if e, ok := o.(*api.Event); ok && e.Code == "RequestRefused" && e.Regarding == ref {
			out[e.Metadata.Name] = e.Message
		}
	}
	return out, err
}
