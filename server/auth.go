package server

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/pki"
	"github.com/understudy-ha/understudy/store"
)

// principal is who asks, and what the role allows where.
type principal struct {
	name   string
	role   api.AccessRole
	tenant string // "*" for all
}

// sees tells whether the tenant exists for the principal.
func (p principal) sees(tenant string) bool {
	return p.tenant == api.AllTenants || tenant != api.AllTenants && p.tenant == tenant
}

// home is the tenant meant when none is named.
func (p principal) home() string {
	if p.tenant == api.AllTenants {
		return api.DefaultTenant
	}
	return p.tenant
}

// tokenDoc is how a token lies in the store: without its secret.
type tokenDoc struct {
	api.TokenInfo
	// Hash is SHA-256 of the secret: 32 random bytes need no slower hash.
	Hash []byte `json:"hash,omitempty"`
}

const (
	tokenPrefix    = "token/"
	tokenSecretLen = 32
	tokenMark      = "us"
)

// newToken makes a secret and what is kept of it.
func newToken(info api.TokenInfo) (secret string, doc tokenDoc) {
	id := make([]byte, 8)
	rand.Read(id)
	key := make([]byte, tokenSecretLen)
	rand.Read(key)
	info.ID = hex.EncodeToString(id)
	text := base64.RawURLEncoding.EncodeToString(key)
	sum := sha256.Sum256([]byte(text))
	return strings.Join([]string{tokenMark, info.ID, text}, "."), tokenDoc{info, sum[:]}
}

func splitToken(token string) (id, secret string, ok bool) {
	p := strings.Split(token, ".")
	if len(p) != 3 || p[0] != tokenMark || len(p[1]) != 16 || strings.Trim(p[1], "0123456789abcdef") != "" {
		return "", "", false
	}
	return p[1], p[2], true
}

// authority knows tokens and certificates.
type authority struct {
	store store.Store
	now   func() time.Time
}

var errUnknownToken = api.Errorf(api.CodeUnauthenticated, "the token is not known, has expired or was revoked")

// token finds the document of a token of a kind.
func (a *authority) token(ctx context.Context, token string, kind api.TokenKind) (tokenDoc, store.Entry, error) {
	id, secret, ok := splitToken(token)
	if !ok {
		return tokenDoc{}, store.Entry{}, errUnknownToken
	}
	doc, e, err := a.load(ctx, id)
	if err != nil {
		return tokenDoc{}, e, err
	}
	sum := sha256.Sum256([]byte(secret))
	if doc.Kind != kind || subtle.ConstantTimeCompare(sum[:], doc.Hash) != 1 {
		return tokenDoc{}, e, errUnknownToken
	}
	return doc, e, nil
}

// load reads a token's document and refuses one that has expired.
func (a *authority) load(ctx context.Context, id string) (tokenDoc, store.Entry, error) {
	e, err := a.store.Get(ctx, tokenPrefix+id)
	if errors.Is(err, store.ErrNotFound) {
		return tokenDoc{}, e, errUnknownToken
	}
	if err != nil {
		return tokenDoc{}, e, err
	}
	var doc tokenDoc
	if err := json.Unmarshal(e.Value, &doc); err != nil {
		return tokenDoc{}, e, fmt.Errorf("token %s: %w", id, err)
	}
	if !a.now().Before(doc.Expires) {
		return tokenDoc{}, e, errUnknownToken
	}
	return doc, e, nil
}

// who finds the principal of a request: a bearer token, or else a client certificate.
func (a *authority) who(r *http.Request) (principal, error) {
	if h := r.Header.Get("Authorization"); h != "" {
		token, ok := strings.CutPrefix(h, "Bearer ")
		if !ok {
			return principal{}, api.Errorf(api.CodeUnauthenticated, "want \"Authorization: Bearer TOKEN\"")
		}
		doc, _, err := a.token(r.Context(), strings.TrimSpace(token), api.TokenBearer)
		return principal{doc.User, doc.Role, doc.Tenant}, err
	}
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return principal{}, api.Errorf(api.CodeUnauthenticated, "no credential: send a bearer token or a client certificate")
	}
	cert := r.TLS.PeerCertificates[0]
	id, err := pki.PeerIdentity(*r.TLS)
	if err != nil || id.Role != pki.RoleUser {
		return principal{}, api.Errorf(api.CodeUnauthenticated, "certificate of %q: only users' certificates open this", cert.Subject.CommonName)
	}
	doc, _, err := a.load(r.Context(), certTokenID(cert.SerialNumber.Bytes()))
	if err == nil && (doc.Kind != api.TokenCertificate || doc.User != id.Name) {
		err = errUnknownToken
	}
	return principal{doc.User, doc.Role, doc.Tenant}, err
}

// certTokenID is the id of the token that stands for a certificate: revoking it ends the certificate's use.
func certTokenID(serial []byte) string {
	sum := sha256.Sum256(serial)
	return hex.EncodeToString(sum[:8])
}
