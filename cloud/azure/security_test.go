package azure

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/log"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/cloud"
	"github.com/understudy-ha/understudy/cloud/azure/armsim"
)

// TestNoSecretInText lets servers echo the token in every way and reads all errors and the SDK's whole log.
func TestNoSecretInText(t *testing.T) {
	var mu sync.Mutex
	var logged strings.Builder
	log.SetListener(func(_ log.Event, s string) {
		mu.Lock()
		defer mu.Unlock()
		logged.WriteString(s)
	})
	defer log.SetListener(nil)
	jwt := "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln"
	echo := fmt.Sprintf("the token %s (Bearer %s, %s, client_secret=%s) is not welcome", tokenText, tokenText, jwt, tokenText)
	bodies := map[string]func(*http.Request) (int, string, error){
		"ARM error": func(*http.Request) (int, string, error) {
			return 403, `{"error":{"code":"AuthorizationFailed","message":"` + echo + `"}}`, nil
		},
		"error detail": func(*http.Request) (int, string, error) {
			return 400, `{"error":{"code":"Bad","details":[{"code":"` + tokenText + `","message":"` + echo + `"}]}}`, nil
		},
		"proxy page": func(*http.Request) (int, string, error) { return 502, "<html>" + echo, nil },
		"no JSON":    func(*http.Request) (int, string, error) { return 200, echo, nil },
		"network":    func(*http.Request) (int, string, error) { return 0, "", errors.New(echo) },
	}
	for name, answer := range bodies {
		synctest.Test(t, func(t *testing.T) {
			d, err := New(Config{Provider: provider("https://arm.test"), Secret: secrets, Transport: roundTrip(func(q *http.Request) (*http.Response, error) {
				status, body, err := answer(q)
				if err != nil {
					return nil, err
				}
				return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: q}, nil
			})})
			if err != nil {
				t.Fatal(err)
			}
			_, doErr := d.Do(t.Context(), tok, routesStep("10.0.2.5"))
			_, observeErr := d.Observe(t.Context(), group())
			findings, _ := d.Check(t.Context(), group())
			all := fmt.Sprintf("%v %+v %v %+v %+v %#v", doErr, doErr, observeErr, observeErr, findings, errors.Unwrap(doErr))
			if doErr == nil || observeErr == nil {
				t.Errorf("%s: no error", name)
			}
			for _, secret := range []string{tokenText, jwt} {
				if strings.Contains(fmt.Sprint(doErr, observeErr, findings), secret) {
					t.Errorf("%s: a secret is in %s", name, all)
				}
			}
		})
	}
	if s := fmt.Sprintf("%v %+v %#v %s", staticToken(tokenText), staticToken(tokenText), staticToken(tokenText), staticToken(tokenText)); strings.Contains(s, tokenText) {
		t.Errorf("the credential prints its token: %s", s)
	}
	if strings.Contains(logged.String(), tokenText) {
		t.Error("the SDK's log has the token")
	}
	if !strings.Contains(logged.String(), "arm.test") {
		t.Error("the SDK's log was not read: no request in it")
	}
}

// TestOperationURLElsewhere: the token must not follow a header to another host.
func TestOperationURLElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var strayed []string
		sim, d := inProcess(t, topology(nicTime, tableTime), func(next http.RoundTripper) http.RoundTripper {
			return roundTrip(func(q *http.Request) (*http.Response, error) {
				if q.URL.Host != "arm.test" {
					strayed = append(strayed, q.URL.String())
				}
				r, err := next.RoundTrip(q)
				if err == nil {
					for _, h := range []string{"Azure-AsyncOperation", "Location"} {
						if v := r.Header.Get(h); v != "" {
							r.Header.Set(h, strings.Replace(v, "arm.test", "arm.test.evil.example", 1))
						}
					}
				}
				return r, err
			})
		})
		if _, err := d.Do(t.Context(), tok, nicStepOf(api.StepDetach, "nva-a-outside")); err != nil {
			t.Fatal(err)
		}
		if len(strayed) > 0 || holder(sim, "web") != "" {
			t.Errorf("requests went to %v; web on %q", strayed, holder(sim, "web"))
		}
	})
}

