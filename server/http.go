package server

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// maxBody of a request: a resource is at most 512 KiB in the store; a plan may carry several.
const maxBody = 2 << 20

// call is one request under way.
type call struct {
	w      http.ResponseWriter
	r      *http.Request
	who    principal
	kind   api.KindInfo
	tenant string
	name   string
	verb   string // for the audit; "" for reads, which are audited only when refused
	object string
	detail string
}

func (c *call) ref() api.Ref { return api.Ref{Kind: c.kind.Kind, Tenant: c.tenant, Name: c.name} }

func (c *call) dry() bool { return c.r.URL.Query().Get("dryRun") == "1" }

func (c *call) body() ([]byte, error) {
	return io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxBody))
}

// route is one entry of the API.
type route struct {
	pattern string
	verb    string // "" for reads
	role    api.AccessRole
	serve   func(*Server, *call) error
}

// routes lists the whole API.
func routes() []route {
	return []route{
		{"GET /v1/status", "", api.Viewer, (*Server).getStatus},
		{"GET /v1/doctor", "", api.Viewer, (*Server).getDoctor},
		{"GET /v1/audit", "", api.Admin, (*Server).getAudit},
		{"GET /v1/backup", "backup", api.Admin, (*Server).getBackup},
		{"POST /v1/plan", "", api.Viewer, (*Server).postPlan},
		{"GET /v1/tokens", "", api.Admin, (*Server).getTokens},
		{"POST /v1/tokens", "create", api.Admin, (*Server).postToken},
		{"DELETE /v1/tokens/{name}", "delete", api.Admin, (*Server).deleteToken},
		{"POST /v1/appliancegroups/{name}/failover", "failover", api.Operator, (*Server).postFailover},
		{"POST /v1/appliancegroups/{name}/pause", "pause", api.Operator, (*Server).postPause},
		{"POST /v1/appliancegroups/{name}/resume", "resume", api.Operator, (*Server).postResume},
		{"GET /v1/appliancegroups/{name}/plan", "", api.Viewer, (*Server).getPlan},
		{"POST /v1/jobs/{name}/cancel", "cancel", api.Operator, (*Server).postCancel},
		{"POST /v1/jobs/{name}/retry", "retry", api.Operator, (*Server).postRetry},
		{"POST /v1/jobs/{name}/complete", "complete", api.Operator, (*Server).postComplete},
		{"POST /v1/protectedmachines/{name}/operations", "operate", api.Operator, (*Server).postOperation},
		{"GET /v1/protectedmachines/{name}/points", "", api.Viewer, (*Server).getPoints},
		{"GET /v1/protectedmachines/{name}/plan", "", api.Viewer, (*Server).getForesight},
		{"POST /v1/recoveryplans/{name}/operations", "operate", api.Operator, (*Server).postOperation},
		{"GET /v1/recoveryplans/{name}/plan", "", api.Viewer, (*Server).getForesight},
		{"GET /v1/{kinds}", "", api.Viewer, (*Server).getList},
		{"POST /v1/{kinds}", "create", api.Operator, (*Server).postObject},
		{"GET /v1/{kinds}/{name}", "", api.Viewer, (*Server).getObject},
		{"PUT /v1/{kinds}/{name}", "update", api.Operator, (*Server).putObject},
		{"DELETE /v1/{kinds}/{name}", "delete", api.Operator, (*Server).deleteObject},
	}
}

// Handler serves the API, the health endpoints and the metrics.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, rt := range routes() {
		mux.HandleFunc(rt.pattern, func(w http.ResponseWriter, r *http.Request) { s.serve(rt, w, r) })
	}
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /leader", s.getLeader)
	metrics := route{"GET /metrics", "", api.Viewer, (*Server).getMetrics}
	mux.HandleFunc(metrics.pattern, func(w http.ResponseWriter, r *http.Request) { s.serve(metrics, w, r) })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusNotFound, api.Errorf(api.CodeNotFound, "%s %s is not part of the API", r.Method, r.URL.Path))
	})
	return mux
}

