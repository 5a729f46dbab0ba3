package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"filippo.io/age"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/engines"
	"github.com/understudy-ha/understudy/freeport"
	"github.com/understudy-ha/understudy/pki"
)

// The processes of the data path, without a control plane. Their homes are as an agent would leave them:
//
//	guest ─NBD─► protect ─► process server ─door─► object server ◄─door─ keeper
//	             capture     spool                  vault
//
// What stands below an arrow is a file system of its own, which can be made full.
const (
	roleProtect = "protect"
	rolePS      = "process-server"
	roleKeeper  = "keeper"
	roleStore   = "object-server"
	roleSite    = "site"

	pathMachine = "default/db"
	pathUID     = "u1"
	pathStream  = "u1-1"
	storeUser   = "lab"
	storeSecret = "labsecret"
	keptFor     = 20 * time.Second // a point, so that the keeper has something to do
	pathQueue   = 4 << 20          // bytes; small, so that a line that is cut makes a gap soon
)

type pathLab struct {
	run      *runDir
	dir      string // on a disk
	logs     string
	binary   string
	gateway  string // versitygw
	progress io.Writer

	m     *mounts
	ca    *pki.CA
	key   *age.X25519Identity
	store string // the object server's address
	ships string // the process server's
	doors map[string]*door
	homes map[string]engines.Home
	procs map[string]*process

	protect api.ProtectConfig
	h       *history
	load    *load
	watch   *watch
	atHead  int // kills that came where a head was swapped
}

// newPathLab makes the homes. Whatever it gives, also with an error, the caller closes.
func newPathLab(o Options) (l *pathLab, err error) {
	l = &pathLab{binary: o.Binary, progress: o.Progress, doors: map[string]*door{}, homes: map[string]engines.Home{}, procs: map[string]*process{}}
	if l.binary == "" {
		if l.binary, err = os.Executable(); err != nil {
			return l, err
		}
	}
	if l.gateway, err = findGateway(); err != nil {
		return l, err
	}
	if l.run, err = newRunDir(); err != nil {
		return l, err
	}
	if l.logs = o.LogDir; l.logs == "" {
		l.logs = filepath.Join(l.run.path, "logs")
	}
	l.dir = l.run.scratch()
	for _, d := range []string{l.logs, l.dir} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return l, err
		}
	}
	if l.m, err = newMounts(); err != nil {
		return l, err
	}
	for _, role := range []string{roleProtect, rolePS, roleKeeper, roleSite} {
		l.homes[role] = engines.Home(filepath.Join(l.dir, role))
		if err := os.MkdirAll(l.homes[role].Data(), 0o700); err != nil {
			return l, err
		}
	}
	for _, d := range l.full() {
		if err := l.m.mount(d); err != nil {
			return l, err
		}
	}
	l.h = newHistory(len(guestDisks) * diskSectors)
	return l, l.makeConfigs()
}

// findGateway finds the object server: make deps puts it below the sources.
func findGateway() (string, error) {
	own, _ := os.Executable()
	for _, path := range []string{"versitygw", ".cache/bin/versitygw", "../.cache/bin/versitygw", filepath.Join(filepath.Dir(own), "../.cache/bin/versitygw")} {
		if found, err := exec.LookPath(path); err == nil || errors.Is(err, exec.ErrDot) {
			return filepath.Abs(found)
		}
	}
	return "", errors.New("the object server versitygw is not installed: run make deps, and this in the directory of the sources")
}

// Places that can be full.
const (
	placeSpool   = "spool"
	placeCapture = "capture"
	placeVault   = "vault"
	placeSite    = "site"
)

func (l *pathLab) full() map[string]string {
	return map[string]string{placeSpool: filepath.Join(l.dir, "spool"), placeCapture: l.homes[roleProtect].Data(),
		placeVault: filepath.Join(l.dir, "store"), placeSite: l.homes[roleSite].Data()}
}

func (l *pathLab) makeConfigs() (err error) {
	if l.ca, err = pki.NewCA(time.Now()); err != nil {
		return err
	}
	if l.key, err = age.GenerateX25519Identity(); err != nil {
		return err
	}
	if l.store, err = freeport.Address(); err != nil {
		return err
	}
	if l.ships, err = freeport.Address(); err != nil {
		return err
	}
	for _, role := range []string{rolePS, roleKeeper} {
		if l.doors[role], err = openDoor(l.store); err != nil {
			return err
		}
	}
	l.protect = api.ProtectConfig{Machine: pathMachine, UID: pathUID, Stream: pathStream, Mode: "writable", ProcessServers: []string{l.ships},
		CrashEvery: api.Duration(time.Second), QueueBytes: pathQueue}
	for _, name := range guestDisks {
		path := filepath.Join(l.dir, name+".raw")
		if err := writeFile(path, ""); err != nil {
			return err
		}
		if err := os.Truncate(path, guestDiskSize); err != nil {
			return err
		}
		l.protect.Disks = append(l.protect.Disks, api.MachineDisk{Name: name, Path: path})
	}
	ps := api.ProcessServerConfig{Name: "ps", Listen: l.ships, SpoolDir: l.full()[placeSpool], Streams: []api.AcceptedStream{{Machine: pathMachine,
		UID: pathUID, Stream: pathStream, Epoch: 1, Node: "default/" + roleProtect, Vault: l.vault(l.doors[rolePS].address), Base: "none"}}}
	keeper := api.KeeperConfig{Vault: l.vault(l.doors[roleKeeper].address), CollectAfter: api.Duration(5 * time.Second),
		Streams: []api.KeptStream{{Stream: pathStream, Retention: api.Duration(keptFor)}}}
	return errors.Join(
		l.configure(rolePS, api.Section{Engine: api.EngineProcessServer, Owner: "o", Generation: 1, ProcessServer: &ps}),
		l.configure(roleKeeper, api.Section{Engine: api.EngineKeeper, Owner: "o", Generation: 1, Keeper: &keeper}),
		l.configureProtect())
}

