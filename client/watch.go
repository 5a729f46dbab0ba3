package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/understudy-ha/understudy/api"
)

// Event is what a watch tells.
type Event struct {
	// Type is put, delete or sync.
	Type string
	// Object as it is; with delete only its header. nil with sync.
	Object api.Object
}

// maxEvent is the longest line of a watch, in bytes: a resource with its status.
const maxEvent = 2 << 20

// Watch tells f of everything that is there, then "sync", then of every change, until ctx ends, f gives an error or the
// connection breaks. States may be skipped; the last one never is.
func (c *Client) Watch(ctx context.Context, kind api.Kind, tenant, name string, f func(Event) error) error {
	resp, err := c.send(ctx, http.MethodGet, Path(kind, ""), Query{"tenant": tenant, "watch": "1", "name": name}, "", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	in := bufio.NewScanner(resp.Body)
	in.Buffer(make([]byte, 0, 64<<10), maxEvent)
	typ := ""
	for in.Scan() {
		line := in.Text()
		switch {
		case strings.HasPrefix(line, "event: "):
			typ = strings.TrimPrefix(line, "event: ")
		case strings.HasPrefix(line, "data: "):
			e, err := event(kind, typ, []byte(strings.TrimPrefix(line, "data: ")))
			if err != nil {
				return err
			}
			if err := f(e); err != nil {
				return err
			}
		}
	}
	return errors.Join(ctx.Err(), in.Err(), fmt.Errorf("watch ended: %w", io.ErrUnexpectedEOF))
}

func event(kind api.Kind, typ string, data []byte) (Event, error) {
	if typ == "sync" {
		return Event{Type: typ}, nil
	}
	info, _ := api.LookupKind(string(kind))
	o := info.New()
	if err := json.Unmarshal(data, o); err != nil {
		return Event{}, fmt.Errorf("watch: %w", err)
	}
	return Event{Type: typ, Object: o}, nil
}
