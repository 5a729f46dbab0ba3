package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/understudy-ha/understudy/api"
)

// TestExamplesAreValid: what docs/examples shows is accepted once the keys are put in, and leaves no kind out that a machine needs.
func TestExamplesAreValid(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "examples", "machine.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text = []byte(strings.ReplaceAll(string(text), "age1…", "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"))
	docs, err := parseManifest("machine.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[api.Kind]bool{}
	for _, d := range docs {
		kinds[d.object.Head().Kind] = true
	}
	for _, k := range []api.Kind{api.KindSite, api.KindFabric, api.KindSecret, api.KindVault, api.KindReplicationPolicy, api.KindProcessServer, api.KindProtectedMachine} {
		if !kinds[k] {
			t.Errorf("there is no %s", k)
		}
	}
}
