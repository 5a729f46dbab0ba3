package api

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// names refuses what is no list of different names.
func (e *Invalid) names(field string, list []string) {
	seen := unique{}
	for i, n := range list {
		at := fmt.Sprintf("%s[%d]", field, i)
		e.name(at, n)
		seen.check(e, at, n)
	}
}

// Validate implements Object.
func (s *Site) Validate() error {
	var e Invalid
	e.header(&s.Header, KindSite)
	e.names("spec.controllers", s.Spec.Controllers)
	e.names("spec.nodes", s.Spec.Nodes)
	for i, n := range s.Spec.StoreNodes {
		e.hostPort(fmt.Sprintf("spec.storeNodes[%d]", i), n, false)
	}
	return e.Err()
}

// Validate implements Object.
func (f *Fabric) Validate() error {
	var e Invalid
	e.header(&f.Header, KindFabric)
	switch f.Spec.Type {
	case FabricVSphere, FabricAzure:
		e.Add("spec.type", quote(string(f.Spec.Type)), "qemu: this version runs machines on no other")
	default:
		oneOf(&e, "spec.type", f.Spec.Type, FabricQEMU)
	}
	e.name("spec.site", f.Spec.Site)
	if len(f.Spec.Nodes) == 0 {
		e.Add("spec.nodes", "", "at least one node")
	}
	e.names("spec.nodes", f.Spec.Nodes)
	return e.Err()
}

// Validate implements Object.
func (v *Vault) Validate() error {
	var e Invalid
	e.header(&v.Header, KindVault)
	s := &v.Spec
	e.name("spec.site", s.Site)
	e.vaultURL("spec.url", s.URL)
	if s.CredentialsRef != "" {
		e.name("spec.credentialsRef", s.CredentialsRef)
	}
	if !ageRecipient(s.Recipient) {
		e.Add("spec.recipient", quote(s.Recipient), "an age public key: age1 and 58 letters and digits, as age-keygen shows it")
	}
	e.name("spec.keyRef", s.KeyRef)
	e.name("spec.keeper", s.Keeper)
	oneOf(&e, "spec.tier", s.Tier, TierPremium, TierStandard, TierOwn)
	switch s.Tier {
	case TierPremium:
		e.span("spec.maxRetention", s.MaxRetention, 24*time.Hour, 24*time.Hour)
	case TierStandard:
		e.span("spec.maxRetention", s.MaxRetention, 72*time.Hour, 72*time.Hour)
	default:
		e.span("spec.maxRetention", s.MaxRetention, time.Hour, MaxRetention)
	}
	return e.Err()
}

// ageRecipient tells whether s has the form of an X25519 recipient (bech32 of 32 bytes).
func ageRecipient(s string) bool {
	data, ok := strings.CutPrefix(s, "age1")
	return ok && len(data) == 58 && strings.Trim(data, "qpzry9x8gf2tvdw0s3jn54khce6mua7l") == ""
}

func (e *Invalid) vaultURL(field, v string) {
	const want = "file:///dir, azblob://account/container/prefix or s3://bucket/prefix, without a user or a secret"
	u, err := url.Parse(v)
	if err != nil || u.User != nil || u.Fragment != "" {
		e.Add(field, quote(v), want)
		return
	}
	switch u.Scheme {
	case "file":
		if u.Host != "" || !strings.HasPrefix(u.Path, "/") || len(u.Path) < 2 {
			e.Add(field, quote(v), "file:/// and an absolute directory other than /")
		}
	case "azblob":
		if u.Host == "" || len(strings.Trim(u.Path, "/")) == 0 {
			e.Add(field, quote(v), "azblob://account/container, and a prefix if wanted")
		}
	case "s3":
		if u.Host == "" {
			e.Add(field, quote(v), "s3://bucket, and a prefix if wanted")
		}
	default:
		e.Add(field, quote(v), want)
	}
}

// Validate implements Object.
func (p *ReplicationPolicy) Validate() error {
	var e Invalid
	e.header(&p.Header, KindReplicationPolicy)
	s := &p.Spec
	e.span("spec.rpoThreshold", s.RPOThreshold, time.Minute, 24*time.Hour)
	e.span("spec.retention", s.Retention, time.Hour, MaxRetention)
	if app := s.AppEvery(); app != 0 {
		e.span("spec.appConsistentEvery", app, time.Hour, 12*time.Hour)
		if app >= s.Retention {
			e.Add("spec.appConsistentEvery", app.String(), "less than spec.retention ("+short(s.Retention.D())+"), or 0s for never")
		}
	}
	e.span("spec.crashConsistentEvery", s.CrashConsistentEvery, time.Second, time.Hour)
	return e.Err()
}

// Validate implements Object.
func (p *ProcessServer) Validate() error {
	var e Invalid
	e.header(&p.Header, KindProcessServer)
	s := &p.Spec
	e.name("spec.node", s.Node)
	e.name("spec.site", s.Site)
	roles := unique{}
	for i, r := range s.Roles {
		at := fmt.Sprintf("spec.roles[%d]", i)
		oneOf(&e, at, r, RoleProtection, RoleReprotection)
		roles.check(&e, at, string(r))
	}
	e.hostPort("spec.address", s.Address, false)
	e.hostPort("spec.listen", s.Listen, true)
	if s.Spool.Dir != "" && !strings.HasPrefix(s.Spool.Dir, "/") {
		e.Add("spec.spool.dir", quote(s.Spool.Dir), "an absolute path")
	}
	e.bytes("spec.spool.maxBytes", s.Spool.MaxBytes, 64<<20, 16<<40)
	for i, w := range s.Bandwidth {
		e.window(fmt.Sprintf("spec.bandwidth[%d]", i), w)
	}
	return e.Err()
}

func (e *Invalid) bytes(field string, v, from, to int64) {
	if v < from || v > to {
		e.Add(field, fmt.Sprint(v), fmt.Sprintf("%d to %d bytes", from, to))
	}
}

func (e *Invalid) window(field string, w BandwidthWindow) {
	days := unique{}
	for i, d := range w.Days {
		at := fmt.Sprintf("%s.days[%d]", field, i)
		oneOf(e, at, d, "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
		days.check(e, at, d)
	}
	for _, t := range []struct{ field, v string }{{".from", w.From}, {".to", w.To}} {
		if _, err := time.Parse("15:04", t.v); err != nil {
			e.Add(field+t.field, quote(t.v), `a time of the day, like "08:30"`)
		}
	}
	if w.Kbps != 0 {
		if w.Kbps < 64 || w.Kbps > 1<<32 {
			e.Add(field+".kbps", fmt.Sprint(w.Kbps), "0, which stops shipping, or 64 to 4294967296")
		}
	}
}

// hostPort refuses what is no host:port; the host may be left out where something listens.
func (e *Invalid) hostPort(field, v string, anyHost bool) {
	host, port, err := net.SplitHostPort(v)
	n, perr := strconv.ParseUint(port, 10, 16)
	if err != nil || perr != nil || n == 0 || host == "" && !anyHost || strings.ContainsAny(host, "/ \t\r\n") {
		want := `host:port, like "10.0.0.5:9443"`
		if anyHost {
			want = `host:port or ":port"`
		}
		e.Add(field, quote(v), want)
	}
}
