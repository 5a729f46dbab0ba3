// Package remote is what stores over HTTP share: their transport, and what an answer, or none, says of a call.
package remote

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/objstore"
)

// Transport gives connections that end by themselves when nobody answers. ca, if not empty, is the PEM of the authorities to trust
// instead of the system's.
func Transport(ca string) (*http.Transport, error) {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: time.Minute,
		IdleConnTimeout:       time.Minute,
		MaxIdleConnsPerHost:   32,
		DisableCompression:    true,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if ca != "" {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM([]byte(ca)) {
			return nil, errors.New("credentials.caCertificate: want certificates in PEM")
		}
		t.TLSClientConfig.RootCAs = pool
	}
	return t, nil
}

// Call is one request that failed.
type Call struct {
	Op, Key string
	// Write says that the request may have changed something.
	Write bool
	// Status and Code are the answer's; 0 and "" if there was none.
	Status int
	Code   string
	// Err is the error of the library, used where there was no answer.
	Err error
}

// busy are codes by which a store says that it has not begun.
var busy = map[string]bool{"SlowDown": true, "ServerBusy": true, "TooManyRequests": true, "ConditionalRequestConflict": true, "OperationAborted": true}

// full are codes by which a store says that it has no room.
var full = map[string]bool{"XMinioStorageFull": true, "QuotaExceeded": true, "InsufficientStorage": true}

// Error gives the store's error for a call whose answer is not one of a condition, absence or range.
func (c Call) Error() error {
	e := &objstore.Error{Op: c.Op, Key: c.Key, Cause: c.cause()}
	switch {
	case c.Status == 0 && (!c.Write || neverSent(c.Err)):
		e.Kind = objstore.ErrUnavailable
	case c.Status == 0:
		e.Kind = objstore.ErrUnknown
	case full[c.Code], c.Status == http.StatusInsufficientStorage:
		e.Kind, e.Hint = objstore.ErrNoSpace, "free some space or raise the quota"
	case busy[c.Code], c.Status == http.StatusTooManyRequests, c.Status == http.StatusConflict:
		e.Kind = objstore.ErrUnavailable
	case c.Status >= 500 || c.Status == http.StatusRequestTimeout:
		e.Kind = objstore.ErrUnavailable
		if c.Write {
			e.Kind = objstore.ErrUnknown
		}
	case c.Status == http.StatusBadRequest || c.Status == http.StatusRequestEntityTooLarge:
		e.Kind = objstore.ErrInvalid
	default:
		e.Kind, e.Hint = objstore.ErrDenied, "check the credentials, the clock, and that the bucket or container is there"
	}
	return e
}

// cause is short, on one line, and without the URL, whose query may be a secret.
func (c Call) cause() error {
	if c.Status != 0 {
		return fmt.Errorf("answered %d %s", c.Status, c.Code)
	}
	if u := (*url.Error)(nil); errors.As(c.Err, &u) {
		return u.Err
	}
	return c.Err
}

// neverSent tells that no connection was made, so that nothing can have happened.
func neverSent(err error) bool {
	var op *net.OpError
	var name *net.DNSError
	return errors.As(err, &op) && op.Op == "dial" || errors.As(err, &name)
}

// ReadBody reads exactly n bytes of a body.
func ReadBody(op, key string, body io.Reader, n int64) ([]byte, error) {
	if n < 0 || n > objstore.MaxObject {
		return nil, &objstore.Error{Op: op, Key: key, Kind: objstore.ErrInvalid, Cause: fmt.Errorf("%d bytes, which nobody wrote through this store", n)}
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(body, data); err != nil {
		return nil, &objstore.Error{Op: op, Key: key, Kind: objstore.ErrUnavailable, Cause: err}
	}
	return data, nil
}

// Short gives ErrRange.
func Short(key string, off, n int64) error {
	return &objstore.Error{Op: "get range of", Key: key, Kind: objstore.ErrRange, Cause: fmt.Errorf("offset %d, length %d", off, n)}
}

// Unquote strips the quotes that tags have in headers and not in lists.
func Unquote(etag string) objstore.Tag { return objstore.Tag(strings.Trim(etag, `"`)) }
