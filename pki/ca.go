// Package pki is who is who in a cluster: its certificate authority, the certificates of
// controllers, nodes and people, the TLS configurations that check them, the proof
// that a cluster id is genuine, and the key that seals secrets in the store.
//
// Inside a cluster a peer is known by the common name that the CA signed, never by
// its address: certificates carry addresses only for outsiders like curl.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"
)

// How long certificates live. A CertLife certificate is renewed when a third of it is left, see RenewAt.
const (
	CALife   = 10 * 365 * 24 * time.Hour
	CertLife = 90 * 24 * time.Hour
	UserLife = 365 * 24 * time.Hour
	// skew is how far back certificates are dated, for machines whose clocks run behind.
	skew = 10 * time.Minute
)

// CA is a cluster's certificate authority. It is immutable and safe for concurrent use.
type CA struct {
	Cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewCA makes an authority with an ECDSA P-256 key.
func NewCA(now time.Time) (*CA, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "understudy-ca"},
		NotBefore: now.Add(-skew), NotAfter: now.Add(CALife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("create the CA: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	return &CA{cert, key}, err
}

// LoadCA reads an authority from PEM.
func LoadCA(certPEM, keyPEM []byte) (*CA, error) {
	cert, err := ParseCert(certPEM)
	if err != nil {
		return nil, fmt.Errorf("CA certificate: %w", err)
	}
	key, err := ParseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("CA key: %w", err)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New("CA key does not belong to the CA certificate")
	}
	return &CA{cert, key}, nil
}

// CertPEM gives the certificate.
func (c *CA) CertPEM() []byte { return EncodeCert(c.Cert.Raw) }

// KeyPEM gives the private key. Seal it before it is stored.
func (c *CA) KeyPEM() ([]byte, error) { return EncodeKey(c.key) }

// Request says what a certificate is for.
type Request struct {
	// CN is the common name, one of the Names.
	CN string
	// Public key that is certified.
	Public *ecdsa.PublicKey
	// Server lets the holder listen; DNS and IPs are for outsiders who check addresses.
	Server bool
	DNS    []string
	IPs    []net.IP
	// Life counts from now.
	Life time.Duration
}

// Issue signs a certificate and gives it in DER.
func (c *CA) Issue(now time.Time, r Request) (*x509.Certificate, error) {
	if _, err := ParseIdentity(r.CN); err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	usage := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if r.Server {
		usage = append(usage, x509.ExtKeyUsageServerAuth)
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: r.CN},
		NotBefore: now.Add(-skew), NotAfter: now.Add(r.Life),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: usage,
		DNSNames: r.DNS, IPAddresses: r.IPs, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, c.Cert, r.Public, c.key)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate to %s: %w", r.CN, err)
	}
	return x509.ParseCertificate(der)
}

// SignCSR certifies the key of a certificate request (DER PKCS#10) under cn. Whatever names the request asks for are
// ignored: the caller has decided who it is.
func (c *CA) SignCSR(now time.Time, csr []byte, r Request) (*x509.Certificate, error) {
	req, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	if err := req.CheckSignature(); err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	pub, ok := req.PublicKey.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return nil, errors.New("certificate request: want an ECDSA P-256 key")
	}
	r.Public = pub
	return c.Issue(now, r)
}

// proofText is what the CA signs to vouch for a cluster id.
func proofText(clusterID string) []byte {
	h := sha256.Sum256([]byte("understudy-cluster:" + clusterID))
	return h[:]
}

// Prove signs a cluster id.
func (c *CA) Prove(clusterID string) ([]byte, error) {
	return ecdsa.SignASN1(rand.Reader, c.key, proofText(clusterID))
}

// VerifyCluster tells whether the CA signed clusterID.
func VerifyCluster(ca *x509.Certificate, clusterID string, proof []byte) error {
	pub, ok := ca.PublicKey.(*ecdsa.PublicKey)
	if !ok || !ecdsa.VerifyASN1(pub, proofText(clusterID), proof) {
		return fmt.Errorf("cluster %s: the CA did not sign it", clusterID)
	}
	return nil
}

// RenewAt is when a certificate should be replaced: when a third of its life is left.
func RenewAt(cert *x509.Certificate) time.Time {
	return cert.NotAfter.Add(-cert.NotAfter.Sub(cert.NotBefore) / 3)
}

// NewKey makes an ECDSA P-256 key.
func NewKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// NewCSR makes a certificate request for key, in DER.
func NewCSR(key *ecdsa.PrivateKey) ([]byte, error) {
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
}

// EncodeCert writes a certificate as PEM.
func EncodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// EncodeKey writes a private key as PEM.
func EncodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// ParseCert reads the first certificate of a PEM text.
func ParseCert(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("no certificate in PEM form")
	}
	return x509.ParseCertificate(block.Bytes)
}

// ParseKey reads an ECDSA private key in PEM.
func ParseKey(text []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("no private key in PEM form")
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("private key is %T, want ECDSA", k)
	}
	return key, nil
}

func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
}
