package server

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/pki"
	"github.com/understudy-ha/understudy/store"
	"github.com/understudy-ha/understudy/wire"
)

// tokens makes, lists and revokes tokens.
type tokens struct {
	store       store.Store
	ca          func() *pki.CA
	now         func() time.Time
	controllers []string // where agents enrol
}

func checkTokenRequest(q *api.TokenRequest) error {
	var bad api.Invalid
	if q.Tenant == "" {
		q.Tenant = api.DefaultTenant
	}
	if q.Tenant != api.AllTenants && !api.ValidName(q.Tenant) {
		bad.Add("tenant", fmt.Sprintf("%q", q.Tenant), `a tenant's name, or "*"`)
	}
	switch {
	case (q.Node == "") == (q.User == ""):
		bad.Add("node", q.Node, "exactly one of node and user")
	case q.Node != "":
		if !api.ValidName(q.Node) {
			bad.Add("node", fmt.Sprintf("%q", q.Node), "a node's name")
		}
		if q.Tenant == api.AllTenants {
			bad.Add("tenant", `"*"`, "one tenant: a node belongs to one")
		}
		if q.Role != "" || len(q.CSR) > 0 {
			bad.Add("role", string(q.Role), "no role and no certificate request with a node")
		}
	default:
		if !api.ValidName(q.User) {
			bad.Add("user", fmt.Sprintf("%q", q.User), "a name of a-z, 0-9, - and .")
		}
		if !slices.Contains([]api.AccessRole{api.Viewer, api.Operator, api.Admin}, q.Role) {
			bad.Add("role", string(q.Role), "one of viewer, operator, admin")
		}
	}
	if q.Life == 0 {
		q.Life = api.Duration(365 * 24 * time.Hour)
		if q.Node != "" {
			q.Life = api.Duration(time.Hour)
		}
	}
	if d := q.Life.D(); d < time.Minute || d > 365*24*time.Hour {
		bad.Add("life", d.String(), "1m to 8760h")
	}
	return bad.Err()
}

// create makes a token. Its secret leaves here and is not kept.
func (t *tokens) create(ctx context.Context, by string, q api.TokenRequest) (api.TokenReply, error) {
	info := api.TokenInfo{Kind: api.TokenBearer, Node: q.Node, User: q.User, Role: q.Role, Tenant: q.Tenant,
		Created: t.now().UTC(), Expires: t.now().Add(q.Life.D()).UTC(), By: by}
	reply := api.TokenReply{CA: string(t.ca().CertPEM()), Controllers: t.controllers}
	var doc tokenDoc
	switch {
	case len(q.CSR) > 0:
		cert, err := t.ca().SignCSR(t.now(), q.CSR, pki.Request{CN: pki.User(q.User).String(), Life: q.Life.D()})
		if err != nil {
			return reply, invalid("csr", "a request", err.Error())
		}
		info.Kind = api.TokenCertificate
		info.ID = certTokenID(cert.SerialNumber.Bytes())
		doc = tokenDoc{TokenInfo: info}
		reply.Certificate = string(pki.EncodeCert(cert.Raw))
	case q.Node != "":
		info.Kind = api.TokenNode
		fallthrough
	default:
		reply.Token, doc = newToken(info)
	}
	reply.TokenInfo = doc.TokenInfo
	if doc.Kind == api.TokenNode {
		reply.Token = wire.JoinToken(reply.Token, t.ca().Cert.Raw)
	}
	return reply, t.save(ctx, doc)
}

func (t *tokens) save(ctx context.Context, doc tokenDoc) error {
	value, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	key := tokenPrefix + doc.ID
	_, err = t.store.Txn(ctx, []store.Cond{{Key: key}}, []store.Op{{Key: key, Value: value}})
	return err
}

// list gives the tokens that a tenant ("*": all) has and that have not expired.
func (t *tokens) list(ctx context.Context, tenant string) ([]api.TokenInfo, error) {
	es, err := t.store.List(ctx, tokenPrefix)
	if err != nil {
		return nil, err
	}
	out := []api.TokenInfo{}
	for _, e := range es {
		var doc tokenDoc
		if err := json.Unmarshal(e.Value, &doc); err != nil {
			return nil, fmt.Errorf("token %s: %w", e.Key, err)
		}
		if (tenant == api.AllTenants || doc.Tenant == tenant) && t.now().Before(doc.Expires) {
			out = append(out, doc.TokenInfo)
		}
	}
	return out, nil
}

// revoke removes a token that the principal may see.
func (t *tokens) revoke(ctx context.Context, p principal, id string) (tokenDoc, error) {
	none := api.Errorf(api.CodeNotFound, "token %s is not there", id)
	if store.ValidKey(tokenPrefix+id) != nil {
		return tokenDoc{}, none
	}
	e, err := t.store.Get(ctx, tokenPrefix+id)
	if isStoreNotFound(err) {
		return tokenDoc{}, none
	}
	if err != nil {
		return tokenDoc{}, err
	}
	var doc tokenDoc
	if err := json.Unmarshal(e.Value, &doc); err != nil {
		return doc, fmt.Errorf("token %s: %w", id, err)
	}
	if !p.sees(doc.Tenant) && p.tenant != api.AllTenants {
		return tokenDoc{}, none
	}
	_, err = t.store.Txn(ctx, []store.Cond{{Key: e.Key, Rev: e.Rev}}, []store.Op{{Key: e.Key, Delete: true}})
	return doc, err
}

// enrol turns a node's one-time token into a certificate, and makes the Node known. The token is used up in the same
// transaction.
func (t *tokens) enrol(ctx context.Context, a *authority, token string, csr []byte) (tokenDoc, *x509.Certificate, error) {
	doc, e, err := a.token(ctx, token, api.TokenNode)
	if err != nil {
		return doc, nil, err
	}
	cert, err := t.nodeCert(doc.Tenant, doc.Node, csr)
	if err != nil {
		return doc, nil, err
	}
	node := &api.Node{Header: api.Header{Metadata: api.Metadata{Name: doc.Node, Tenant: doc.Tenant, Generation: 1, Created: t.now().UTC(), Updated: t.now().UTC()}}}
	node.Default()
	key := api.ObjectKey(node.Ref())
	conds := []store.Cond{{Key: e.Key, Rev: e.Rev}}
	ops := []store.Op{{Key: e.Key, Delete: true}}
	if _, err := t.store.Get(ctx, key); isStoreNotFound(err) {
		value, err := json.Marshal(node)
		if err != nil {
			return doc, nil, err
		}
		conds, ops = append(conds, store.Cond{Key: key}), append(ops, store.Op{Key: key, Value: value})
	} else if err != nil {
		return doc, nil, err
	}
	if _, err := t.store.Txn(ctx, conds, ops); err != nil {
		return doc, nil, fmt.Errorf("enrol %s/%s: %w", doc.Tenant, doc.Node, err)
	}
	return doc, cert, nil
}

// nodeCert certifies a node's key. Nodes listen too, for each other.
func (t *tokens) nodeCert(tenant, node string, csr []byte) (*x509.Certificate, error) {
	cert, err := t.ca().SignCSR(t.now(), csr, pki.Request{CN: pki.Node(tenant, node).String(), Server: true, Life: pki.CertLife})
	if err != nil {
		return nil, invalid("csr", "a request", err.Error())
	}
	return cert, nil
}
