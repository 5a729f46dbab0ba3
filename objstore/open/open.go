// Package open makes an object store from a URL:
//
//	file:///var/lib/understudy/vault
//	azblob://ACCOUNT/CONTAINER[/PREFIX][?endpoint=https://HOST[/PATH]][&insecure=true]
//	s3://BUCKET[/PREFIX]?endpoint=https://HOST[:PORT][&region=REGION][&insecure=true]
//
// An endpoint without TLS is refused unless it is this machine or insecure=true is given.
package open

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/understudy-ha/understudy/objstore"
	"github.com/understudy-ha/understudy/objstore/azblob"
	"github.com/understudy-ha/understudy/objstore/dir"
	"github.com/understudy-ha/understudy/objstore/retry"
	"github.com/understudy-ha/understudy/objstore/s3"
)

// Credentials are the data of a Secret. azblob: accountKey, or sasToken, or tenantID, clientID and clientSecret, or clientID alone, or
// nothing for the machine's managed identity. s3: accessKeyID and secretAccessKey. Both: caCertificate, in PEM. file: nothing.
type Credentials map[string]string

// Store opens the store at raw. It does not ask a remote one anything yet: the first call tells whether it is there and lets us in.
// Remote stores come with retries.
func Store(ctx context.Context, raw string, creds Credentials) (objstore.Store, error) {
	l, err := parse(raw)
	if err != nil {
		return nil, err
	}
	if err := l.known(creds); err != nil {
		return nil, err
	}
	switch l.scheme {
	case "file":
		return dir.Open(ctx, l.path)
	case "azblob":
		s, err := azblob.Open(azblob.Config{Account: l.host, Endpoint: l.endpointURL(), Container: l.bucket, Prefix: l.path,
			AccountKey: creds["accountKey"], SASToken: creds["sasToken"], TenantID: creds["tenantID"], ClientID: creds["clientID"],
			ClientSecret: creds["clientSecret"], CA: creds["caCertificate"]})
		if err != nil {
			return nil, err
		}
		return retry.New(s, retry.Config{}), nil
	}
	s, err := s3.Open(s3.Config{Endpoint: l.endpoint.Host, Plain: l.endpoint.Scheme == "http", Region: l.query.Get("region"), Bucket: l.host,
		Prefix: l.path, AccessKeyID: creds["accessKeyID"], SecretAccessKey: creds["secretAccessKey"], CA: creds["caCertificate"]})
	if err != nil {
		return nil, err
	}
	return retry.New(s, retry.Config{}), nil
}

// Check tells what is wrong with raw without opening anything: nil, or an error that names the part of it.
func Check(raw string) error {
	_, err := parse(raw)
	return err
}

// location is a store's URL in parts.
type location struct {
	scheme, host string
	bucket       string // the container; azblob only
	path         string // the prefix, or the directory
	query        url.Values
	endpoint     *url.URL
}

func (l *location) endpointURL() string {
	if l.endpoint == nil {
		return ""
	}
	return l.endpoint.String()
}

func refuse(part, value, want string) error {
	return fmt.Errorf("store URL: %s %q: want %s", part, value, want)
}

// parameters that each scheme knows.
var parameters = map[string][]string{"file": {}, "azblob": {"endpoint", "insecure"}, "s3": {"endpoint", "region", "insecure"}}

func parse(raw string) (*location, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("store URL: want file:///DIR, azblob://ACCOUNT/CONTAINER or s3://BUCKET, readable as a URL")
	}
	l := &location{scheme: u.Scheme, host: u.Host, query: u.Query()}
	known, ok := parameters[u.Scheme]
	switch {
	case !ok:
		return nil, refuse("scheme", u.Scheme, "file, azblob or s3")
	case u.User != nil:
		return nil, refuse("user", "…", "none: credentials come from a Secret")
	case u.Fragment != "":
		return nil, refuse("fragment", u.Fragment, "none")
	}
	for p, values := range l.query {
		if !slices.Contains(known, p) || len(values) != 1 {
			return nil, refuse("parameter", p, "one each of: "+strings.Join(known, ", "))
		}
	}
	if u.Scheme == "file" {
		if u.Host != "" || !strings.HasPrefix(u.Path, "/") {
			return nil, refuse("path", u.Host+u.Path, "an absolute path, like file:///var/lib/vault")
		}
		l.path = u.Path
		return l, nil
	}
	return l, l.remote(strings.Trim(u.Path, "/"))
}

// remote fills in what azblob and s3 share.
func (l *location) remote(path string) error {
	l.path = path
	if l.host == "" {
		return refuse("host", "", map[string]string{"azblob": "the storage account", "s3": "the bucket"}[l.scheme])
	}
	if l.scheme == "azblob" {
		if l.bucket, l.path, _ = strings.Cut(path, "/"); l.bucket == "" {
			return refuse("path", path, "a container, like azblob://account/container/prefix")
		}
	}
	if l.path != "" {
		if err := objstore.ValidKey("open", l.path); err != nil {
			return fmt.Errorf("store URL: prefix: %w", err)
		}
	}
	if raw := l.query.Get("endpoint"); raw != "" || l.scheme == "s3" {
		return l.setEndpoint(raw)
	}
	return nil
}

func (l *location) setEndpoint(raw string) error {
	e, err := url.Parse(raw)
	if err != nil || e.Host == "" || e.Scheme != "https" && e.Scheme != "http" || e.User != nil || e.RawQuery != "" || e.Fragment != "" {
		return refuse("endpoint", raw, "https://HOST[:PORT]")
	}
	if l.scheme == "s3" && strings.Trim(e.Path, "/") != "" {
		return refuse("endpoint", raw, "a URL without a path")
	}
	switch insecure := l.query.Get("insecure"); {
	case insecure != "" && insecure != "true" && insecure != "false":
		return refuse("insecure", insecure, "true or false")
	case e.Scheme == "http" && insecure != "true" && !loopback(e.Hostname()):
		return refuse("endpoint", raw, "https, or insecure=true")
	}
	l.endpoint = e
	return nil
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// fields of the credentials that each scheme knows.
var fields = map[string][]string{
	"file":   {},
	"azblob": {"accountKey", "sasToken", "tenantID", "clientID", "clientSecret", "caCertificate"},
	"s3":     {"accessKeyID", "secretAccessKey", "caCertificate"},
}

// known refuses credentials that the scheme does not use, so that a misspelt one is found.
func (l *location) known(creds Credentials) error {
	for f := range creds {
		if !slices.Contains(fields[l.scheme], f) {
			return fmt.Errorf("credentials: field %q: %s knows %s", f, l.scheme, strings.Join(fields[l.scheme], ", "))
		}
	}
	if l.scheme == "s3" && (creds["accessKeyID"] == "" || creds["secretAccessKey"] == "") {
		return fmt.Errorf("credentials: s3 wants accessKeyID and secretAccessKey")
	}
	return nil
}
