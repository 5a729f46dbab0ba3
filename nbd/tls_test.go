package nbd

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// issue makes a certificate for localhost, and its own authority.
func issue(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
}

func TestTLS(t *testing.T) {
	cert, pool := issue(t)
	l, err := Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, Config{TLS: &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}}, l,
		Export{Name: "d", Backend: newMemory(4 << 20)})
	ctx, address := context.Background(), l.Addr().String()
	c, err := Dial(ctx, "tcp", address, "d", DialOptions{TLS: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p, got := bytes.Repeat([]byte("secret"), 1<<19), make([]byte, 6<<19)
	if err := c.WriteAt(ctx, p[:3<<20], 0, true); err != nil {
		t.Fatal(err)
	}
	if err := c.ReadAt(ctx, got[:3<<20], 0); err != nil || !bytes.Equal(got[:3<<20], p[:3<<20]) {
		t.Fatal("read back:", err)
	}
	if _, err := Dial(ctx, "tcp", address, "d", DialOptions{}); err == nil || !strings.Contains(err.Error(), "TLS") {
		t.Errorf("without TLS: %v", err)
	}
	if c, err := Dial(ctx, "tcp", address, "d", DialOptions{TLS: &tls.Config{RootCAs: pool}}); err == nil {
		t.Error("without a certificate: accepted", c.Close())
	}
	dir := t.TempDir()
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	crt := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})
	for name, b := range map[string][]byte{"ca-cert.pem": crt, "client-cert.pem": crt, "client-key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	contains(t, tool(t, "nbdinfo", "nbds://"+address+"/d?tls-certificates="+dir), "newstyle-fixed with TLS", "export-size: 4194304")
}

// TestNothingInPlainTextIsTakenAsEncrypted: options smuggled in after STARTTLS end the connection.
func TestNothingInPlainTextIsTakenAsEncrypted(t *testing.T) {
	cert, _ := issue(t)
	_, path := serve(t, Config{TLS: &tls.Config{Certificates: []tls.Certificate{cert}}}, Export{Name: "d", Backend: newMemory(512)})
	r := dialRaw(t, path)
	if kinds, _ := r.option(optList, ""); kinds[0] != repErrTLSReqd {
		t.Errorf("LIST before TLS: %x", kinds)
	}
	r.write("IHAVEOPT" + u32(optStartTLS) + u32(0) + "IHAVEOPT" + u32(optList) + u32(0))
	r.read(20) // acknowledged
	if rest, err := io.ReadAll(r.conn); err != nil && !errors.Is(err, syscall.ECONNRESET) || bytes.Contains(rest, []byte(u64(magicOptReply))) {
		t.Errorf("the list was answered: %q, %v", rest, err)
	}
}
