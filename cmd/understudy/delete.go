package main

import (
	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/client"
)

func deleteVerb(c *console) *cobra.Command {
	var file string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "delete KIND NAME | -f FILE",
		Short: "Delete a resource, or those that a file describes",
		Long: `Delete a resource, or those that a file describes, those that need others first.

Deleting a group moves nothing: addresses and routes stay where they are, and nobody watches them any more. What another
resource refers to is not deleted; the refusal says by whom.

A machine's protection is ended first: understudy disable. If Understudy runs it, it is shut down, too: understudy shutdown. Once it is
deleted, its disks are not served any more, and nothing is left on its node but the disks themselves; its streams stay in the vaults.`,
		Args: args("[KIND]", "[NAME]"),
		RunE: func(cmd *cobra.Command, given []string) error {
			refs, err := c.refsToDelete(file, given)
			if err != nil {
				return err
			}
			cl, err := c.client()
			if err != nil {
				return err
			}
			return c.deleteAll(cmd, cl, refs, dryRun)
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", `file with resources, "-" for standard input`)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "check on the server, change nothing")
	return cmd
}

func (c *console) refsToDelete(file string, given []string) ([]api.Ref, error) {
	if file == "" {
		if len(given) == 0 {
			return nil, usagef("delete: KIND is missing: want KIND NAME, or -f FILE")
		}
		kind, name, err := kindAndName(given)
		if err == nil && name == "" {
			err = usagef("delete %s: NAME is missing; there is no way to delete all at once", given[0])
		}
		return []api.Ref{{Kind: kind.Kind, Name: name}}, err
	}
	if len(given) > 0 {
		return nil, usagef("delete: %q and -f %s: want one of them", given[0], file)
	}
	docs, err := c.readManifest(file)
	if err != nil {
		return nil, err
	}
	sortForApply(docs)
	var refs []api.Ref
	for i := len(docs) - 1; i >= 0; i-- {
		refs = append(refs, docs[i].object.Head().Ref())
	}
	return refs, nil
}

func (c *console) deleteAll(cmd *cobra.Command, cl *client.Client, refs []api.Ref, dryRun bool) error {
	done := []applied{}
	for _, r := range refs {
		a := applied{Kind: r.Kind, Tenant: r.Tenant, Name: r.Name, Action: "deleted", DryRun: dryRun}
		if err := cl.Delete(cmd.Context(), r.Kind, r.Tenant, r.Name, dryRun); err != nil {
			if !dryRun || len(done) == 0 || exitCode(err) != exitConflict {
				return err
			}
			a.Note = "if what this file deletes before it is gone: " + err.Error()
		}
		done = append(done, a)
		if !c.json {
			c.print("%s", done[len(done)-1].line(c))
		}
	}
	if c.json {
		return c.printJSON(map[string]any{"items": done})
	}
	return nil
}
