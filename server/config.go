package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/lead"
	"github.com/understudy-ha/understudy/notify"
)

// Config of one controller: server.yaml in its directory, under the flags.
type Config struct {
	// Name of this controller within the cluster. Default c1.
	Name string `json:"name,omitempty"`
	// Listen is where people and tools reach the API. Default 127.0.0.1:8443.
	Listen string `json:"listen,omitempty"`
	// ClusterListen is where agents and the other controllers reach it. Default 127.0.0.1:7443.
	ClusterListen string `json:"clusterListen,omitempty"`
	// Peers lists every controller, this one too, with the address of its clusterListen as others dial it. All
	// controllers have the same list. Default: this one alone.
	Peers map[string]string `json:"peers,omitempty"`
	// Servers lists the API addresses of every controller, for client.yaml. Default: listen.
	Servers []string `json:"servers,omitempty"`
	// Store says where state lives.
	Store StoreConfig `json:"store,omitzero"`
	// Lease is the election's timing; the same on all controllers.
	Lease LeaseConfig `json:"lease,omitzero"`
	// Retention says how long things of the past are kept.
	Retention Retention `json:"retention,omitzero"`
	// Audit says how much of the audit is kept.
	Audit AuditConfig `json:"audit,omitzero"`
	// Operators are the prefixes that people come from, in CIDR form: doctor and admission look whether they could
	// still reach the controllers while an appliance is dead.
	Operators []string `json:"operators,omitempty"`
	// HooksDir holds the programs that hooks and notifications may run. Default: hooks in the directory.
	HooksDir string `json:"hooksDir,omitempty"`
	// Notify says who hears of events.
	Notify NotifyConfig `json:"notify,omitzero"`
	// LogLevel is debug, info (default), warn or error.
	LogLevel string `json:"logLevel,omitempty"`
}

// StoreConfig says where state lives.
type StoreConfig struct {
	// Type is etcd (default) or zookeeper.
	Type string `json:"type,omitempty"`
	// Endpoints of servers elsewhere: URLs for etcd, host:port for zookeeper. Without any, etcd runs inside the controller.
	Endpoints []string `json:"endpoints,omitempty"`
	// TLS towards Endpoints. Default: none; then the endpoints should be on a trusted network.
	TLS *FilesConfig `json:"tls,omitempty"`
	// Etcd configures the embedded server.
	Etcd EtcdConfig `json:"etcd,omitzero"`
}

// FilesConfig names a certificate, its key and the CA of the other side; relative to the directory.
type FilesConfig struct {
	Cert string `json:"cert"`
	Key  string `json:"key"`
	CA   string `json:"ca"`
}

// EtcdConfig of the embedded server.
type EtcdConfig struct {
	// PeerURL is where the other members reach this one; InitialCluster lists all as "c1=https://…,c2=…". Left out by a
	// controller alone.
	PeerURL        string `json:"peerURL,omitempty"`
	InitialCluster string `json:"initialCluster,omitempty"`
	// Heartbeat and Election of etcd's own leader election. Default 50ms and 500ms.
	Heartbeat api.Duration `json:"heartbeat,omitempty"`
	Election  api.Duration `json:"election,omitempty"`
}

// LeaseConfig is the timing of the election.
type LeaseConfig struct {
	// TTL: 300ms to 1h. Default 3s.
	TTL api.Duration `json:"ttl,omitempty"`
	// Margin: a twentieth to a third of TTL. Default 500ms.
	Margin api.Duration `json:"margin,omitempty"`
}

// Retention says how long things of the past are kept.
type Retention struct {
	// Events: 1h to 8760h. Default 168h.
	Events api.Duration `json:"events,omitempty"`
	// Jobs that have ended: 1h to 87600h. Default 2160h.
	Jobs api.Duration `json:"jobs,omitempty"`
}

// AuditConfig says how much of the audit is kept.
type AuditConfig struct {
	// FileMB: a file that has grown to so many megabytes (10^6 bytes) is put aside: 1 to 10000. Default 64.
	FileMB int `json:"fileMB,omitempty"`
	// Keep is how many files that were put aside stay: 1 to 10000. Default 16.
	Keep int `json:"keep,omitempty"`
}

func (c AuditConfig) limits() AuditLimits { return AuditLimits{int64(c.FileMB) * 1e6, c.Keep} }

// NotifyConfig says who hears of events.
type NotifyConfig struct {
	// Webhooks get each event as JSON by POST.
	Webhooks []string `json:"webhooks,omitempty"`
	// Exec names programs in HooksDir that get each event as JSON on standard input.
	Exec []string `json:"exec,omitempty"`
	// Mail are servers that mail each event to people. File names are relative to the directory.
	Mail []notify.Mail `json:"mail,omitempty"`
	// MinSeverity is Info, Warning (default) or Critical.
	MinSeverity api.Severity `json:"minSeverity,omitempty"`
}

// The store types.
const (
	StoreEtcd      = "etcd"
	StoreZooKeeper = "zookeeper"
)

// LoadConfig reads server.yaml in dir; without the file it is the zero Config.
func LoadConfig(dir string) (Config, error) {
	var c Config
	b, err := os.ReadFile(filepath.Join(dir, "server.yaml"))
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	doc, err := yaml.YAMLToJSONStrict(b)
	if err == nil {
		err = strict(doc, &c)
	}
	if err != nil {
		return c, fmt.Errorf("%s: %w", filepath.Join(dir, "server.yaml"), err)
	}
	return c, nil
}

// strict decodes JSON and refuses fields that do not exist.
func strict(doc []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(doc))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil && d.More() {
		err = errors.New("more after the first value")
	}
	if err != nil {
		return invalid("", strings.TrimPrefix(err.Error(), "json: "), "JSON with known fields")
	}
	return nil
}

