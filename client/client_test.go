package client_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/client"
	"github.com/understudy-ha/understudy/pki"
)

// controllers starts one server for each handler and gives the configuration of their client. A nil handler is a server that is
// gone.
func controllers(t *testing.T, handlers ...http.HandlerFunc) client.Config {
	t.Helper()
	ca, err := pki.NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue(time.Now(), pki.Request{CN: "controller:c1", Public: &key.PublicKey, Server: true, Life: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	cfg := client.Config{CA: string(ca.CertPEM()), Token: "secret"}
	for _, h := range handlers {
		srv := httptest.NewUnstartedServer(h)
		srv.TLS = pki.ServerTLS(pki.ServerOptions{CA: ca.Cert, Cert: pki.NewHolder(cert, key)})
		srv.StartTLS()
		t.Cleanup(srv.Close)
		cfg.Servers = append(cfg.Servers, srv.URL)
		if h == nil {
			srv.Close()
		}
	}
	return cfg
}

// breaksOff ends the connection in the middle of a request, which may have been carried out.
func breaksOff(n *atomic.Int32) http.HandlerFunc {
	return func(http.ResponseWriter, *http.Request) { n.Add(1); panic(http.ErrAbortHandler) }
}

func answers(n *atomic.Int32, status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		n.Add(1)
		w.WriteHeader(status)
		if _, err := w.Write([]byte(body)); err != nil {
			panic(http.ErrAbortHandler)
		}
	}
}

func TestAsksTheNextControllerOnlyWhenThatIsSafe(t *testing.T) {
	const unavailable = `{"code":"Unavailable","message":"the store does not answer"}`
	for _, c := range []struct {
		name, method string
		first        func(*atomic.Int32) http.HandlerFunc
		second       int32  // calls that the second controller gets
		fails        string // "" for success
	}{
		{"read, first gone", "GET", func(*atomic.Int32) http.HandlerFunc { return nil }, 1, ""},
		{"write, first gone", "POST", func(*atomic.Int32) http.HandlerFunc { return nil }, 1, ""},
		{"read, first breaks off", "GET", breaksOff, 1, ""},
		{"write, first breaks off", "POST", breaksOff, 0, "EOF"},
		{"write, first did nothing", "POST", func(n *atomic.Int32) http.HandlerFunc { return answers(n, 503, unavailable) }, 1, ""},
		{"write, outcome unknown", "POST", func(n *atomic.Int32) http.HandlerFunc {
			return answers(n, 503, `{"code":"OutcomeUnknown","message":"may have happened"}`)
		}, 0, "may have happened"},
		{"refused", "POST", func(n *atomic.Int32) http.HandlerFunc {
			return answers(n, 403, `{"code":"Forbidden","message":"viewer"}`)
		}, 0, "viewer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var first, second atomic.Int32
			cl, err := client.New(controllers(t, c.first(&first), answers(&second, 200, `{}`)))
			if err != nil {
				t.Fatal(err)
			}
			defer cl.Close()
			err = cl.Call(t.Context(), c.method, "/v1/nodes", nil, "", nil, nil)
			if (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) || second.Load() != c.second {
				t.Fatalf("got %v, %d calls of the second; want %q, %d", err, second.Load(), c.fails, c.second)
			}
			if first.Load() > 1 {
				t.Errorf("the first was asked %d times", first.Load())
			}
		})
	}
}

// A controller that is cut off keeps nobody waiting twice.
func TestAServerThatIsSilentIsAskedOnce(t *testing.T) {
	var second atomic.Int32
	silent := func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		panic(http.ErrAbortHandler) // returning would answer 200, which the client may still read while it closes the connection
	}
	cl, err := client.New(controllers(t, silent, answers(&second, 200, `{}`)))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := cl.Call(ctx, "GET", "/v1/nodes", nil, "", nil, nil); err == nil {
		t.Fatal("the silent one answered")
	}
	if err := cl.Call(t.Context(), "GET", "/v1/nodes", nil, "", nil, nil); err != nil || second.Load() != 1 {
		t.Fatalf("then: %v, %d calls of the second", err, second.Load())
	}
}

func TestRefusalKeepsItsFields(t *testing.T) {
	var n atomic.Int32
	cl, err := client.New(controllers(t, answers(&n, 400, `{"code":"Invalid","message":"m","fields":[{"field":"spec.a","value":"1","want":"2"}]}`)))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	err = cl.Call(t.Context(), "GET", "/", nil, "", nil, nil)
	var e *api.Error
	if !errors.As(err, &e) || e.Code != api.CodeInvalid || len(e.Fields) != 1 || e.Fields[0].Field != "spec.a" {
		t.Fatalf("%v", err)
	}
}

func TestConfigIsReadBackAndRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "client.yaml")
	cfg := controllers(t, nil)
	if err := cfg.Save(path); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	got, err := client.Load(path)
	if err != nil || got.Token != cfg.Token || got.CA != cfg.CA {
		t.Fatalf("%+v, %v", got, err)
	}
	for text, want := range map[string]string{"server: []\n": "unknown field", "servers: [\"https://a\"]\n": "want servers and ca"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Load(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