func (l *pathLab) configureProtect() error {
	return l.configure(roleProtect, api.Section{Engine: api.EngineProtect, Owner: "o", Generation: 1, Protect: &l.protect})
}

// vault is how the vault is reached through an address.
func (l *pathLab) vault(address string) api.VaultAccess {
	return api.VaultAccess{Name: "v", URL: "s3://vault?endpoint=http://" + address, Recipient: l.key.Recipient().String(), CredentialsRef: "store", KeyRef: "key"}
}

func (l *pathLab) config(s api.Section) engines.Config {
	return engines.Config{Section: s, Confirmed: true, IdentityFile: l.identityFile(s.Engine), HooksDir: l.dir, Secrets: map[string]map[string]string{
		"store": {"accessKeyID": storeUser, "secretAccessKey": storeSecret}, "key": {"identity": l.key.String()}}}
}

func (l *pathLab) identityFile(engine string) string { return filepath.Join(l.dir, engine+".json") }

// configure writes the home of a role, and enrols its node the first time.
func (l *pathLab) configure(role string, s api.Section) error {
	if _, err := os.Stat(l.identityFile(s.Engine)); err != nil {
		key, err := pki.NewKey()
		if err != nil {
			return err
		}
		cert, err := l.ca.Issue(time.Now(), pki.Request{CN: pki.Node("default", role).String(), Public: &key.PublicKey, Server: true, Life: 24 * time.Hour})
		if err != nil {
			return err
		}
		text, err := pki.EncodeKey(key)
		if err != nil {
			return err
		}
		b, err := json.Marshal(map[string]string{"node": role, "tenant": "default", "ca": string(l.ca.CertPEM()), "cert": string(pki.EncodeCert(cert.Raw)), "key": string(text)})
		if err != nil {
			return err
		}
		if err := os.WriteFile(l.identityFile(s.Engine), b, 0o600); err != nil {
			return err
		}
	}
	return l.homes[role].WriteConfig(l.config(s))
}

// start starts the process of a role. It does not wait for it.
func (l *pathLab) start(role string) (err error) {
	p := program{name: role, path: l.binary, dir: l.dir}
	if role == roleStore {
		dir := l.full()[placeVault]
		if err := l.m.do(func() error { return os.MkdirAll(filepath.Join(dir, "vault"), 0o700) }); err != nil {
			return err
		}
		p.path, p.args = l.gateway, []string{"--access", storeUser, "--secret", storeSecret, "--port", l.store, "posix", dir}
	} else {
		if role == roleProtect && l.watch != nil {
			l.watch.born()
		}
		p.args = []string{"engine", "--dir", string(l.homes[role]), "--log-level", "warn"}
	}
	l.procs[role], err = l.m.run(l.logs, p)
	return err
}

// ask asks an engine how it is; one that is down does not answer.
func (l *pathLab) ask(ctx context.Context, role string) (api.EngineState, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return l.homes[role].Ask(ctx)
}

// until waits for a state of an engine.
func (l *pathLab) until(ctx context.Context, role, what string, limit time.Duration, ok func(api.EngineState) bool) (s api.EngineState, err error) {
	if !waitFor(ctx, limit, func() bool {
		s, err = l.ask(ctx, role)
		return err == nil && ok(s)
	}) {
		return s, fmt.Errorf("%s: after %v not %s: %+v %w", role, limit, what, s, errors.Join(err, ctx.Err()))
	}
	return s, nil
}

func (l *pathLab) say(format string, args ...any) {
	if l.progress != nil {
		fmt.Fprintf(l.progress, format+"\n", args...)
	}
}

// close ends every process and removes everything, but for the logs if they are to be kept.
func (l *pathLab) close() error {
	if l.load != nil {
		l.load.end()
	}
	if l.watch != nil {
		l.watch.end()
	}
	for _, p := range l.procs {
		p.kill()
	}
	var errs []error
	for _, d := range l.doors {
		errs = append(errs, d.close())
	}
	if l.m != nil {
		l.m.close()
	}
	if l.run != nil {
		errs = append(errs, l.run.remove())
	}
	return errors.Join(errs...)
}
