package pki_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/pki"
)

func newCA(t *testing.T) *pki.CA {
	t.Helper()
	ca, err := pki.NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func issue(t *testing.T, ca *pki.CA, id pki.Identity, at time.Time, server bool) *pki.Holder {
	t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue(at, pki.Request{CN: id.String(), Public: &key.PublicKey, Server: server, Life: pki.CertLife})
	if err != nil {
		t.Fatal(err)
	}
	return pki.NewHolder(cert, key)
}

// talk runs one TLS connection and gives both sides' errors.
func talk(t *testing.T, server, client *tls.Config) (id pki.Identity, serverErr, clientErr error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		raw, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		defer raw.Close()
		c := tls.Server(raw, server)
		if err = c.Handshake(); err == nil {
			id, _ = pki.PeerIdentity(c.ConnectionState())
			_, err = c.Write([]byte("x"))
		}
		done <- err
	}()
	c, err := tls.Dial("tcp", l.Addr().String(), client)
	if err == nil {
		_, err = io.ReadFull(c, make([]byte, 1)) // TLS 1.3 tells a client of its refusal with the first read
		c.Close()
	}
	serverErr = <-done
	return id, serverErr, err
}

func TestTLSKnowsPeersByName(t *testing.T) {
	ca, other := newCA(t), newCA(t)
	now := time.Now()
	long := now.Add(-200 * 24 * time.Hour)
	for _, c := range []struct {
		name         string
		server       *pki.Holder
		client       *pki.Holder
		require      bool
		wantS, wantC string // "" for success
	}{
		{name: "node to controller", server: issue(t, ca, pki.Controller("c1"), now, true), client: issue(t, ca, pki.Node("t", "n"), now, false), require: true},
		{name: "nobody", server: issue(t, ca, pki.Controller("c1"), now, true)},
		{name: "nobody refused", server: issue(t, ca, pki.Controller("c1"), now, true), require: true, wantS: "no certificate", wantC: "bad certificate"},
		{name: "expired client", server: issue(t, ca, pki.Controller("c1"), now, true), client: issue(t, ca, pki.User("u"), long, false), wantS: "expired", wantC: "bad certificate"},
		{name: "strange client", server: issue(t, ca, pki.Controller("c1"), now, true), client: issue(t, other, pki.User("u"), now, false), wantS: "unknown authority", wantC: "bad certificate"},
		{name: "strange server", server: issue(t, other, pki.Controller("c1"), now, true), wantS: "bad certificate", wantC: "unknown authority"},
		{name: "expired server", server: issue(t, ca, pki.Controller("c1"), long, true), wantS: "bad certificate", wantC: "expired"},
		{name: "a node poses as controller", server: issue(t, ca, pki.Node("t", "n"), now, true), wantS: "bad certificate", wantC: "want a [controller]"},
		{name: "a user listens", server: issue(t, ca, pki.User("u"), now, false), wantS: "bad certificate", wantC: "incompatible key usage"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var heard error
			s := pki.ServerTLS(pki.ServerOptions{CA: ca.Cert, Cert: c.server, RequireClient: c.require,
				Refused: func(_ net.Addr, err error) { heard = err }})
			id, se, ce := talk(t, s, pki.ClientTLS(ca.Cert, c.client, pki.RoleController))
			check(t, "server", se, c.wantS)
			check(t, "client", ce, c.wantC)
			if c.client != nil && c.wantS == "" && id != pki.Node("t", "n") {
				t.Errorf("the server sees %v", id)
			}
			if refused := c.wantS != "" && c.wantC == "bad certificate"; refused != (heard != nil) {
				t.Errorf("Refused heard %v", heard)
			}
		})
	}
}

func check(t *testing.T, who string, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("%s: %v", who, err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("%s: got %v, want %q", who, err, want)
	}
}