func TestTLS(t *testing.T) {
	sim, err := armsim.New(armsim.Options{Token: tokenText, TimeScale: 1000, Topology: topology(time.Second, time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(sim)
	srv.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	srv.Config.ErrorLog = stdlog.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	p := provider(srv.URL)
	p.Spec.Azure.CAFile = ca
	d, err := New(Config{Provider: p, Secret: secrets, Poll: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := d.Do(t.Context(), tok, routesStep("10.0.2.5")); err != nil {
		t.Errorf("with the CA file: %v", err)
	}
	stranger, err := New(Config{Provider: provider(srv.URL), Secret: secrets, Poll: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	if _, err := stranger.Observe(t.Context(), group()); !errors.Is(err, cloud.ErrPermanent) || !strings.Contains(err.Error(), "caFile") {
		t.Errorf("without the CA file: %v, want ErrPermanent that names caFile", err)
	}
}

func TestNewRefuses(t *testing.T) {
	with := func(f func(*api.AzureProvider)) Config {
		p := provider("https://arm.test")
		f(p.Spec.Azure)
		return Config{Provider: p, Secret: secrets}
	}
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, want string
		config     Config
	}{
		{"no provider", "spec.azure: missing", Config{}},
		{"no URL", `endpoint "arm"`, with(func(a *api.AzureProvider) { a.Endpoint = "arm" })},
		{"http elsewhere", "want https", with(func(a *api.AzureProvider) { a.Endpoint = "http://arm.example" })},
		{"http with a real credential", "want https", with(func(a *api.AzureProvider) {
			a.Endpoint, a.Credential = "http://127.0.0.1:1", api.AzureCredential{Type: ManagedIdentity}
		})},
		{"credential type", `credential.type "Password"`, with(func(a *api.AzureProvider) { a.Credential.Type = "Password" })},
		{"no secret ref", "credential.secretRef", with(func(a *api.AzureProvider) { a.Credential.SecretRef = "" })},
		{"unknown secret", `no secret "x"`, with(func(a *api.AzureProvider) { a.Credential.SecretRef = "x" })},
		{"wrong key", `has no "clientSecret"`, with(func(a *api.AzureProvider) { a.Credential.Type = ClientSecret })},
		{"no CA file", "caFile", with(func(a *api.AzureProvider) { a.CAFile = "/nonexistent" })},
		{"empty CA file", "no certificate in it", with(func(a *api.AzureProvider) { a.CAFile = empty })},
	}
	for _, test := range tests {
		if _, err := New(test.config); err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), tokenText) {
			t.Errorf("%s: error %v, want %q in it", test.name, err, test.want)
		}
	}
	for _, c := range []api.AzureCredential{{}, {Type: ManagedIdentity, ClientID: "id"}} {
		if _, err := New(with(func(a *api.AzureProvider) { a.Endpoint, a.Credential = "", c })); err != nil {
			t.Errorf("credential %+v: %v", c, err)
		}
	}
	client := func(string) (map[string]string, error) { return map[string]string{"clientSecret": "x"}, nil }
	c := with(func(a *api.AzureProvider) {
		a.Credential = api.AzureCredential{Type: ClientSecret, TenantID: "t", ClientID: "c", SecretRef: "s"}
	})
	c.Secret = client
	if _, err := New(c); err != nil {
		t.Errorf("client secret: %v", err)
	}
}

func FuzzID(f *testing.F) {
	for _, s := range []string{tableID("core"), nicID("x") + "/ipConfigurations/first", "/subscriptions/../x", "/subscriptions/a/resourceGroups/b/providers/c/d/e?x", ""} {
		f.Add(s)
	}
	base, err := url.Parse("https://arm.test")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := parseID(s)
		if err != nil {
			return
		}
		u, err := url.Parse(base.String() + id.path() + "?api-version=1")
		if err != nil || u.Host != "arm.test" || u.Path != s || u.RawQuery != "api-version=1" || u.Fragment != "" {
			t.Errorf("id %q becomes %v, %v", s, u, err)
		}
		nicOf(s)
	})
}

func FuzzOperationHeaders(f *testing.F) {
	f.Add("https://arm.test/operations/1", "https://arm.test/results/1", "10", "500")
	f.Add("https://arm.test@evil/", "http://arm.test/", "-1", "9999999999999999999")
	f.Add("//evil/", "https://evil.arm.test.evil/", "Fri, 31 Dec 2100 23:59:59 GMT", "")
	endpoint, err := url.Parse("https://arm.test")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, async, location, after, afterMS string) {
		h := http.Header{}
		h.Set("Azure-AsyncOperation", async)
		h.Set("Location", location)
		h.Set("Retry-After", after)
		h.Set("x-ms-retry-after-ms", afterMS)
		o := operationOf(h, endpoint)
		if o.after < 0 || o.after > maxRetryAfter {
			t.Errorf("retry after %v", o.after)
		}
		for _, raw := range []string{o.status, o.location} {
			if raw == "" {
				continue
			}
			u, err := url.Parse(raw)
			if err != nil || u.Scheme != "https" || u.User != nil || u.Host != "arm.test" && !strings.HasSuffix(strings.ToLower(u.Host), ".arm.test") {
				t.Errorf("would send the token to %q", raw)
			}
		}
	})
}

