package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/client"
	"github.com/understudy-ha/understudy/pki"
)

func tokenVerb(c *console) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make, list and revoke tokens of nodes and people",
		Long: `A node's token is good for one enrolment: its agent turns it into a certificate of its own. A person's token, or
client certificate, has a role in one tenant, or in all: viewer reads; operator also writes groups, providers and nodes and
moves them; admin also writes secrets, makes tokens and reads the audit.`,
	}
	cmd.AddCommand(tokenCreateVerb(c), tokenListVerb(c), tokenRevokeVerb(c))
	return cmd
}

// tokenRequest is what the flags of token create say.
type tokenRequest struct {
	api.TokenRequest
	ttl         time.Duration
	out         string
	certificate bool
}

func tokenCreateVerb(c *console) *cobra.Command {
	var q tokenRequest
	var role string
	cmd := &cobra.Command{
		Use:         "create --node NAME | --user NAME --role ROLE",
		Annotations: everyTenant,
		Short:       "Make a token",
		Long: `Make a token and print it, this once: it is stored hashed.

With --out a client.yaml is written that whoever gets it can use at once; with --certificate that file holds a client
certificate in place of a token.`,
		Example: `  understudy token create --node edge
  understudy token create --user ann --role operator --out ann.yaml`,
		Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			q.Role, q.Life, q.Tenant = api.AccessRole(role), api.Duration(q.ttl), c.tenant
			return c.createToken(cmd.Context(), q)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&q.Node, "node", "", "node whose agent enrols with it")
	flags.StringVar(&q.User, "user", "", "person or program that gets it")
	flags.StringVar(&role, "role", "", "role of --user: viewer, operator or admin")
	flags.DurationVar(&q.ttl, "ttl", 0, "how long it is good: 1m to 8760h (default: a node's 1h, a person's 8760h)")
	flags.StringVar(&q.out, "out", "", "write a client.yaml for --user here")
	flags.BoolVar(&q.certificate, "certificate", false, "with --out: a client certificate in place of a token")
	return cmd
}

func (q *tokenRequest) check() error {
	switch {
	case (q.Node == "") == (q.User == ""):
		return usagef("token create: want exactly one of --node NAME and --user NAME")
	case q.User != "" && q.Role == "":
		return usagef("token create: --role is missing: want viewer, operator or admin")
	case q.Node != "" && (q.Role != "" || q.out != "" || q.certificate):
		return usagef("token create: --role, --out and --certificate belong to --user; a node has neither")
	case q.certificate && q.out == "":
		return usagef("token create: --certificate needs --out FILE to write it to")
	}
	return nil
}

func (c *console) createToken(ctx context.Context, q tokenRequest) error {
	if err := q.check(); err != nil {
		return err
	}
	cl, err := c.client()
	if err != nil {
		return err
	}
	var key []byte
	if q.certificate {
		if key, q.CSR, err = newCSR(); err != nil {
			return err
		}
	}
	var reply api.TokenReply
	if err := cl.Call(ctx, http.MethodPost, "/v1/tokens", client.Query{"tenant": q.Tenant}, "", q.TokenRequest, &reply); err != nil {
		return err
	}
	if q.out != "" {
		if err := writeClient(q.out, cl.Config(), reply, key); err != nil {
			return err
		}
	}
	return c.tellToken(q, reply)
}

func newCSR() (keyPEM, csr []byte, err error) {
	key, err := pki.NewKey()
	if err != nil {
		return nil, nil, err
	}
	if csr, err = pki.NewCSR(key); err != nil {
		return nil, nil, err
	}
	keyPEM, err = pki.EncodeKey(key)
	return keyPEM, csr, err
}

// writeClient writes a client.yaml for the token's holder, and beside it the certificate and key if there are any.
func writeClient(path string, own client.Config, reply api.TokenReply, key []byte) error {
	cfg := client.Config{Servers: own.Servers, CA: reply.CA, Token: reply.Token}
	if reply.Tenant != api.AllTenants {
		cfg.Tenant = reply.Tenant
	}
	if reply.Certificate != "" {
		base := strings.TrimSuffix(path, filepath.Ext(path))
		cfg.CertFile, cfg.KeyFile = filepath.Base(base)+".crt", filepath.Base(base)+".key"
		if err := pki.WriteFile(base+".key", key, 0o600); err != nil {
			return err
		}
		if err := pki.WriteFile(base+".crt", []byte(reply.Certificate), 0o600); err != nil {
			return err
		}
	}
	return cfg.Save(path)
}

func (c *console) tellToken(q tokenRequest, reply api.TokenReply) error {
	switch {
	case c.json:
		return c.printJSON(reply)
	case q.out != "":
		c.print("Wrote %s: %s is %s of tenant %s until %s.", q.out, reply.User, reply.Role, reply.Tenant, clockTime(reply.Expires))
		c.say("Use it with: understudy --config %s status", q.out)
	default:
		c.print("%s", reply.Token)
	}
	if q.Node != "" {
		c.say("On %s, once, until %s:\n  understudy agent --controllers %s --token %s", q.Node, clockTime(reply.Expires),
			strings.Join(reply.Controllers, ","), reply.Token)
	}
	return nil
}

func tokenListVerb(c *console) *cobra.Command {
	return &cobra.Command{
		Use:         "list",
		Annotations: everyTenant,
		Short:       "List tokens; their secrets are not kept",
		Args:        args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := c.client()
			if err != nil {
				return err
			}
			var answer struct {
				Items []api.TokenInfo `json:"items"`
			}
			if err := cl.Call(cmd.Context(), http.MethodGet, "/v1/tokens", nil, "", nil, &answer); err != nil {
				return err
			}
			if c.json {
				return c.printJSON(answer)
			}
			t := newTable("ID", "KIND", "OF", "ROLE", "TENANT", "BY", "CREATED", "EXPIRES")
			for _, i := range answer.Items {
				t.add(i.ID, string(i.Kind), i.Node+i.User, orDash(string(i.Role)), i.Tenant, orDash(i.By), clockTime(i.Created), clockTime(i.Expires))
			}
			t.write(c.out, "")
			return nil
		},
	}
}

func tokenRevokeVerb(c *console) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ID",
		Short: "Revoke a token at once",
		Long:  "Revoke a token at once. ID is from `understudy token list`. What a node enrolled with a token that was used up already keeps its certificate.",
		Args:  args("ID"),
		RunE: func(cmd *cobra.Command, given []string) error {
			cl, err := c.client()
			if err != nil {
				return err
			}
			if err := cl.Call(cmd.Context(), http.MethodDelete, "/v1/tokens/"+url.PathEscape(given[0]), nil, "", nil, nil); err != nil {
				return err
			}
			if c.json {
				return c.printJSON(map[string]string{"id": given[0], "action": "revoked"})
			}
			c.print("%s", fmt.Sprintf("token %s revoked", given[0]))
			return nil
		},
	}
}
