package armsim

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"
)

// maxBody is what ARM accepts in one request.
const maxBody = 4 << 20

// answer is built under the lock and sent without it.
type answer struct {
	base   string // scheme and host as the client sees them
	self   string
	status int
	header http.Header
	body   map[string]any
	code   string
	cut    bool
}

func (a *answer) refuse(status int, code, message string) {
	a.status, a.code = status, code
	a.body = map[string]any{"error": map[string]any{"code": code, "message": message}}
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(io.LimitReader(q.Body, maxBody+1))
	if err != nil {
		return // the client is gone
	}
	s.travel(q)
	a := s.answer(q, body)
	if a.cut {
		panic(http.ErrAbortHandler) // net/http's way to cut a connection
	}
	for k, v := range a.header {
		w.Header()[k] = v
	}
	if a.body == nil {
		w.WriteHeader(a.status)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(a.status)
	_ = json.NewEncoder(w).Encode(a.body) // a client that hung up needs no answer
}

// travel is the request's way to ARM.
func (s *Server) travel(q *http.Request) {
	d := s.Real(s.top.Latencies.Request.D())
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-q.Context().Done():
	}
}

// Handler gives the server as an http.Handler.
func (s *Server) Handler() http.Handler { return s }

func (s *Server) answer(q *http.Request, body []byte) *answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.Now()
	s.settle(now)
	scheme := "http"
	if q.TLS != nil || q.URL.Scheme == "https" {
		scheme = "https"
	}
	a := &answer{base: scheme + "://" + q.Host, header: http.Header{}, status: http.StatusOK}
	a.self = a.base + q.URL.RequestURI()
	s.decide(a, q, body)
	rec := Record{At: now.Seconds(), Method: q.Method, Path: q.URL.Path, Status: a.status, Code: a.code, IfMatch: q.Header.Get("If-Match")}
	if a.cut {
		rec.Status = 0
	}
	s.log = append(s.log, rec)
	return a
}

func (s *Server) decide(a *answer, q *http.Request, body []byte) {
	bearer, ok := strings.CutPrefix(q.Header.Get("Authorization"), "Bearer ")
	if !ok || bearer == "" || s.token != "" && bearer != s.token {
		a.refuse(http.StatusUnauthorized, "InvalidAuthenticationToken", "The access token is invalid.")
		return
	}
	if q.URL.Query().Get("api-version") == "" {
		a.refuse(http.StatusBadRequest, "MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required for all requests.")
		return
	}
	f := s.fault(q.Method, q.URL.Path)
	if f != nil {
		switch f.Kind {
		case DropRequest:
			a.cut = true
			return
		case Throttle:
			a.refuse(http.StatusTooManyRequests, "TooManyRequests", "The server is busy. Please retry later.")
			s.retryAfter(a)
			return
		case AnotherOperation:
			s.busy(a)
			return
		case ServerError:
			a.refuse(http.StatusServiceUnavailable, "ServiceUnavailable", "The service is temporarily unavailable.")
			return
		}
	}
	s.route(a, q.Method, q.URL.Path, q.Header.Get("If-Match"), body, f)
	a.cut = f != nil && f.Kind == DropResponse && a.code == ""
}

func (s *Server) busy(a *answer) {
	a.refuse(http.StatusTooManyRequests, "RetryableErrorDueToAnotherOperation", "Operation was canceled or superseded: another operation on this or a dependent resource is in progress.")
	s.retryAfter(a)
}

func (s *Server) route(a *answer, method, path, ifMatch string, body []byte, f *Fault) {
	low := key(path)
	parts := strings.Split(low, "/")
	switch {
	case strings.HasSuffix(low, "/providers/microsoft.authorization/permissions") && method == http.MethodGet:
		s.permissions(a, strings.TrimSuffix(low, "/providers/microsoft.authorization/permissions"))
	case len(parts) == 9 && parts[5] == "locations" && parts[7] == "operations" && method == http.MethodGet:
		s.operationStatus(a, parts[8], false)
	case len(parts) == 9 && parts[5] == "locations" && parts[7] == "operationresults" && method == http.MethodGet:
		s.operationStatus(a, parts[8], true)
	case kindOf(low) != "":
		s.onResource(a, method, low, ifMatch, body, f)
	case len(parts) == 11 && parts[9] == "routes" && method == http.MethodGet:
		s.getRoute(a, strings.Join(parts[:9], "/"), low)
	default:
		a.refuse(http.StatusNotFound, "NotFound", "The simulator knows no "+method+" of "+path)
	}
}

func (s *Server) onResource(a *answer, method, id, ifMatch string, body []byte, f *Fault) {
	r := s.resources[id]
	switch {
	case method != http.MethodGet && method != http.MethodPut || method == http.MethodPut && kindOf(id) == typePublic:
		a.refuse(http.StatusMethodNotAllowed, "MethodNotAllowed", "The simulator knows no "+method+" of "+id)
	case !s.allowed(a, kindOf(id)+map[string]string{http.MethodGet: "/read", http.MethodPut: "/write"}[method], id):
	case r == nil:
		a.refuse(http.StatusNotFound, "ResourceNotFound", "The Resource '"+nameOf(id)+"' was not found.")
	case method == http.MethodGet:
		a.body = clone(r.doc)
		a.header.Set("ETag", text(r.doc, "etag"))
	default:
		s.write(a, r, ifMatch, body, f)
	}
}

func (s *Server) getRoute(a *answer, table, id string) {
	r := s.resources[table]
	if !s.allowed(a, typeTable+"/routes/read", id) {
		return
	}
	if r != nil {
		for _, route := range list(props(r.doc), "routes") {
			if strings.EqualFold(text(route, "name"), nameOf(id)) {
				a.body = clone(route)
				return
			}
		}
	}
	a.refuse(http.StatusNotFound, "NotFound", "Resource "+id+" not found.")
}

func subscriptionOf(id string) string { return strings.Split(id, "/")[2] }