func FuzzAnswers(f *testing.F) {
	f.Add([]byte(`{"status":"Failed","error":{"code":"X","message":"y","details":[{"code":"a","message":"b"}]}}`))
	f.Add([]byte(`{"value":[{"actions":["*"],"notActions":["*/write"]}],"nextLink":"https://arm.test/next"}`))
	f.Add([]byte(`{"properties":{"ipConfigurations":[{"name":"a","properties":null},3],"routes":[{}]},"tags":{"understudy-epoch":"c/1/2/x"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := parseStatus(b); err == nil && !p.done && p.code != "" {
			t.Error("an operation that runs has failed")
		}
		parseRefusal(b)
		if grants, _, err := parseGrants(b); err == nil && permits(grants, actionNICWrite) && len(grants) == 0 {
			t.Error("no role permits")
		}
		d, err := parseDocument(b)
		if err != nil {
			return
		}
		_ = checkMark(d, mark{token: tok})
		_, _ = applyRoutes(d, routesStep("10.0.2.5").Routes.Routes)
		applyDetach(d, nicStepOf(api.StepDetach, "x").NIC.Addresses)
		_, _ = applyAttach(d, nicStepOf(api.StepAttach, "x").NIC.Addresses)
		d.setTag(tagName, "x")
	})
}

func FuzzPermissions(f *testing.F) {
	f.Add("Microsoft.Network/*/read", "microsoft.network/routetables/read")
	f.Add("*", "")
	f.Add("*a*b*", "xaxbx")
	f.Fuzz(func(t *testing.T, pattern, action string) {
		if len(pattern) > 20 || len(action) > 30 || strings.Count(pattern, "*") > 4 {
			return
		}
		if got, want := matches(pattern, action), slowMatch(pattern, action); got != want {
			t.Errorf("matches(%q, %q) = %v, want %v", pattern, action, got, want)
		}
	})
}

// slowMatch is the definition of the wildcard.
func slowMatch(pattern, s string) bool {
	if pattern == "" {
		return s == ""
	}
	if pattern[0] == '*' {
		return slowMatch(pattern[1:], s) || s != "" && slowMatch(pattern, s[1:])
	}
	return s != "" && s[0] == pattern[0] && slowMatch(pattern[1:], s[1:])
}

func FuzzMark(f *testing.F) {
	f.Add("c1/3/5/0a0b0c0d")
	f.Add("c1/3/5")
	f.Add("c1/-3/5/")
	f.Fuzz(func(t *testing.T, s string) {
		m, ok := parseMark(s)
		if !ok {
			return
		}
		again, ok := parseMark(m.String())
		if !ok || again != m {
			t.Errorf("mark %q reads as %+v and back as %+v", s, m, again)
		}
		if m.newer(m) {
			t.Errorf("mark %q is newer than itself", s)
		}
	})
}

func TestMarkOrder(t *testing.T) {
	at := func(s string) mark {
		m, ok := parseMark(s)
		if !ok {
			t.Fatalf("mark %q does not parse", s)
		}
		return m
	}
	tests := []struct {
		there, ours string
		newer       bool
	}{
		{"c/4/1/x", "c/3/9/x", true}, {"c/3/9/x", "c/4/1/x", false}, {"c/3/6/x", "c/3/5/x", true}, {"c/3/5/x", "c/3/5/x", false},
		{"c/3/6/y", "c/3/5/x", false}, {"c/3/6", "c/3/5/x", true}, {"d/4/1/x", "c/3/9/x", true}, {"d/3/9/x", "c/3/5/x", false},
	}
	for _, test := range tests {
		if got := at(test.there).newer(at(test.ours)); got != test.newer {
			t.Errorf("%s newer than %s: %v, want %v", test.there, test.ours, got, test.newer)
		}
	}
	if !bytes.Equal([]byte(mark{tok, "x"}.String()), []byte("c1/3/5/x")) {
		t.Errorf("mark prints as %s", mark{tok, "x"})
	}
}