func TestHolderIsReplacedUnderWay(t *testing.T) {
	ca := newCA(t)
	h := issue(t, ca, pki.Controller("old"), time.Now(), true)
	s := pki.ServerTLS(pki.ServerOptions{CA: ca.Cert, Cert: h})
	key, _ := pki.NewKey()
	cert, err := ca.Issue(time.Now(), pki.Request{CN: "controller:new", Public: &key.PublicKey, Server: true, Life: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	h.Set(cert, key)
	got := ""
	c := pki.ClientTLS(ca.Cert, nil, pki.RoleController)
	verify := c.VerifyConnection
	c.VerifyConnection = func(st tls.ConnectionState) error {
		got = st.PeerCertificates[0].Subject.CommonName
		return verify(st)
	}
	if _, _, err := talk(t, s, c); err != nil || got != "controller:new" {
		t.Fatalf("got %q, %v", got, err)
	}
	if left := time.Until(pki.RenewAt(cert)); left < 30*time.Minute || left > 45*time.Minute {
		t.Errorf("renew in %v of an hour", left)
	}
}

func TestCASurvivesItsFiles(t *testing.T) {
	ca := newCA(t)
	keyPEM, err := ca.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	again, err := pki.LoadCA(ca.CertPEM(), keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	proof, err := again.Prove("3-abc")
	if err != nil {
		t.Fatal(err)
	}
	if err := pki.VerifyCluster(ca.Cert, "3-abc", proof); err != nil {
		t.Error(err)
	}
	if pki.VerifyCluster(ca.Cert, "4-abc", proof) == nil {
		t.Error("the proof of one id vouches for another")
	}
	if pki.VerifyCluster(newCA(t).Cert, "3-abc", proof) == nil {
		t.Error("another CA's proof is taken")
	}
	if _, err := pki.LoadCA(newCA(t).CertPEM(), keyPEM); err == nil {
		t.Error("a key of another CA is taken")
	}
}

func TestSignCSRIgnoresWhatItAsksFor(t *testing.T) {
	ca := newCA(t)
	key, _ := pki.NewKey()
	csr, err := pki.NewCSR(key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.SignCSR(time.Now(), csr, pki.Request{CN: pki.Node("a", "b").String(), Life: time.Hour})
	if err != nil || cert.Subject.CommonName != "node:a/b" {
		t.Fatalf("%v, %v", cert, err)
	}
	csr[len(csr)-1] ^= 1
	if _, err := ca.SignCSR(time.Now(), csr, pki.Request{CN: "node:a/b", Life: time.Hour}); err == nil {
		t.Error("a request with a broken signature is taken")
	}
}

func TestSeal(t *testing.T) {
	key := pki.NewSealKey()
	s, err := pki.NewSealer(key)
	if err != nil {
		t.Fatal(err)
	}
	sealed := s.Seal("obj/Secret/default/a", []byte("hunter2"))
	if bytes.Contains(sealed, []byte("hunter2")) {
		t.Fatal("sealed value is readable")
	}
	if got, err := s.Open("obj/Secret/default/a", sealed); err != nil || string(got) != "hunter2" {
		t.Fatalf("got %q, %v", got, err)
	}
	if _, err := s.Open("obj/Secret/default/b", sealed); !errors.Is(err, pki.ErrSealed) {
		t.Errorf("opens under another name: %v", err)
	}
	wrong, _ := pki.NewSealer(pki.NewSealKey())
	if _, err := wrong.Open("obj/Secret/default/a", sealed); !errors.Is(err, pki.ErrSealed) {
		t.Errorf("opens with another key: %v", err)
	}
	if a, b := s.Derive("a"), s.Derive("b"); a == b || a != s.Derive("a") || a == wrong.Derive("a") || len(a) != 64 {
		t.Errorf("derived %q and %q", a, b)
	}
	path := filepath.Join(t.TempDir(), "key")
	if err := pki.WriteFile(path, key, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.OpenSealer(path); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.OpenSealer(path); err == nil || !strings.Contains(err.Error(), "0600") {
		t.Errorf("a key file that others may read: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	s, err := pki.NewSealer(make([]byte, 32))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(s.Seal("n", []byte("v")))
	f.Fuzz(func(t *testing.T, b []byte) {
		plain, err := s.Open("n", b)
		if err == nil && string(plain) != "v" {
			t.Fatalf("forged: %q", plain)
		}
	})
}

func FuzzParseIdentity(f *testing.F) {
	f.Add("node:default/a")
	f.Add("controller:c1")
	f.Fuzz(func(t *testing.T, cn string) {
		if id, err := pki.ParseIdentity(cn); err == nil && id.String() != cn {
			t.Fatalf("%q reads as %v", cn, id)
		}
	})
}
