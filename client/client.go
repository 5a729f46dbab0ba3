// Package client talks to the controllers' API.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// Client asks one of a cluster's controllers, and another when that one does not answer. Safe for concurrent use.
type Client struct {
	cfg  Config
	http *http.Client
	last atomic.Int64 // index of the server that answered
}

// New makes a client; it connects with the first call.
func New(cfg Config) (*Client, error) {
	t, err := cfg.tls()
	if err != nil {
		return nil, err
	}
	dial := &net.Dialer{Timeout: 3 * time.Second}
	return &Client{cfg: cfg, http: &http.Client{Transport: &http.Transport{TLSClientConfig: t, DialContext: dial.DialContext,
		TLSHandshakeTimeout: 3 * time.Second, ResponseHeaderTimeout: 30 * time.Second, ForceAttemptHTTP2: true,
		// A connection to a server that was cut off is given up, not waited for.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 2 * time.Second, PingTimeout: 2 * time.Second}}}}, nil
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Config of the client.
func (c *Client) Config() Config { return c.cfg }

// Query are parameters of a call; empty values are left out.
type Query map[string]string

func (c *Client) url(server, path string, q Query) string {
	v := url.Values{}
	for k, s := range q {
		if s != "" {
			v.Set(k, s)
		}
	}
	if v.Get("tenant") == "" && c.cfg.Tenant != "" {
		v.Set("tenant", c.cfg.Tenant)
	}
	u := strings.TrimSuffix(server, "/") + path
	if len(v) > 0 {
		u += "?" + v.Encode()
	}
	return u
}

// Call sends in (nil: no body) as JSON and decodes the answer into out (nil: dropped). etag goes into If-Match. A refusal
// is an *api.Error.
func (c *Client) Call(ctx context.Context, method, path string, q Query, etag string, in, out any) error {
	var body []byte
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = b
	}
	resp, err := c.send(ctx, method, path, q, etag, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		_, err := io.Copy(io.Discard, resp.Body)
		return err
	}
	if raw, ok := out.(*[]byte); ok {
		*raw, err = io.ReadAll(resp.Body)
		return err
	}
	return json.NewDecoder(resp.Body).Decode(out)
}

// send asks the servers in turn, beginning with the one that answered last. A write is sent to the next one only
// if it certainly did nothing here.
func (c *Client) send(ctx context.Context, method, path string, q Query, etag string, body []byte) (*http.Response, error) {
	var failed error
	first := int(c.last.Load())
	for i := range c.cfg.Servers {
		n := (first + i) % len(c.cfg.Servers)
		server := c.cfg.Servers[n]
		req, err := http.NewRequestWithContext(ctx, method, c.url(server, path, q), bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		if c.cfg.Token != "" {
			req.Header.Set("Authorization", "Bearer "+c.cfg.Token)
		}
		if etag != "" {
			req.Header.Set("If-Match", `"`+etag+`"`)
		}
		if len(body) > 0 {
			req.Header.Set("Content-Type", "application/json")
		}
		resp, err := c.http.Do(req)
		if err == nil {
			c.last.Store(int64(n))
			if resp.StatusCode < 300 {
				return resp, nil
			}
			err = refusal(resp)
		}
		if failed == nil || !isUnavailable(err) {
			failed = err
		}
		if ctx.Err() != nil {
			c.last.Store(int64((n + 1) % len(c.cfg.Servers))) // it used up the time: the next call begins with another
			return nil, err
		}
		if !tryNext(method, err) {
			return nil, err
		}
	}
	return nil, failed
}

func tryNext(method string, err error) bool {
	var e *api.Error
	if errors.As(err, &e) {
		return e.Code == api.CodeUnavailable
	}
	var op *net.OpError
	return method == http.MethodGet || errors.As(err, &op) && op.Op == "dial"
}

func isUnavailable(err error) bool {
	var e *api.Error
	return errors.As(err, &e) && e.Code == api.CodeUnavailable
}

// refusal reads the error that the server answered.
func refusal(resp *http.Response) error {
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("%s: %w", resp.Status, err)
	}
	var e api.Error
	if json.Unmarshal(b, &e) != nil || e.Code == "" {
		return fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(b))
	}
	return &e
}

// Path of a kind's resources, or of one.
func Path(kind api.Kind, name string) string {
	info, _ := api.LookupKind(string(kind))
	if name == "" {
		return "/v1/" + info.Plural
	}
	return "/v1/" + info.Plural + "/" + url.PathEscape(name)
}

// Get reads one resource. tenant "" means the credential's own.
func (c *Client) Get(ctx context.Context, kind api.Kind, tenant, name string) (api.Object, error) {
	info, ok := api.LookupKind(string(kind))
	if !ok {
		return nil, fmt.Errorf("kind %q is not known", kind)
	}
	o := info.New()
	return o, c.Call(ctx, http.MethodGet, Path(kind, name), Query{"tenant": tenant}, "", nil, o)
}

// Group reads an ApplianceGroup.
func (c *Client) Group(ctx context.Context, tenant, name string) (*api.ApplianceGroup, error) {
	var g api.ApplianceGroup
	return &g, c.Call(ctx, http.MethodGet, Path(api.KindApplianceGroup, name), Query{"tenant": tenant}, "", nil, &g)
}

// Job reads a Job.
func (c *Client) Job(ctx context.Context, tenant, name string) (*api.Job, error) {
	var j api.Job
	return &j, c.Call(ctx, http.MethodGet, Path(api.KindJob, name), Query{"tenant": tenant}, "", nil, &j)
}

// List reads the resources of a kind; tenant "*" means every tenant that one may see.
func (c *Client) List(ctx context.Context, kind api.Kind, tenant string) ([]api.Object, error) {
	var answer struct{ Items []json.RawMessage }
	if err := c.Call(ctx, http.MethodGet, Path(kind, ""), Query{"tenant": tenant}, "", nil, &answer); err != nil {
		return nil, err
	}
	out := make([]api.Object, 0, len(answer.Items))
	for _, raw := range answer.Items {
		o, err := decode(kind, raw)
		if err != nil {
			return nil, err
		}
		out = append(out, o)
	}
	return out, nil
}

// decode reads what a server sent, which may be newer than this client.
func decode(kind api.Kind, raw []byte) (api.Object, error) {
	info, ok := api.LookupKind(string(kind))
	if !ok {
		return nil, fmt.Errorf("kind %q is not known", kind)
	}
	o := info.New()
	return o, json.Unmarshal(raw, o)
}

// Action says what Apply did.
type Action string

// The actions.
const (
	Created   Action = "created"
	Updated   Action = "updated"
	Unchanged Action = "unchanged"
)

// applyTries is how often Apply reads again after somebody else's write came in between.
const applyTries = 5

// Apply creates the resource or brings it to the given spec. With an etag in the resource it changes only that version.
func (c *Client) Apply(ctx context.Context, o api.Object, dryRun bool) (api.Object, Action, error) {
	h := o.Head()
	q := Query{"tenant": h.Metadata.Tenant}
	if dryRun {
		q["dryRun"] = "1"
	}
	for try := 1; ; try++ {
		old, err := c.Get(ctx, h.Kind, h.Metadata.Tenant, h.Metadata.Name)
		answer, _ := api.LookupKind(string(h.Kind))
		now := answer.New()
		var e *api.Error
		if errors.As(err, &e) && e.Code == api.CodeNotFound {
			err = c.Call(ctx, http.MethodPost, Path(h.Kind, ""), q, "", o, now)
			if err == nil {
				return now, Created, nil
			}
			if errors.As(err, &e) && e.Code == api.CodeAlreadyExists && try < applyTries {
				continue
			}
			return nil, "", err
		}
		if err != nil {
			return nil, "", err
		}
		tag := h.Metadata.ETag
		if tag == "" {
			tag = old.Head().Metadata.ETag
		}
		err = c.Call(ctx, http.MethodPut, Path(h.Kind, h.Metadata.Name), q, tag, o, now)
		if errors.As(err, &e) && e.Code == api.CodePreconditionFailed && h.Metadata.ETag == "" && try < applyTries {
			continue
		}
		if err != nil {
			return nil, "", err
		}
		if now.Head().Metadata.Generation == old.Head().Metadata.Generation {
			return now, Unchanged, nil
		}
		return now, Updated, nil
	}
}

// Delete removes a resource, in whatever version it is.
func (c *Client) Delete(ctx context.Context, kind api.Kind, tenant, name string, dryRun bool) error {
	q := Query{"tenant": tenant}
	if dryRun {
		q["dryRun"] = "1"
	}
	return c.Call(ctx, http.MethodDelete, Path(kind, name), q, "*", nil, nil)
}
