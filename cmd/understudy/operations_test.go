package main

import (
	"slices"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// TestEveryOperationIsAVerb: the table has each operation once, under the name that people know, and with the flags that the API takes.
func TestEveryOperationIsAVerb(t *testing.T) {
	var have []api.OperationKind
	root := newTestRoot()
	for _, v := range operationVerbs() {
		have = append(have, v.op)
		cmd, _, err := root.Find([]string{v.name})
		if err != nil || cmd.Name() != v.name {
			t.Errorf("%s is no verb: %v", v.name, err)
			continue
		}
		for _, f := range []struct {
			flag string
			q    api.Operation
		}{{"point", api.Operation{Operation: v.op, Point: &api.PointChoice{Kind: api.PointLatest}}}, {"shutdown-source", api.Operation{Operation: v.op, ShutdownSource: true}},
			{"notes", api.Operation{Operation: v.op, Notes: "x"}}} {
			if takes, has := api.CheckOperation(&f.q, api.Operations()) == nil, cmd.Flags().Lookup(f.flag) != nil; takes != has {
				t.Errorf("%s has --%s: %v, the API takes it: %v", v.name, f.flag, has, takes)
			}
		}
	}
	for _, op := range api.Operations() {
		if n := len(slices.DeleteFunc(slices.Clone(have), func(o api.OperationKind) bool { return o != op })); n != 1 {
			t.Errorf("%s is %d times in the table", op, n)
		}
	}
}

func TestParsePoint(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 5, 0, time.UTC)
	for text, want := range map[string]api.PointChoice{
		"latest": {Kind: api.PointLatest}, "LatestProcessed": {Kind: api.PointLatestProcessed}, "latestAppConsistent": {Kind: api.PointLatestAppConsistent},
		"k7x2": {Kind: api.PointCustom, ID: "k7x2"}, "2026-03-01T12:00:05Z": {Kind: api.PointCustom, At: at},
		at.Local().Format("2006-01-02 15:04:05"):         {Kind: api.PointCustom, At: at},
		at.Local().Format("2006-01-02 15:04:05") + ".25": {Kind: api.PointCustom, At: at.Add(250 * time.Millisecond)},
	} {
		got, err := parsePoint(text)
		if err != nil || got.Kind != want.Kind || got.ID != want.ID || !got.At.Equal(want.At) {
			t.Errorf("%q is %+v (%v), want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"last Tuesday", "custom", "2026-03-01 25:00"} {
		if got, err := parsePoint(text); err == nil {
			t.Errorf("%q is taken as %+v", text, got)
		}
	}
	if got, err := parsePoint(""); got != nil || err != nil {
		t.Errorf("nothing is %+v, %v", got, err)
	}
}
