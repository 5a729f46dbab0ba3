package armbench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/understudy-ha/understudy/cloud/azure"
	"github.com/understudy-ha/understudy/cloud/azure/armsim"
)

// serial writes the way the original does: one thing after the other, each waited for. It looks at operations as
// often as the product's driver reads, so that the difference is the order alone.
type serial struct {
	sim      *armsim.Server
	client   http.Client
	endpoint string
	writes   int
}

func measureSerial(ctx context.Context, sim *armsim.Server, endpoint string, rt http.RoundTripper, row *Row) error {
	s := &serial{sim: sim, client: http.Client{Transport: rt}, endpoint: endpoint}
	begin := sim.Now()
	for _, nic := range nicNames {
		for _, w := range []struct{ nic, pip string }{{nicID("a", nic), ""}, {nicID("b", nic), pipID(nic)}, {nicID("b", nic), pipID(nic)}} {
			if err := s.write(ctx, w.nic, func(doc map[string]any) { setAddress(doc, w.pip) }); err != nil {
				return err
			}
		}
	}
	for _, name := range tableName {
		if err := s.write(ctx, tableID(name), func(doc map[string]any) { setHop(doc, address(1, 0)) }); err != nil {
			return err
		}
	}
	row.Serial = (sim.Now() - begin).Seconds()
	row.SerialWrites = s.writes
	return nil
}

// write reads, changes, writes and waits.
func (s *serial) write(ctx context.Context, id string, change func(map[string]any)) error {
	doc, err := s.send(ctx, http.MethodGet, id, nil)
	if err != nil {
		return err
	}
	change(doc)
	if _, err := s.send(ctx, http.MethodPut, id, doc); err != nil {
		return err
	}
	s.writes++
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(s.sim.Real(azure.DefaultPoll)):
		}
		doc, err := s.send(ctx, http.MethodGet, id, nil)
		if err != nil {
			return err
		}
		if state, _ := props(doc)["provisioningState"].(string); state == "Succeeded" {
			return nil
		}
	}
}

func (s *serial) send(ctx context.Context, method, id string, doc map[string]any) (map[string]any, error) {
	var body io.Reader
	if doc != nil {
		b, err := json.Marshal(doc)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	q, err := http.NewRequestWithContext(ctx, method, s.endpoint+id+"?api-version=2024-05-01", body)
	if err != nil {
		return nil, err
	}
	q.Header.Set("Authorization", "Bearer "+simToken)
	r, err := s.client.Do(q)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	if r.StatusCode >= 300 {
		return nil, fmt.Errorf("serial order: %s %s: %d %s", method, id, r.StatusCode, b)
	}
	var out map[string]any
	if err := json.Unmarshal(b, &out); err != nil {
		return nil, fmt.Errorf("serial order: %s %s: %w", method, id, err)
	}
	return out, nil
}

func props(doc map[string]any) map[string]any {
	p, _ := doc["properties"].(map[string]any)
	return p
}

// first gives the properties of the first element of a list.
func first(doc map[string]any, list string) map[string]any {
	l, _ := props(doc)[list].([]any)
	if len(l) == 0 {
		return map[string]any{}
	}
	e, _ := l[0].(map[string]any)
	return props(e)
}

func setAddress(nic map[string]any, pip string) {
	cfg := first(nic, "ipConfigurations")
	delete(cfg, "publicIPAddress")
	if pip != "" {
		cfg["publicIPAddress"] = map[string]any{"id": pip}
	}
}

func setHop(table map[string]any, hop string) { first(table, "routes")["nextHopIpAddress"] = hop }
