package main

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/server"
)

func auditVerb(c *console) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Show or verify who did what",
		Long: `Each controller keeps a file of everything that was written through it and of everything that it refused. Each
line carries the hash of the line before, so that a line which was changed, taken out or put in shows.`,
	}
	cmd.AddCommand(auditShowVerb(c), auditVerifyVerb(c))
	return cmd
}

func auditShowVerb(c *console) *cobra.Command {
	var actor, verb string
	var refusedOnly bool
	limit := 50
	cmd := &cobra.Command{
		Use:         "show",
		Annotations: everyTenant,
		Short:       "Show the newest entries of the controller that answers",
		Args:        args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 0 {
				return usagef("--limit %d: want 0 (all) or more", limit)
			}
			return c.showAudit(cmd.Context(), limit, func(e api.AuditEntry) bool {
				return (actor == "" || e.Actor == actor) && (verb == "" || e.Verb == verb) && (!refusedOnly || e.Outcome != "ok")
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&actor, "actor", "", "only what this person or node did")
	flags.StringVar(&verb, "verb", "", "only this verb: create, update, delete, failover, …")
	flags.BoolVar(&refusedOnly, "refused", false, "only what was refused")
	flags.IntVar(&limit, "limit", limit, "show at most so many, the newest; 0 means all that the controller gives, 1,000")
	return cmd
}

func (c *console) showAudit(ctx context.Context, limit int, want func(api.AuditEntry) bool) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	var answer struct {
		Controller string           `json:"controller"`
		Items      []api.AuditEntry `json:"items"`
	}
	if err := cl.Call(ctx, http.MethodGet, "/v1/audit", nil, "", nil, &answer); err != nil {
		return err
	}
	kept := []api.AuditEntry{}
	for _, e := range answer.Items {
		if want(e) {
			kept = append(kept, e)
		}
	}
	answer.Items = last(kept, limit)
	if c.json {
		return c.printJSON(answer)
	}
	t := newTable("SEQ", "TIME", "ACTOR", "FROM", "VERB", "OBJECT", "OUTCOME", "DETAIL")
	t.shade = c.shadeCell
	for _, e := range answer.Items {
		t.add(fmt.Sprint(e.Seq), clockTime(e.At), e.Actor, orDash(e.From), e.Verb, orDash(e.Object), e.Outcome, orDash(e.Detail))
	}
	t.write(c.out, "")
	c.say("As controller %s wrote it; each controller has its own.", answer.Controller)
	return nil
}

func auditVerifyVerb(c *console) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "verify [FILE]",
		Short: "Verify the chain of an audit file on this host",
		Long: `Verify that no line of the audit was changed, taken out or put in: audit/audit.log in the controller's directory with
the files that were put aside before it, or FILE alone, which may be a copy. Lines that were cut off at the end, and
old files that were deleted, show only against an older copy: keep the last number and hash that are printed.`,
		Args: args("[FILE]"),
		RunE: func(_ *cobra.Command, given []string) error {
			if len(given) == 0 {
				return c.verifyAudit(filepath.Join(dirOr(dir), "audit", "audit.log"), server.ReadAuditFiles)
			}
			if dir != "" {
				return usagef("audit verify: %q and --dir %s: want one of them", given[0], dir)
			}
			return c.verifyAudit(given[0], server.ReadAudit)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "directory of the controller "+dirHelp)
	return cmd
}

// verified is what audit verify answers.
type verified struct {
	File    string `json:"file"`
	Entries int64  `json:"entries"`
	// First is the number of the first entry; more than 1 when files before it have been deleted.
	First int64     `json:"first,omitempty"`
	Last  time.Time `json:"last,omitzero"`
	Hash  string    `json:"hash,omitempty"`
}

func (c *console) verifyAudit(path string, read func(string, func(api.AuditEntry) error) error) error {
	v := verified{File: path}
	err := read(path, func(e api.AuditEntry) error {
		if v.First == 0 {
			v.First = e.Seq
		}
		v.Entries, v.Last, v.Hash = v.Entries+1, e.At, e.Hash
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if c.json {
		return c.printJSON(v)
	}
	from := ""
	if v.First > 1 {
		from = fmt.Sprintf(" from number %d on", v.First)
	}
	c.print("%s is whole: %s%s, the last of %s with hash %s", path, plural(int(v.Entries), "entry", "entries"), from, clockTime(v.Last), orDash(v.Hash))
	return nil
}