// Save writes server.yaml in dir.
func (c Config) Save(dir string) error {
	b, err := yaml.Marshal(c)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "server.yaml"), b, 0o600)
}

// Default fills in what was left out. dir is the controller's directory.
func (c *Config) Default(dir string) {
	set(&c.Name, "c1")
	set(&c.Listen, "127.0.0.1:8443")
	set(&c.ClusterListen, "127.0.0.1:7443")
	if len(c.Peers) == 0 {
		c.Peers = map[string]string{c.Name: c.ClusterListen}
	}
	if len(c.Servers) == 0 {
		c.Servers = []string{"https://" + c.Listen}
	}
	set(&c.Store.Type, StoreEtcd)
	set(&c.Store.Etcd.Heartbeat, api.Duration(50*time.Millisecond))
	set(&c.Store.Etcd.Election, api.Duration(500*time.Millisecond))
	set(&c.Lease.TTL, api.Duration(lead.DefaultTiming.TTL))
	if c.Lease.Margin == 0 {
		c.Lease.Margin = min(api.Duration(lead.DefaultTiming.Margin), c.Lease.TTL/6)
	}
	set(&c.Retention.Events, api.Duration(7*24*time.Hour))
	set(&c.Retention.Jobs, api.Duration(90*24*time.Hour))
	set(&c.Audit.FileMB, 64)
	set(&c.Audit.Keep, 16)
	set(&c.HooksDir, filepath.Join(dir, "hooks"))
	set(&c.Notify.MinSeverity, api.Warning)
	for i := range c.Notify.Mail {
		c.Notify.Mail[i].Default(dir)
	}
	set(&c.LogLevel, "info")
}

func set[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// Timing of the lease.
func (c Config) Timing() lead.Timing {
	return lead.Timing{TTL: c.Lease.TTL.D(), Margin: c.Lease.Margin.D()}
}

// Validate reports everything that is wrong, as an *api.Invalid.
func (c Config) Validate() error {
	var bad api.Invalid
	if !api.ValidName(c.Name) {
		bad.Add("name", c.Name, "a name of a-z, 0-9, - and .")
	}
	for field, addr := range map[string]string{"listen": c.Listen, "clusterListen": c.ClusterListen} {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			bad.Add(field, addr, "host:port")
		}
	}
	if _, ok := c.Peers[c.Name]; !ok {
		bad.Add("peers", fmt.Sprint(c.ControllerNames()), "a list that has "+c.Name+" too")
	}
	for name, addr := range c.Peers {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			bad.Add("peers."+name, addr, "host:port")
		}
	}
	if c.Store.Type != StoreEtcd && c.Store.Type != StoreZooKeeper {
		bad.Add("store.type", c.Store.Type, "etcd or zookeeper")
	}
	if c.Store.Type == StoreZooKeeper && len(c.Store.Endpoints) == 0 {
		bad.Add("store.endpoints", "", "the servers of the ensemble, as host:port")
	}
	if err := c.Timing().Validate(); err != nil {
		bad.Add("lease", fmt.Sprintf("%v with margin %v", c.Lease.TTL, c.Lease.Margin), err.Error())
	}
	if d := c.Retention.Events.D(); d < time.Hour || d > 8760*time.Hour {
		bad.Add("retention.events", d.String(), "1h to 8760h")
	}
	if d := c.Retention.Jobs.D(); d < time.Hour || d > 87600*time.Hour {
		bad.Add("retention.jobs", d.String(), "1h to 87600h")
	}
	for field, v := range map[string]int{"audit.fileMB": c.Audit.FileMB, "audit.keep": c.Audit.Keep} {
		if v < 1 || v > 10000 {
			bad.Add(field, fmt.Sprint(v), "1 to 10000")
		}
	}
	for i, o := range c.Operators {
		if _, err := netip.ParsePrefix(o); err != nil {
			bad.Add(fmt.Sprintf("operators[%d]", i), o, "a prefix in CIDR form")
		}
	}
	if !slices.Contains([]api.Severity{api.Info, api.Warning, api.Critical}, c.Notify.MinSeverity) {
		bad.Add("notify.minSeverity", string(c.Notify.MinSeverity), "Info, Warning or Critical")
	}
	for i, w := range c.Notify.Webhooks { // never shown: its path is often a secret
		if u, err := url.Parse(w); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			bad.Add(fmt.Sprintf("notify.webhooks[%d]", i), "a text that is none", "an absolute http or https URL")
		}
	}
	for i, m := range c.Notify.Mail {
		m.Validate(fmt.Sprintf("notify.mail[%d]", i), &bad)
	}
	for i, e := range c.Notify.Exec {
		if strings.ContainsAny(e, "/\x00") || strings.HasPrefix(e, ".") || e == "" {
			bad.Add(fmt.Sprintf("notify.exec[%d]", i), e, "the name of a file in the hooks directory")
		}
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.LogLevel) {
		bad.Add("logLevel", c.LogLevel, "debug, info, warn or error")
	}
	sort.Slice(bad.Fields, func(i, j int) bool { return bad.Fields[i].Field < bad.Fields[j].Field })
	return bad.Err()
}

// ControllerNames lists every controller, sorted.
func (c Config) ControllerNames() []string {
	var names []string
	for n := range c.Peers {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// PeerAddresses lists every controller's cluster address, by name.
func (c Config) PeerAddresses() []string {
	var out []string
	for _, n := range c.ControllerNames() {
		out = append(out, c.Peers[n])
	}
	return out
}
