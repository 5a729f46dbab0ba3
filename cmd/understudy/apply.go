package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/client"
)

func applyVerb(c *console) *cobra.Command {
	var file string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Create resources, or bring them to what a file says",
		Long: `Create resources, or bring them to what a file says.

FILE is YAML or JSON and may hold many documents; "-" is standard input. The whole file is checked before anything is
written. What others refer to is written before them: Secrets, Providers and Nodes before groups, sites before vaults, vaults
before machines, and so on. A resource that carries an etag is changed only if it still has it.`,
		Example: `  understudy apply -f site.yaml
  understudy apply -f site.yaml --dry-run
  understudy get groups -o yaml | sed 's/interval: 1s/interval: 500ms/' | understudy apply -f -`,
		Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usagef(`apply: -f is missing: want a file, or "-" for standard input`)
			}
			docs, err := c.readManifest(file)
			if err != nil {
				return err
			}
			return c.apply(cmd.Context(), docs, dryRun)
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", `file with resources, "-" for standard input`)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "check everything on the server, change nothing")
	return cmd
}

// applied is what apply says of one resource.
type applied struct {
	Kind   api.Kind `json:"kind"`
	Tenant string   `json:"tenant"`
	Name   string   `json:"name"`
	// Action is created, configured or unchanged.
	Action string `json:"action"`
	DryRun bool   `json:"dryRun,omitempty"`
	// Note says what a dry run could not check.
	Note string `json:"note,omitempty"`
}

func (c *console) apply(ctx context.Context, docs []document, dryRun bool) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	sortForApply(docs)
	done := []applied{}
	for i, d := range docs {
		a, err := applyOne(ctx, cl, d, docs, dryRun)
		if err != nil {
			return c.applyStopped(done, len(docs)-i, d, dryRun, err)
		}
		done = append(done, a)
		if !c.json {
			c.print("%s", a.line(c))
		}
	}
	if c.json {
		return c.printJSON(map[string]any{"items": done})
	}
	return nil
}

// applyStopped words a refusal in the middle: what stands in front of it has been written.
func (c *console) applyStopped(done []applied, left int, d document, dryRun bool, err error) error {
	err = fmt.Errorf("%s: %s: %w", d.where, shortRef(d.object.Head().Ref()), err)
	if c.json {
		if len(done) > 0 {
			return errors.Join(err, c.printJSON(map[string]any{"items": done}))
		}
		return err
	}
	switch {
	case dryRun:
		c.say("This was a dry run: nothing has changed. A real one would stop here:")
	case len(done) > 0:
		c.say("%s of %d applied; this one and those after it were not:", plural(len(done), "resource", "resources"), len(done)+left)
	}
	return err
}

func applyOne(ctx context.Context, cl *client.Client, d document, docs []document, dryRun bool) (applied, error) {
	o, action, err := cl.Apply(ctx, d.object, dryRun)
	a := applied{DryRun: dryRun, Action: string(action)}
	if action == client.Updated {
		a.Action = "configured"
	}
	if need := missingOnlyInDryRun(err, d, docs, dryRun); need != "" {
		o, err = d.object, nil
		a.Action, a.Note = string(client.Created), "not checked against "+need+", which this file would make"
	}
	if err != nil {
		return a, err
	}
	ref := o.Head().Ref()
	a.Kind, a.Tenant, a.Name = ref.Kind, ref.Tenant, ref.Name
	return a, nil
}

// missingOnlyInDryRun tells which resources of the same file a refusal in a dry run wants: a real run writes them first.
func missingOnlyInDryRun(err error, d document, docs []document, dryRun bool) string {
	var need []string
	for _, f := range fieldsOf(err) {
		made := wouldMake(f, d, docs)
		if !dryRun || made == "" {
			return ""
		}
		if !slices.Contains(need, made) {
			need = append(need, made)
		}
	}
	return strings.Join(need, ", ")
}

// wouldMake names the resource of the file that a refused field wants, or is "".
func wouldMake(f api.FieldError, d document, docs []document) string {
	for _, other := range docs {
		h := other.object.Head()
		wanted := f.Field == "spec.provider" && h.Kind == api.KindProvider || f.Field == "spec.azure.credential.secretRef" && h.Kind == api.KindSecret ||
			strings.HasPrefix(f.Want, "a "+string(h.Kind)+" of tenant ")
		if wanted && f.Value == fmt.Sprintf("%q", h.Metadata.Name) && h.Metadata.Tenant == d.object.Head().Metadata.Tenant {
			return string(h.Kind) + "/" + h.Metadata.Name
		}
	}
	return ""
}

func (a applied) line(c *console) string {
	style := styleGreen
	if a.Action == string(client.Unchanged) {
		style = styleFaint
	}
	s := shortRef(api.Ref{Kind: a.Kind, Tenant: a.Tenant, Name: a.Name}) + " " + c.shade(style, a.Action)
	var notes []string
	if a.DryRun {
		notes = append(notes, "dry run")
	}
	if a.Note != "" {
		notes = append(notes, a.Note)
	}
	if len(notes) > 0 {
		s += " (" + strings.Join(notes, "; ") + ")"
	}
	return s
}
