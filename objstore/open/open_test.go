package open_test

import (
	"strings"
	"testing"

	"github.com/understudy-ha/understudy/objstore/open"
)

func TestURLs(t *testing.T) {
	for raw, want := range map[string]string{ // what the refusal names; "" is accepted
		"file:///var/lib/vault":                                         "",
		"azblob://acct/vaults":                                          "",
		"azblob://acct/vaults/a/b?endpoint=https://blob.example":        "",
		"azblob://acct/vaults?endpoint=http://127.0.0.1:10000/acct":     "",
		"s3://bucket?endpoint=https://s3.example:9000&region=eu-west-1": "",
		"s3://bucket/p?endpoint=http://s3.example&insecure=true":        "",
		"/var/lib/vault":                               `scheme ""`,
		"ftp://x/y":                                    `scheme "ftp"`,
		"file://host/dir":                              `path "host/dir"`,
		"file:dir":                                     `path ""`,
		"file:///x?endpoint=https://y":                 `parameter "endpoint"`,
		"azblob://acct":                                `path ""`,
		"azblob:///vaults":                             `host ""`,
		"azblob://acct/vaults/a//b":                    "prefix",
		"azblob://acct/vaults/../b":                    "prefix",
		"azblob://u:p@acct/vaults":                     "user",
		"s3://bucket":                                  "endpoint",
		"s3://bucket?endpoint=s3.example":              `endpoint "s3.example"`,
		"s3://bucket?endpoint=https://s3.example/path": "without a path",
		"s3://bucket?endpoint=http://s3.example":       "insecure=true",
		"s3://bucket?endpoint=http://s3.example&insecure=yes": `insecure "yes"`,
		"s3://bucket?endpoint=https://a&endpoint=https://b":   `parameter "endpoint"`,
		"s3://bucket?endpoint=https://a&zone=1":               `parameter "zone"`,
		"s3://bucket?endpoint=https://a#x":                    "fragment",
		"s3://bucket?endpoint=https://a%00":                   "endpoint",
	} {
		err := open.Check(raw)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", raw, err, want)
		}
	}
}

func TestCredentials(t *testing.T) {
	const az, s3 = "azblob://acct/vaults", "s3://b?endpoint=https://a"
	for _, c := range []struct {
		url, want string
		creds     open.Credentials
	}{
		{"file:///", `"accountKey"`, open.Credentials{"accountKey": "x"}},
		{az, `"accessKeyID"`, open.Credentials{"accessKeyID": "x"}},
		{az, "base64", open.Credentials{"accountKey": "s3cret!"}},
		{az, "tenantID", open.Credentials{"clientSecret": "s3cret!"}},
		{az, "PEM", open.Credentials{"caCertificate": "s3cret!"}},
		{s3, "secretAccessKey", open.Credentials{"accessKeyID": "x"}},
		{az, "", open.Credentials{"accountKey": "a2V5"}},
		{az, "", open.Credentials{"sasToken": "?sv=1&sig=2"}},
		{az, "", nil},
		{s3, "", open.Credentials{"accessKeyID": "x", "secretAccessKey": "y"}},
	} {
		s, err := open.Store(t.Context(), c.url, c.creds)
		if c.want == "" {
			if err != nil || s.Close() != nil {
				t.Errorf("%s with %v: %v", c.url, c.creds, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s with %v: %v, want %q", c.url, c.creds, err, c.want)
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add("s3://bucket/p?endpoint=http://127.0.0.1:1&region=x")
	f.Add("azblob://a/b/c?endpoint=https://x")
	f.Fuzz(func(t *testing.T, raw string) {
		if err := open.Check(raw); err != nil && len(err.Error()) == 0 {
			t.Error("a refusal without words")
		}
	})
}