// serve runs one request: who asks, may they, do it, write it down.
func (s *Server) serve(rt route, w http.ResponseWriter, r *http.Request) {
	c := &call{w: w, r: r, verb: rt.verb, name: r.PathValue("name")}
	err := s.run(rt, c)
	if err == nil {
		if c.verb != "" && !c.dry() {
			s.note(c, "ok", c.detail)
		}
		return
	}
	e := asError(err)
	if e.Code == api.CodeInternal {
		slog.Error("request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	refused := e.Code == api.CodeUnauthenticated || e.Code == api.CodeForbidden || c.detail == otherTenant
	if refused || c.verb != "" {
		detail := e.Message
		if c.detail != "" {
			detail = c.detail
		}
		s.note(c, string(e.Code), detail)
	}
	if e.Code == api.CodeUnauthenticated {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	writeJSON(w, e.Code.HTTPStatus(), e)
}

// otherTenant marks in the audit why something was not found.
const otherTenant = "belongs to a tenant that is not the asker's"

func (s *Server) run(rt route, c *call) error {
	_, path, _ := strings.Cut(rt.pattern, " /v1/")
	if kinds, ok := c.r.PathValue("kinds"), strings.HasPrefix(path, "{kinds}"); ok {
		c.kind, ok = api.LookupKind(kinds)
		if !ok || c.kind.Plural != kinds {
			return api.Errorf(api.CodeNotFound, "%q is no kind of resource: want %s", kinds, plurals())
		}
	} else if plural, _, _ := strings.Cut(path, "/"); plural != "" {
		c.kind, _ = api.LookupKind(plural)
	}
	c.object = strings.TrimPrefix(c.r.URL.Path, "/v1/")
	who, err := s.authority.who(c.r)
	if err != nil {
		return err
	}
	c.who = who
	c.tenant = c.r.URL.Query().Get("tenant")
	if c.tenant == "" {
		c.tenant = who.home()
		if rt.pattern == "GET /v1/status" || rt.pattern == "GET /metrics" {
			c.tenant = who.tenant
		}
	}
	if c.tenant != api.AllTenants && !api.ValidName(c.tenant) {
		return invalid("tenant", fmt.Sprintf("%q", c.tenant), `a tenant's name, or "*" in lists`)
	}
	if c.tenant == api.AllTenants && c.name == "" && !who.sees(api.AllTenants) {
		c.tenant = who.tenant // "all" means all that one may see
	}
	if !who.sees(c.tenant) {
		c.detail = otherTenant
		return api.Errorf(api.CodeNotFound, "%s is not there", strings.Trim(string(c.kind.Kind)+"/"+c.tenant+"/"+c.name, "/"))
	}
	role := rt.role
	if c.kind.Kind == api.KindSecret && c.verb != "" {
		role = api.Admin
	}
	if !who.role.Allows(role) {
		return api.Errorf(api.CodeForbidden, "%s is %s: this needs %s", who.name, who.role, role)
	}
	if c.verb != "" && c.kind.ReadOnly && strings.HasPrefix(path, "{kinds}") {
		return api.Errorf(api.CodeReadOnly, "%s are written by controllers alone", c.kind.Plural)
	}
	return rt.serve(s, c)
}

// plurals names the kinds as they stand in URLs.
func plurals() string {
	var names []string
	for _, k := range api.Kinds() {
		names = append(names, k.Plural)
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// note writes an entry of the audit. A write that happened and cannot be written down is an alarm, not a refusal: it has
// happened.
func (s *Server) note(c *call, outcome, detail string) {
	actor := c.who.name
	if actor == "" {
		actor = "unknown"
	}
	verb := c.verb
	if verb == "" {
		verb = "read"
	}
	tenant := c.tenant
	if c.detail == otherTenant {
		tenant = c.who.tenant // the asker's tenant may see that it asked
	}
	s.auditWrite(api.AuditEntry{Actor: actor, From: c.r.RemoteAddr, Verb: verb, Object: c.object, Tenant: tenant, Outcome: outcome, Detail: detail})
}

func (s *Server) auditWrite(e api.AuditEntry) {
	s.metrics.audited(e.Outcome)
	if err := s.audit.Write(e); err != nil {
		slog.Error("audit", "err", err)
		s.metrics.auditFailures.Inc()
	}
}

func (s *Server) getList(c *call) error {
	if c.r.URL.Query().Get("watch") == "1" {
		return s.watch(c)
	}
	objs, err := s.resources.list(c.r.Context(), c.kind.Kind, c.tenant)
	if err != nil {
		return err
	}
	writeJSON(c.w, http.StatusOK, map[string]any{"items": objs})
	return nil
}

func (s *Server) getObject(c *call) error {
	o, _, err := s.resources.get(c.r.Context(), c.ref())
	if err != nil {
		return err
	}
	return answer(c, http.StatusOK, o)
}

// answer sends a resource with its ETag.
func answer(c *call, status int, o api.Object) error {
	if tag := o.Head().Metadata.ETag; tag != "" {
		c.w.Header().Set("ETag", `"`+tag+`"`)
	}
	writeJSON(c.w, status, o)
	return nil
}

// object reads the resource of a body and settles its tenant and name.
func (s *Server) object(c *call) (api.Object, error) {
	b, err := c.body()
	if err != nil {
		return nil, err
	}
	o, err := api.DecodeAs(c.kind.Kind, b)
	if err != nil {
		return nil, err
	}
	m := &o.Head().Metadata
	if m.Tenant == "" {
		m.Tenant = c.tenant
	}
	if c.name != "" && m.Name == "" {
		m.Name = c.name
	}
	if c.name != "" && m.Name != c.name {
		return nil, invalid("metadata.name", fmt.Sprintf("%q", m.Name), fmt.Sprintf("%q, as in the URL", c.name))
	}
	if c.r.URL.Query().Has("tenant") && m.Tenant != c.tenant {
		return nil, invalid("metadata.tenant", fmt.Sprintf("%q", m.Tenant), fmt.Sprintf("%q, as in the URL", c.tenant))
	}
	if !c.who.sees(m.Tenant) {
		c.detail = otherTenant
		return nil, notFound(api.Ref{Kind: c.kind.Kind, Tenant: m.Tenant, Name: m.Name})
	}
	c.tenant, c.name = m.Tenant, m.Name
	c.object = c.ref().String()
	return o, allowedProvider(c.who, o)
}

// allowedProvider keeps what reaches beyond a tenant for those who are bound to all: the controllers' own identity
// in Azure, and files on the controllers.
func allowedProvider(who principal, o api.Object) error {
	p, ok := o.(*api.Provider)
	if !ok || p.Spec.Azure == nil || who.tenant == api.AllTenants && who.role == api.Admin {
		return nil
	}
	if t := p.Spec.Azure.Credential.Type; t == "" || t == api.CredentialManagedIdentity || p.Spec.Azure.CAFile != "" {
		return api.Errorf(api.CodeForbidden, "a provider that uses the controllers' managed identity or a caFile on them needs admin of all tenants")
	}
	return nil
}

func (s *Server) postObject(c *call) error {
	o, err := s.object(c)
	if err != nil {
		return err
	}
	o, _, err = s.resources.put(c.r.Context(), o, match{create: true}, c.dry())
	if err != nil {
		return err
	}
	return answer(c, http.StatusCreated, o)
}

// ifMatch reads the If-Match header: one etag, quoted or not.
func ifMatch(r *http.Request) string {
	return strings.Trim(strings.TrimPrefix(strings.TrimSpace(r.Header.Get("If-Match")), "W/"), `"`)
}

func (s *Server) putObject(c *call) error {
	o, err := s.object(c)
	if err != nil {
		return err
	}
	o, created, err := s.resources.put(c.r.Context(), o, match{etag: ifMatch(c.r)}, c.dry())
	if err != nil {
		return err
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	return answer(c, status, o)
}

func (s *Server) deleteObject(c *call) error {
	c.object = c.ref().String()
	if err := s.resources.remove(c.r.Context(), c.ref(), match{etag: ifMatch(c.r)}, c.dry()); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// serveHTTP runs an HTTP server on l until ctx ends. Requests under way get 3 s to end; watches end at once.
func serveHTTP(ctx context.Context, srv *http.Server, serve func() error) error {
	failed := make(chan error, 1)
	go func() { failed <- serve() }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if srv.Shutdown(grace) != nil {
		if err := srv.Close(); err != nil {
			slog.Debug("close the API", "err", err)
		}
	}
	<-failed
	return nil
}

// logWriter gives net/http's own log lines to slog.
type logWriter struct{}

func (logWriter) Write(b []byte) (int, error) {
	slog.Debug("http", "msg", string(bytes.TrimSpace(b)))
	return len(b), nil
}
