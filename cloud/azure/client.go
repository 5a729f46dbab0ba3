package azure

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
)

const (
	// requestTimeout of one HTTP request; operations take longer, requests do not.
	requestTimeout = 30 * time.Second
	// maxAnswer is the longest answer that is read. A table of 400 routes is about 200 KiB.
	maxAnswer = 8 << 20
)

// client speaks ARM by generic reads and writes of whole resources.
type client struct {
	pipeline runtime.Pipeline
	endpoint *url.URL
	redact   redactor
	close    func()
}

// newClient makes the pipeline. It has no retries of its own: converge knows better what may be repeated.
func newClient(endpoint *url.URL, cred azcore.TokenCredential, transport http.RoundTripper, insecure bool, redact redactor) *client {
	hc := &http.Client{
		Transport:     quiet{transport, redact},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	auth := runtime.NewBearerTokenPolicy(cred, []string{DefaultEndpoint + "/.default"}, &policy.BearerTokenOptions{InsecureAllowCredentialWithHTTP: insecure})
	p := runtime.NewPipeline("understudy", "v1", runtime.PipelineOptions{PerRetry: []policy.Policy{auth}}, &policy.ClientOptions{
		Retry:     policy.RetryOptions{MaxRetries: -1},
		Transport: hc,
	})
	return &client{pipeline: p, endpoint: endpoint, redact: redact, close: hc.CloseIdleConnections}
}

// newTransport verifies the endpoint by the certificates of a file, or by the system's.
func newTransport(caFile string) (http.RoundTripper, error) {
	t := &http.Transport{
		Proxy:       http.ProxyFromEnvironment,
		DialContext: (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		// A failover comes after hours of silence; an old connection may lead through the dead appliance.
		IdleConnTimeout:     30 * time.Second,
		MaxIdleConnsPerHost: parallel,
		TLSHandshakeTimeout: 5 * time.Second,
		ForceAttemptHTTP2:   true,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if caFile == "" {
		return t, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("caFile: %w", err)
	}
	t.TLSClientConfig.RootCAs = x509.NewCertPool()
	if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("caFile %s: no certificate in it; want PEM", caFile)
	}
	return t, nil
}

// answer is an HTTP answer read to its end.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// do sends one request. The error is about the network or about signing in, never about the status.
func (c *client) do(ctx context.Context, op, method, address string, body []byte, etag string) (answer, error) {
	ctx, stop := context.WithTimeout(ctx, requestTimeout)
	defer stop()
	q, err := runtime.NewRequest(ctx, method, address)
	if err != nil {
		return answer{}, fmt.Errorf("%s: %w", op, c.redact.wrap(err))
	}
	q.Raw().Header.Set("Accept", "application/json")
	if etag != "" {
		q.Raw().Header.Set("If-Match", etag)
	}
	if body != nil {
		if err := q.SetBody(streaming.NopCloser(bytes.NewReader(body)), "application/json"); err != nil {
			return answer{}, fmt.Errorf("%s: %w", op, c.redact.wrap(err))
		}
	}
	runtime.SkipBodyDownload(q)
	r, err := c.pipeline.Do(q)
	if err != nil {
		return answer{}, c.signIn(op, err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(io.LimitReader(r.Body, maxAnswer+1))
	if err == nil && len(b) > maxAnswer {
		err = fmt.Errorf("answer longer than %d bytes", maxAnswer)
	}
	if err != nil {
		return answer{}, fmt.Errorf("%s: read the answer: %w", op, c.redact.wrap(err))
	}
	return answer{r.StatusCode, r.Header, b}, nil
}

func (c *client) address(id resourceID, suffix, version string) string {
	return strings.TrimRight(c.endpoint.String(), "/") + id.path() + suffix + "?api-version=" + version
}

// get reads a resource.
func (c *client) get(ctx context.Context, id resourceID) (document, error) {
	op := "read " + id.full
	a, err := c.do(ctx, op, http.MethodGet, c.address(id, "", networkVersion), nil, "")
	if err != nil {
		return nil, err
	}
	if a.status != http.StatusOK {
		return nil, c.refusal(op, a.status, a.body, retryAfter(a.header, time.Now()))
	}
	d, err := parseDocument(a.body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, c.redact.wrap(err))
	}
	return d, nil
}

// put replaces a resource and gives the operation that was started. Busy tells that the answer showed the operation as running.
func (c *client) put(ctx context.Context, id resourceID, d document, etag string) (o operation, busy bool, err error) {
	op := "write " + id.full
	b, err := json.Marshal(d)
	if err != nil {
		return operation{}, false, fmt.Errorf("%s: %w", op, err)
	}
	a, err := c.do(ctx, op, http.MethodPut, c.address(id, "", networkVersion), b, etag)
	if err != nil {
		return operation{}, false, err
	}
	if a.status != http.StatusOK && a.status != http.StatusCreated && a.status != http.StatusAccepted {
		return operation{}, false, c.refusal(op, a.status, a.body, retryAfter(a.header, time.Now()))
	}
	if after, err := parseDocument(a.body); err == nil {
		busy = after.working()
	}
	return operationOf(a.header, c.endpoint), busy, nil
}

// look asks how an operation goes. It updates after. errLost when ARM does not know it.
func (c *client) look(ctx context.Context, o *operation) (progress, error) {
	a, err := c.do(ctx, "read operation", http.MethodGet, o.url(), nil, "")
	if err != nil {
		return progress{}, err
	}
	o.after = retryAfter(a.header, time.Now())
	switch {
	case a.status == http.StatusNotFound || a.status == http.StatusGone:
		return progress{}, errLost
	case a.status == http.StatusTooManyRequests || a.status == http.StatusRequestTimeout || a.status == http.StatusServiceUnavailable || a.status == http.StatusBadGateway || a.status == http.StatusGatewayTimeout:
		return progress{}, c.refusal("read operation", a.status, a.body, o.after)
	case o.status != "" && a.status == http.StatusOK:
		p, err := parseStatus(a.body)
		p.message = c.redact.text(cut(p.message, maxMessage))
		return p, err
	case o.status == "" && a.status == http.StatusAccepted:
		return progress{}, nil
	case o.status == "" && (a.status == http.StatusOK || a.status == http.StatusCreated || a.status == http.StatusNoContent):
		return progress{done: true}, nil
	}
	e := c.refusal("read operation", a.status, a.body, 0)
	if o.status != "" {
		return progress{}, e
	}
	return progress{done: true, code: e.Code, message: e.Message}, nil // by Location, the operation's own failure is the answer's status
}

// notFound tells an answer that there is no such resource.
func notFound(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == http.StatusNotFound
}
