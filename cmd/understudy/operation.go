package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/client"
)

// operation is one run of a verb of machines and plans.
type operation struct {
	asking
	operationVerb
	at, notes      string
	shutdownSource bool
}

func (o *operation) run(ctx context.Context, s api.Object) error {
	body, err := o.body()
	if err != nil {
		return err
	}
	ref := s.Head().Ref()
	if err := o.checkPoint(ctx, ref, body.Point); err != nil {
		return err
	}
	if o.dryRun {
		if _, err := o.ask(ctx, ref, body, "1"); err != nil {
			return err
		}
		p, err := operationPlan(ctx, o.cl, ref, body)
		if err != nil {
			return err
		}
		return o.c.printDryRun(p)
	}
	if o.costs != "" && o.onTerminal() {
		if err := o.confirm(fmt.Sprintf("%s of %s: %s. Go on?", o.op, ref.Name, o.costs)); err != nil {
			return err
		}
	}
	if o.wait {
		return o.follow(ctx, ref, body)
	}
	q, err := o.ask(ctx, ref, body, "")
	if err != nil {
		return err
	}
	if o.c.json {
		return o.c.printJSON(q)
	}
	o.c.print("Asked the leader for %s of %s.", o.op, subjectWord(ref))
	o.c.say("See what comes of it: understudy describe %s", strings.Replace(subjectWord(ref), "/", " ", 1))
	return nil
}

// body is what the API is sent.
func (o *operation) body() (api.Operation, error) {
	point, err := parsePoint(o.at)
	return api.Operation{Operation: o.op, Point: point, ShutdownSource: o.shutdownSource, Notes: o.notes}, err
}

// ask leaves the request with the controllers.
func (o *operation) ask(ctx context.Context, ref api.Ref, body api.Operation, dryRun string) (q api.Request, err error) {
	err = o.cl.Call(ctx, http.MethodPost, client.Path(ref.Kind, ref.Name)+"/operations", client.Query{"tenant": ref.Tenant, "dryRun": dryRun}, "", body, &q)
	return q, err
}

func (o *operation) follow(ctx context.Context, ref api.Ref, body api.Operation) error {
	j, err := o.await(ctx, ref, fmt.Sprintf("%s of %s is refused", o.op, ref.Name), func(ctx context.Context) (api.Request, error) {
		return o.ask(ctx, ref, body, "")
	})
	if err != nil {
		return err
	}
	if err := o.c.reportJob(j, fmt.Sprintf("%s of %s has succeeded: job %s took %s.", o.op, ref.Name, j.Metadata.Name, took(j))); err != nil {
		return err
	}
	if o.next != "" && !o.c.json {
		o.c.say(o.next, subjectWord(ref))
	}
	return nil
}

// operationPlan asks what an operation would do now.
func operationPlan(ctx context.Context, cl *client.Client, ref api.Ref, body api.Operation) (p api.Plan, err error) {
	q := client.Query{"tenant": ref.Tenant, "operation": string(body.Operation)}
	if body.ShutdownSource {
		q["shutdownSource"] = "1"
	}
	switch k := body.Point; {
	case k == nil:
	case k.Kind == api.PointCustom: // as many steps as for one that is there already
		q["point"] = string(api.PointLatestProcessed)
	default:
		q["point"] = string(k.Kind)
	}
	err = cl.Call(ctx, http.MethodGet, client.Path(ref.Kind, ref.Name)+"/plan", q, "", nil, &p)
	return p, err
}
