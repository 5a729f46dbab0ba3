package azure

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// operation is a long-running operation as a client sees it: up to two URLs to look at.
type operation struct {
	// status is from Azure-AsyncOperation: it answers 200 with a status field.
	status string
	// location is from Location: it answers 202 while running.
	location string
	// after is how long to wait before the next look.
	after time.Duration
}

// maxRetryAfter keeps a mistaken header from stopping a step for good.
const maxRetryAfter = 10 * time.Minute

// operationOf reads an accepted write's headers. URLs that lead away from the endpoint are left out, since the next
// look carries the bearer token.
func operationOf(h http.Header, endpoint *url.URL) operation {
	return operation{
		status:   trusted(h.Get("Azure-AsyncOperation"), endpoint),
		location: trusted(h.Get("Location"), endpoint),
		after:    retryAfter(h, time.Now()),
	}
}

func (o operation) url() string {
	if o.status != "" {
		return o.status
	}
	return o.location
}

// trusted gives a URL back if it is of the endpoint's scheme and host, or a host below it, like a region's.
func trusted(raw string, endpoint *url.URL) string {
	if raw == "" || len(raw) > 4096 {
		return ""
	}
	u, err := url.Parse(raw)
	if err != nil || u.User != nil || u.Scheme != endpoint.Scheme || u.Host == "" {
		return ""
	}
	host := strings.ToLower(u.Host)
	if own := strings.ToLower(endpoint.Host); host != own && !strings.HasSuffix(host, "."+own) {
		return ""
	}
	return u.String()
}

// retryAfter reads how long a server asks to wait: milliseconds where it says so, else seconds or a date. 0 if it says nothing sensible.
func retryAfter(h http.Header, now time.Time) time.Duration {
	for _, name := range []string{"retry-after-ms", "x-ms-retry-after-ms"} {
		if ms, err := strconv.ParseInt(h.Get(name), 10, 64); err == nil && ms > 0 {
			return time.Duration(min(ms, maxRetryAfter.Milliseconds())) * time.Millisecond
		}
	}
	v := h.Get("Retry-After")
	if s, err := strconv.ParseInt(v, 10, 64); err == nil && s > 0 {
		return time.Duration(min(s, int64(maxRetryAfter/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil && at.After(now) {
		return min(at.Sub(now), maxRetryAfter)
	}
	return 0
}

// progress is one look at an operation.
type progress struct {
	done bool
	// code and message tell why a done operation failed; "" when it succeeded.
	code, message string
}

// errLost says that ARM knows nothing of the operation.
var errLost = errors.New("the operation is not known any more")

// parseStatus reads an answer of an Azure-AsyncOperation URL.
func parseStatus(body []byte) (progress, error) {
	var b struct {
		Status string `json:"status"`
	}
	if err := json.Unmarshal(body, &b); err != nil || b.Status == "" {
		return progress{}, errors.New("the operation's answer has no status")
	}
	switch strings.ToLower(b.Status) {
	case "succeeded":
		return progress{done: true}, nil
	case "failed", "canceled", "cancelled":
		p := progress{done: true}
		p.code, p.message = parseRefusal(body)
		if p.code == "" {
			p.code = b.Status
		}
		return p, nil
	}
	return progress{}, nil
}
