package hanva

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/understudy-ha/understudy/api"
)

// The daemon's file, as far as it says something. Times are in milliseconds.
type (
	config struct {
		Zookeeper zookeeper `json:"zookeeper"`
		Daemon    daemon    `json:"daemon"`
	}
	zookeeper struct {
		ConnectionString   string `json:"connectionString"`
		RetrySleepTime     *int   `json:"retrySleepTime"`
		NumberOfRetries    *int   `json:"numberOfRetries"`
		LeaderSelectorPath string `json:"leaderSelectorPath"`
	}
	daemon struct {
		ShutdownAwaitTime *int      `json:"shutdownAwaitTime"`
		Monitors          []monitor `json:"monitors"`
	}
	monitor struct {
		MonitorClass string   `json:"monitorClass"`
		Settings     settings `json:"settings"`
	}
	settings struct {
		Azure                     azureSettings `json:"azure"`
		NumberOfFailuresThreshold *int          `json:"numberOfFailuresThreshold"`
		ProbeConnectTimeout       *int          `json:"probeConnectTimeout"`
		ProbePollingInterval      *int          `json:"probePollingInterval"`
		RouteTables               []string      `json:"routeTables"`
		PublicIPAddresses         []named       `json:"publicIpAddresses"`
		NVAs                      []nva         `json:"nvas"`
	}
	azureSettings struct {
		SubscriptionID   string    `json:"subscriptionId"`
		ServicePrincipal principal `json:"servicePrincipal"`
	}
	principal struct {
		ClientID          string       `json:"clientId"`
		TenantID          string       `json:"tenantId"`
		ClientSecret      string       `json:"clientSecret"`
		ClientCertificate *certificate `json:"clientCertificate"`
		certificate                    // older files have its fields here
	}
	certificate struct {
		KeyStorePath        string `json:"keyStorePath"`
		KeyStorePassword    string `json:"keyStorePassword"`
		CertificatePassword string `json:"certificatePassword"`
	}
	nva struct {
		NetworkInterfaces     []named `json:"networkInterfaces"`
		ProbeNetworkInterface string  `json:"probeNetworkInterface"`
		ProbePort             int     `json:"probePort"`
	}
	named struct {
		Name string `json:"name"`
		ID   string `json:"id"`
	}
)

// parse reads the file, and lists the fields that the daemon does not know either.
func parse(doc []byte) (c config, unknown []string, err error) {
	d := json.NewDecoder(bytes.NewReader(doc))
	if err := d.Decode(&c); err != nil {
		return c, nil, &api.Invalid{Fields: []api.FieldError{{Field: "", Value: fmt.Sprintf("%v (at byte %d)", err, d.InputOffset()), Want: "the JSON file of the ha-nva daemon"}}}
	}
	var tree any
	if err := json.Unmarshal(doc, &tree); err != nil {
		return c, nil, &api.Invalid{Fields: []api.FieldError{{Field: "", Value: err.Error(), Want: "one JSON object"}}}
	}
	return c, unknownFields("", tree, reflect.TypeFor[config]()), nil
}

// unknownFields lists the paths in tree for which t has no field, in order.
func unknownFields(path string, tree any, t reflect.Type) (out []string) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch v := tree.(type) {
	case []any:
		for i, e := range v {
			if t.Kind() == reflect.Slice {
				out = append(out, unknownFields(fmt.Sprintf("%s[%d]", path, i), e, t.Elem())...)
			}
		}
	case map[string]any:
		if t.Kind() != reflect.Struct {
			return nil
		}
		var names []string
		for name := range v {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			at := strings.TrimPrefix(path+"."+name, ".")
			if f, ok := fieldNamed(t, name); ok {
				out = append(out, unknownFields(at, v[name], f.Type)...)
			} else {
				out = append(out, at)
			}
		}
	}
	return out
}

func fieldNamed(t reflect.Type, name string) (reflect.StructField, bool) {
	for _, f := range reflect.VisibleFields(t) {
		if f.Tag.Get("json") == name {
			return f, true
		}
	}
	return reflect.StructField{}, false
}
