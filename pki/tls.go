package pki

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
)

// Holder is a certificate with its key that can be replaced while connections use it.
type Holder struct {
	cert atomic.Pointer[tls.Certificate]
}

// NewHolder starts with a certificate.
func NewHolder(cert *x509.Certificate, key *ecdsa.PrivateKey) *Holder {
	h := &Holder{}
	h.Set(cert, key)
	return h
}

// Set replaces the certificate; connections that are open keep the old one.
func (h *Holder) Set(cert *x509.Certificate, key *ecdsa.PrivateKey) {
	h.cert.Store(&tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert})
}

// Replace takes over another holder's certificate and key.
func (h *Holder) Replace(by *Holder) { h.cert.Store(by.cert.Load()) }

// Leaf gives the certificate.
func (h *Holder) Leaf() *x509.Certificate { return h.cert.Load().Leaf }

// LoadHolder reads a certificate and its key from PEM.
func LoadHolder(certPEM, keyPEM []byte) (*Holder, error) {
	cert, err := ParseCert(certPEM)
	if err != nil {
		return nil, err
	}
	key, err := ParseKey(keyPEM)
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New("the private key does not belong to the certificate")
	}
	return NewHolder(cert, key), nil
}

// ServerOptions of a listener.
type ServerOptions struct {
	CA   *x509.Certificate
	Cert *Holder
	// RequireClient refuses connections without a certificate. One that is shown is always checked.
	RequireClient bool
	// NextProtos for ALPN.
	NextProtos []string
	// Refused, if not nil, hears of certificates that were refused. It is called by the connection's goroutine.
	Refused func(from net.Addr, err error)
}

// ServerTLS is the configuration of a listener. TLS 1.3 only.
func ServerTLS(o ServerOptions) *tls.Config {
	base := &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: o.NextProtos, ClientAuth: tls.RequestClientCert, SessionTicketsDisabled: true,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return o.Cert.cert.Load(), nil },
	}
	// One configuration a connection, since VerifyConnection is not told whose it is.
	base.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		c := base.Clone()
		c.GetConfigForClient = nil
		from := hello.Conn.RemoteAddr()
		c.VerifyConnection = func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 && !o.RequireClient {
				return nil
			}
			_, err := verify(o.CA, s.PeerCertificates, x509.ExtKeyUsageClientAuth)
			if err != nil && o.Refused != nil {
				o.Refused(from, err)
			}
			return err
		}
		return c, nil
	}
	return base
}

// ClientTLS is the configuration of a client that expects one of the given roles to answer. cert may be nil. The server is
// known by the name that the CA signed, whatever its address.
func ClientTLS(ca *x509.Certificate, cert *Holder, want ...Role) *tls.Config {
	c := &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, // addresses are not checked; VerifyConnection checks chain, use and name
		VerifyConnection: func(s tls.ConnectionState) error {
			id, err := verify(ca, s.PeerCertificates, x509.ExtKeyUsageServerAuth)
			if err != nil {
				return err
			}
			if !slices.Contains(want, id.Role) {
				return fmt.Errorf("%s answers, want a %s", id, want)
			}
			return nil
		},
	}
	if cert != nil {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert.cert.Load(), nil }
	}
	return c
}

// ErrNoCertificate says that a peer showed none.
var ErrNoCertificate = errors.New("no certificate was shown")

func verify(ca *x509.Certificate, certs []*x509.Certificate, use x509.ExtKeyUsage) (Identity, error) {
	if len(certs) == 0 {
		return Identity{}, ErrNoCertificate
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	if _, err := certs[0].Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{use}}); err != nil {
		return Identity{}, fmt.Errorf("certificate of %q: %w", certs[0].Subject.CommonName, err)
	}
	return ParseIdentity(certs[0].Subject.CommonName)
}

// PeerIdentity is who is at the other end of a connection whose handshake is done. ErrNoCertificate if it showed none.
func PeerIdentity(s tls.ConnectionState) (Identity, error) {
	if len(s.PeerCertificates) == 0 {
		return Identity{}, ErrNoCertificate
	}
	return ParseIdentity(s.PeerCertificates[0].Subject.CommonName)
}
