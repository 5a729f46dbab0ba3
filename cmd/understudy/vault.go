package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	keys "filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/objstore"
	"github.com/understudy-ha/understudy/objstore/open"
	"github.com/understudy-ha/understudy/pki"
	"github.com/understudy-ha/understudy/vault"
)

func vaultVerb(c *console) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "vault",
		Short: "Make, look into, check, export and serve vaults, where machines' pasts are kept",
		Long: `Make, look into, check, export and serve vaults. A vault is a prefix of an object store; no controller is needed.

A vault's contents are encrypted to the public key of the recovery site. The private key stays there: without it, and without
a copy of it elsewhere, nothing can be recovered.`,
	}
	cmd.AddCommand(vaultKeygenVerb(c), vaultCreateVerb(c), vaultInspectVerb(c), vaultVerifyVerb(c), vaultExportVerb(c), vaultServeVerb(c))
	return cmd
}

// vaultFlags say which vault, and with what.
type vaultFlags struct {
	url, credentials, key, cache string
}

const credentialsEnv = "UNDERSTUDY_STORE_CREDENTIALS"

func (f *vaultFlags) add(cmd *cobra.Command, withKey bool) {
	flags := cmd.Flags()
	flags.StringVar(&f.url, "vault", os.Getenv("UNDERSTUDY_VAULT"), "URL of the vault: file:///DIR, azblob://ACCOUNT/CONTAINER[/PREFIX] or s3://BUCKET[/PREFIX]?endpoint=… (default $UNDERSTUDY_VAULT)")
	flags.StringVar(&f.credentials, "credentials", os.Getenv(credentialsEnv), "file of NAME=VALUE lines, the data of the store's Secret: accountKey, or accessKeyID and secretAccessKey, … (default $"+credentialsEnv+")")
	if withKey {
		flags.StringVar(&f.key, "key", os.Getenv("UNDERSTUDY_VAULT_KEY"), "file with the private key, as vault keygen makes it (default $UNDERSTUDY_VAULT_KEY)")
		flags.StringVar(&f.cache, "cache", "", "directory for decrypted blocks, up to 4 GiB in a file that only its owner can read (default: 64 MiB in memory)")
	}
}

// store opens the object store.
func (f *vaultFlags) store(ctx context.Context) (objstore.Store, error) {
	if f.url == "" {
		return nil, usagef("vault: --vault is missing: want its URL, like file:///var/lib/understudy/vault")
	}
	if err := open.Check(f.url); err != nil {
		return nil, usagef("vault: --vault: %v", err)
	}
	creds, err := readCredentials(f.credentials)
	if err != nil {
		return nil, err
	}
	return open.Store(ctx, f.url, creds)
}

// open opens the vault; close its store when done.
func (f *vaultFlags) open(ctx context.Context, needKey bool) (*vault.Vault, objstore.Store, error) {
	o := vault.Options{Cache: f.cache}
	if f.key == "" && needKey {
		return nil, nil, usagef("vault: --key is missing: want the file with the recovery site's private key")
	}
	if f.key != "" {
		id, err := readIdentity(f.key)
		if err != nil {
			return nil, nil, err
		}
		o.Identity = id
	}
	s, err := f.store(ctx)
	if err != nil {
		return nil, nil, err
	}
	v, err := vault.Open(ctx, s, o)
	if err != nil {
		s.Close()
		return nil, nil, err
	}
	return v, s, nil
}

// vaultCode gives the exit code of an error of a vault or its store.
func vaultCode(err error) int {
	for kind, code := range map[error]int{vault.ErrNoVault: exitNotFound, vault.ErrNoStream: exitNotFound, vault.ErrNotKept: exitNotFound,
		vault.ErrExists: exitConflict, vault.ErrInGap: exitConflict, objstore.ErrDenied: exitRefused, objstore.ErrUnavailable: exitUnreachable} {
		if errors.Is(err, kind) {
			return code
		}
	}
	return exitFailed
}

// readCredentials reads NAME=VALUE lines; "" is no file.
func readCredentials(path string) (open.Credentials, error) {
	creds := open.Credentials{}
	if path == "" {
		return creds, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			return nil, usagef("%s: line %d: want NAME=VALUE", path, n)
		}
		creds[strings.TrimSpace(name)] = strings.Trim(strings.TrimSpace(value), `"'`)
	}
	return creds, lines.Err()
}

// readIdentity reads a private key file. Its text is never shown.
func readIdentity(path string) (keys.Identity, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	ids, err := keys.ParseIdentities(bytes.NewReader(b))
	if err != nil || len(ids) != 1 {
		return nil, usagef("%s: want one private key, a line AGE-SECRET-KEY-1…, as `understudy vault keygen` makes it", path)
	}
	return ids[0], nil
}

func vaultKeygenVerb(c *console) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "keygen --out FILE",
		Short: "Make the key pair of a recovery site",
		Long: `Make the key pair of a recovery site. The private key goes to FILE, which only its owner may read; the public key, the
vault's recipient, is printed. Copy FILE to a safe place: what is encrypted to it can be opened with nothing else.`,
		Args: args(),
		RunE: func(*cobra.Command, []string) error {
			if out == "" {
				return usagef("vault keygen: --out is missing: want the file for the private key")
			}
			if _, err := os.Lstat(out); err == nil {
				return usagef("vault keygen: --out %q: it exists; want a new file", out)
			}
			id, err := keys.GenerateX25519Identity()
			if err != nil {
				return err
			}
			text := fmt.Sprintf("# public key: %s\n%s\n", id.Recipient(), id)
			if err := pki.WriteFile(out, []byte(text), 0o600); err != nil {
				return err
			}
			if c.json {
				return c.printJSON(map[string]string{"recipient": id.Recipient().String(), "file": out})
			}
			c.print("%s", id.Recipient())
			return nil
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "file for the private key")
	return cmd
}

func vaultCreateVerb(c *console) *cobra.Command {
	var f vaultFlags
	var recipient string
	cmd := &cobra.Command{
		Use:     "create --vault URL --recipient KEY",
		Short:   "Make a vault in an object store",
		Example: `  understudy vault create --vault file:///srv/vault --recipient age1…`,
		Args:    args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if recipient == "" {
				return usagef("vault create: --recipient is missing: want the recovery site's public key, as vault keygen prints it")
			}
			if _, err := keys.ParseX25519Recipient(recipient); err != nil {
				return usagef("vault create: --recipient %q: want a public key like age1…", recipient)
			}
			s, err := f.store(cmd.Context())
			if err != nil {
				return err
			}
			defer s.Close()
			if err := objstore.CheckConditions(cmd.Context(), s); err != nil {
				return err
			}
			v, err := vault.Create(cmd.Context(), s, recipient, vault.Options{})
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(v.Root())
			}
			c.print("Made vault %s.", v.Root().ID)
			return nil
		},
	}
	f.add(cmd, false)
	cmd.Flags().StringVar(&recipient, "recipient", "", "the recovery site's public key")
	return cmd
}
