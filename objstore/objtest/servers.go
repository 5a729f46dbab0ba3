package objtest

import (
	"os/exec"
	"strconv"
	"testing"
)

// The account that Azurite knows; the key is in its documentation.
const (
	AzuriteAccount = "devstoreaccount1"
	azuriteKey     = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

// Azurite starts a blob service that ends with the test. It keeps its blobs in dir, so that another may go on there after Kill.
func Azurite(t testing.TB, dir string) *Server {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatal("node is missing: run make deps")
	}
	port := freePort(t)
	// Azurite refuses what the newest SDK says of its version, unless told not to look.
	s := start(t, port, node, tool(t, "npm", "node_modules", "azurite", "dist", "src", "blob", "main.js"), "--silent", "--disableTelemetry",
		"--skipApiVersionCheck", "--location", dir, "--blobHost", "127.0.0.1", "--blobPort", strconv.Itoa(port))
	s.URL += "/" + AzuriteAccount
	s.Credentials = map[string]string{"accountKey": azuriteKey}
	return s
}

// VersityGW starts an S3 gateway over dir that ends with the test. A bucket is a directory in dir.
func VersityGW(t testing.TB, dir string) *Server {
	t.Helper()
	port := freePort(t)
	s := start(t, port, tool(t, "bin", "versitygw"), "--access", "test", "--secret", "testsecret", "--port", "127.0.0.1:"+strconv.Itoa(port), "posix", dir)
	s.Credentials = map[string]string{"accessKeyID": "test", "secretAccessKey": "testsecret"}
	return s
}
