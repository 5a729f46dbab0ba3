package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/client"
)

// errUnwell makes doctor fail after it has printed what it found.
var errUnwell = errors.New("a failover would not work now; see the findings")

func doctorVerb(c *console) *cobra.Command {
	return &cobra.Command{
		Use:         "doctor [NAME]",
		Annotations: everyTenant,
		Short:       "Find what would make a failover fail",
		Long: `Find what would make a failover fail: permissions, missing resources, IP forwarding, agents that are away, controllers
that a dead appliance would cut off, members that one fault takes down together; of machines what would be lost together with their
site, conditions that stand against a failover or a failback, drills that are due, and vaults from which no controller could be recovered.

NAME is group/NAME, machine/NAME, or the name alone if one of them has it. The exit code is 1 if a failover of a group, or of a machine to
its other side, would not work now.`,
		Args: args("[NAME]"),
		RunE: func(cmd *cobra.Command, given []string) error {
			r, err := c.examine(cmd.Context(), given)
			if err != nil {
				return err
			}
			if c.json {
				err = c.printJSON(r)
			} else {
				c.printFindings(r)
			}
			for _, ok := range r.Ready {
				if !ok && err == nil {
					err = errUnwell
				}
			}
			return err
		},
	}
}

func (c *console) examine(ctx context.Context, given []string) (r api.DoctorReport, err error) {
	cl, err := c.client()
	if err != nil {
		return r, err
	}
	if err := cl.Call(ctx, http.MethodGet, "/v1/doctor", client.Query{}, "", nil, &r); err != nil || len(given) == 0 {
		return r, err
	}
	o, err := subject(ctx, cl, given[0], api.KindApplianceGroup, api.KindProtectedMachine)
	if err != nil {
		return r, err
	}
	ref := o.Head().Ref()
	r.Findings = slices.DeleteFunc(r.Findings, func(f api.DoctorFinding) bool { return f.Subject != ref.String() })
	name := readyName(ref)
	r.Ready = map[string]bool{name: r.Ready[name]}
	return r, nil
}

// readyName is a subject's name in a report.
func readyName(r api.Ref) string {
	if r.Kind == api.KindProtectedMachine {
		return r.Tenant + "/machine/" + r.Name
	}
	return r.Tenant + "/" + r.Name
}

func (c *console) printFindings(r api.DoctorReport) {
	var names []string
	for n := range r.Ready {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		what := "a failover"
		if strings.Contains(n, "/machine/") {
			what = "a move to its other side"
		}
		word, style := "ready: "+what+" would work now", styleGreen
		if !r.Ready[n] {
			word, style = "not ready: "+what+" would not work now", styleRed
		}
		c.print("%s  %s", strings.TrimPrefix(n, api.DefaultTenant+"/"), c.shade(style, word))
	}
	if len(names) == 0 {
		c.print("There are no groups and no machines%s.", c.inTenant())
	}
	for _, f := range r.Findings {
		blocks := ""
		if f.Blocks {
			blocks = " (blocks)"
		}
		severity := fmt.Sprintf("%-8s", f.Severity)
		c.print("  %s  %s  %s%s: %s", c.shadeSeverity(f.Severity, severity), subjectWords(f), f.Code, blocks, f.Message)
	}
	if len(r.Findings) == 0 {
		c.print("Nothing was found.")
	}
}

func subjectWords(f api.DoctorFinding) string {
	if ref, ok := api.ParseRef(f.Subject); ok {
		return shortRef(ref)
	}
	return orDash(f.Subject)
}
