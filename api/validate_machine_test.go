package api_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
)

const recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"

// documents are whole resources of issue 3's kinds, one a kind.
var documents = map[api.Kind]string{
	api.KindSite:   `{"kind":"Site","metadata":{"name":"hq"},"spec":{"controllers":["c1"],"storeNodes":["10.0.0.1:2379"],"nodes":["host1","ps1"]}}`,
	api.KindFabric: `{"kind":"Fabric","metadata":{"name":"hq"},"spec":{"site":"hq","nodes":["host1"]}}`,
	api.KindVault: `{"kind":"Vault","metadata":{"name":"v"},"spec":{"site":"dr","url":"s3://bucket/prefix?endpoint=http://10.1.0.1:9000","credentialsRef":"s3",
		"recipient":"` + recipient + `","keyRef":"key","keeper":"host2"}}`,
	api.KindReplicationPolicy: `{"kind":"ReplicationPolicy","metadata":{"name":"gold"},"spec":{"rpoThreshold":"5m","retention":"72h"}}`,
	api.KindProcessServer: `{"kind":"ProcessServer","metadata":{"name":"ps1"},"spec":{"node":"ps1","site":"hq","address":"10.0.0.5:9443",
		"bandwidth":[{"days":["Mon"],"from":"08:00","to":"18:00","kbps":512}]}}`,
	api.KindProtectedMachine: `{"kind":"ProtectedMachine","metadata":{"name":"web"},"spec":{"source":{"site":"hq","fabric":"hq","node":"host1"},
		"disks":[{"name":"root","path":"/srv/web.raw"},{"name":"data","path":"/dev/vg/data","size":1048576}],
		"vm":{"nics":[{"mode":"user","forwards":[{"listen":"127.0.0.1:8080","port":80}]}],"guestAgent":true},
		"policy":"gold","processServer":"ps1","vault":"v",
		"recovery":{"site":"dr","fabric":"dr","node":"host2","testNetwork":[{"mode":"isolated"}],"check":{"url":"http://10.1.0.9/"}},
		"failback":{"vault":"back","processServer":"ps2"},"freeze":{"pre":"freeze.sh"}}}`,
	api.KindRecoveryPlan: `{"kind":"RecoveryPlan","metadata":{"name":"all"},"spec":{"groups":[
		{"type":"Shutdown","items":[{"machine":"db"}]},
		{"type":"Boot","items":[{"machine":"db"}],"after":[{"name":"dns","manual":"change the DNS record","operations":["Failover"]}]},
		{"type":"Boot","items":[{"machine":"web"},{"applianceGroup":"dmz","to":"nva2","back":"nva1"}],"before":[{"name":"hook","webhook":"https://x/"}]}]}}`,
}

func TestMachineKindsAreValidAndDefaultsHold(t *testing.T) {
	for kind, doc := range documents {
		o, err := api.Decode([]byte(doc))
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		o.Default()
		if err := o.Validate(); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		once, _ := json.Marshal(o)
		o.Default()
		if twice, _ := json.Marshal(o); string(once) != string(twice) {
			t.Errorf("%s: defaults change when filled in again:\n%s\n%s", kind, once, twice)
		}
	}
	f := api.FailbackPolicy()
	if f.RPOThreshold.D() != 15*time.Minute || f.Retention.D() != 24*time.Hour || f.AppEvery().D() != time.Hour {
		t.Errorf("failback policy %+v", f)
	}
}

func TestMachineRefusals(t *testing.T) {
	for _, c := range []struct {
		kind        api.Kind
		old, new    string
		field, want string
	}{
		{api.KindSite, `["c1"]`, `["c1","c1"]`, "spec.controllers[1]", "spec.controllers[0]"},
		{api.KindSite, `10.0.0.1:2379`, `10.0.0.1`, "spec.storeNodes[0]", "host:port"},
		{api.KindFabric, `"site":"hq",`, `"type":"vsphere","site":"hq",`, "spec.type", "qemu: this version"},
		{api.KindFabric, `"site":"hq",`, `"type":"xen","site":"hq",`, "spec.type", "one of qemu"},
		{api.KindFabric, `["host1"]`, `[]`, "spec.nodes", "at least one"},
		{api.KindVault, `s3://bucket`, `ftp://bucket`, "spec.url", "azblob://"},
		{api.KindVault, `s3://bucket`, `s3://me:secret@bucket`, "spec.url", "without a user"},
		{api.KindVault, `s3://bucket/prefix?endpoint=http://10.1.0.1:9000`, `file:///`, "spec.url", "absolute directory"},
		{api.KindVault, `s3://bucket/prefix?endpoint=http://10.1.0.1:9000`, `azblob://account`, "spec.url", "azblob://account/container"},
		{api.KindVault, recipient, `age1abc`, "spec.recipient", "58 letters"},
		{api.KindVault, `"keyRef":"key",`, ``, "spec.keyRef", "1 to 63"},
		{api.KindVault, `"keyRef"`, `"tier":"gold","keyRef"`, "spec.tier", "premium, standard, own"},
		{api.KindVault, `"keyRef"`, `"tier":"own","maxRetention":"361h","keyRef"`, "spec.maxRetention", "1h to 360h"},
		{api.KindVault, `"keyRef"`, `"maxRetention":"80h","keyRef"`, "spec.maxRetention", "72h"},
		{api.KindReplicationPolicy, `"5m"`, `"30s"`, "spec.rpoThreshold", "1m to 24h"},
		{api.KindReplicationPolicy, `"72h"`, `"361h"`, "spec.retention", "1h to 360h"},
		{api.KindReplicationPolicy, `"72h"`, `"72h","appConsistentEvery":"13h"`, "spec.appConsistentEvery", "1h to 12h"},
		{api.KindReplicationPolicy, `"72h"`, `"1h","appConsistentEvery":"1h"`, "spec.appConsistentEvery", "less than spec.retention"},
		{api.KindReplicationPolicy, `"72h"`, `"72h","crashConsistentEvery":"10ms"`, "spec.crashConsistentEvery", "1s to 1h"},
		{api.KindProcessServer, `10.0.0.5:9443`, `:9443`, "spec.address", "host:port"},
		{api.KindProcessServer, `"address"`, `"roles":["Spare"],"address"`, "spec.roles[0]", "Protection, Reprotection"},
		{api.KindProcessServer, `"address"`, `"listen":"9443","address"`, "spec.listen", ":port"},
		{api.KindProcessServer, `"address"`, `"spool":{"dir":"x"},"address"`, "spec.spool.dir", "absolute"},
		{api.KindProcessServer, `"address"`, `"spool":{"maxBytes":1},"address"`, "spec.spool.maxBytes", "67108864"},
		{api.KindProcessServer, `"Mon"`, `"Monday"`, "spec.bandwidth[0].days[0]", "Mon"},
		{api.KindProcessServer, `08:00`, `8h`, "spec.bandwidth[0].from", "08:30"},
		{api.KindProcessServer, `512`, `5`, "spec.bandwidth[0].kbps", "64 to"},
		{api.KindProtectedMachine, `"/srv/web.raw"`, `"web.raw"`, "spec.disks[0].path", "absolute path"},
		{api.KindProtectedMachine, `"/srv/web.raw"`, `"/dev/vg/data"`, "spec.disks[1].path", "spec.disks[0].path"},
		{api.KindProtectedMachine, `"name":"root"`, `"name":"0root"`, "spec.disks[0].name", "a letter first"},
		{api.KindProtectedMachine, `"name":"data"`, `"name":"vg.data"`, "spec.disks[1].name", "1 to 20"},
		{api.KindProtectedMachine, `"127.0.0.1:8080"`, `"localhost:8080"`, "spec.vm.nics[0].forwards[0].listen", "IPv4 address"},
		{api.KindProtectedMachine, `1048576`, `1000`, "spec.disks[1].size", "multiple of 512"},
		{api.KindProtectedMachine, `"site":"dr"`, `"site":"hq"`, "spec.recovery.site", "another one than spec.source.site"},
		{api.KindProtectedMachine, `"node":"host2"`, `"node":"host1"`, "spec.recovery.node", "another one than"},
		{api.KindProtectedMachine, `[{"mode":"isolated"}]`, `[{"mode":"tap","tap":"t0"}]`, "spec.recovery.testNetwork[0].mode", "must not meet"},
		{api.KindProtectedMachine, `[{"mode":"isolated"}]`, `[{"mode":"tap"}]`, "spec.recovery.testNetwork[0].tap", "tap interface"},
		{api.KindProtectedMachine, `"port":80`, `"port":0`, "spec.vm.nics[0].forwards[0].port", "1 to 65535"},
		{api.KindProtectedMachine, `"guestAgent":true`, `"memoryMiB":8`, "spec.vm.memoryMiB", "32 to"},
		{api.KindProtectedMachine, `"guestAgent":true`, `"firmware":"efi"`, "spec.vm.firmware", "bios, uefi"},
		{api.KindProtectedMachine, `"url":"http://10.1.0.9/"`, ``, "spec.recovery.check", "exactly one"},
		{api.KindProtectedMachine, `"url":"http://10.1.0.9/"`, `"address":"x"`, "spec.recovery.check.address", "host:port"},
		{api.KindProtectedMachine, `"vault":"back"`, `"vault":"v"`, "spec.failback.vault", "another one than spec.vault"},
		{api.KindProtectedMachine, `"freeze.sh"`, `"../freeze.sh"`, "spec.freeze.pre", "without a path"},
		{api.KindProtectedMachine, `"policy":"gold"`, `"policy":"gold","overrides":["All"]`, "spec.overrides[0]", "StoreInReach"},
		{api.KindProtectedMachine, `"policy":"gold"`, `"policy":"gold","stopTimeout":"2h"`, "spec.stopTimeout", "0s to 1h"},
		{api.KindProtectedMachine, `"node":"host1"`, `"node":"host1","listen":"tcp:x"`, "spec.source.listen", ":port"},
		{api.KindProtectedMachine, `"node":"host1"`, `"node":"host1","listen":"unix:x"`, "spec.source.listen", "unix:/path"},
		{api.KindRecoveryPlan, `{"type":"Shutdown","items":[{"machine":"db"}]},`, `{"type":"Boot","items":[{"machine":"x"}]},{"type":"Shutdown"},`, "spec.groups[1].type", "Shutdown before"},
		{api.KindRecoveryPlan, `"type":"Shutdown"`, `"type":"Failover"`, "spec.groups[1].items[0].machine", "spec.groups[0].items[0].machine"},
		{api.KindRecoveryPlan, `{"machine":"web"}`, `{"machine":"web","to":"x"}`, "spec.groups[2].items[0].to", "none with a machine"},
		{api.KindRecoveryPlan, `{"machine":"web"}`, `{}`, "spec.groups[2].items[0]", "exactly one"},
		{api.KindRecoveryPlan, `"to":"nva2","back":"nva1"`, `"to":""`, "spec.groups[2].items[1].to", "a member"},
		{api.KindRecoveryPlan, `"manual":"change the DNS record"`, `"script":"x","manual":"y"`, "spec.groups[1].after[0]", "exactly one"},
		{api.KindRecoveryPlan, `["Failover"]`, `["Pause"]`, "spec.groups[1].after[0].operations[0]", "TestFailover"},
		{api.KindRecoveryPlan, `"https://x/"`, `"ftp://x/"`, "spec.groups[2].before[0].webhook", "https"},
	} {
		t.Run(string(c.kind)+"/"+c.field, func(t *testing.T) {
			edited := strings.Replace(documents[c.kind], c.old, c.new, 1)
			if edited == documents[c.kind] {
				t.Fatalf("%q is not in the document", c.old)
			}
			refused(t, load(edited), c.field, c.want)
		})
	}
}

func TestAPlanHasAtMostSevenBootGroups(t *testing.T) {
	groups := make([]string, 8)
	for i := range groups {
		groups[i] = `{"type":"Boot","items":[{"machine":"m` + string(rune('a'+i)) + `"}]}`
	}
	doc := `{"kind":"RecoveryPlan","metadata":{"name":"p"},"spec":{"groups":[` + strings.Join(groups, ",") + `]}}`
	refused(t, load(doc), "spec.groups", "at most 7")
}

func TestOperationsAreWhole(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		o           api.Operation
		field, want string
	}{
		{api.Operation{Operation: "Reboot"}, "operation", "TestFailover"},
		{api.Operation{Operation: api.OpCommit, Point: &api.PointChoice{Kind: api.PointLatest}}, "point", "none with Commit"},
		{api.Operation{Operation: api.OpFailover, Point: &api.PointChoice{Kind: api.PointCustom}}, "point", "exactly one"},
		{api.Operation{Operation: api.OpFailover, Point: &api.PointChoice{Kind: api.PointLatest, At: at}}, "point", "none with kind latest"},
		{api.Operation{Operation: api.OpFailover, Point: &api.PointChoice{Kind: "newest"}}, "point.kind", "latestProcessed"},
		{api.Operation{Operation: api.OpReprotect, ShutdownSource: true}, "shutdownSource", "Failover and Failback"},
		{api.Operation{Operation: api.OpCommit, Notes: strings.Repeat("x", 5000)}, "notes", "at most 4096"},
	} {
		refused(t, api.CheckOperation(&c.o, api.Operations()), c.field, c.want)
	}
	ok := api.Operation{Operation: api.OpFailover, Point: &api.PointChoice{Kind: api.PointCustom, At: at}, ShutdownSource: true}
	if err := api.CheckOperation(&ok, api.Operations()); err != nil {
		t.Error(err)
	}
}

func TestEveryKindIsMade(t *testing.T) {
	for _, k := range api.Kinds() {
		o := k.New()
		o.Default()
		if got := o.Head().Kind; got != k.Kind || reflect.TypeOf(o).Elem().Name() != string(k.Kind) {
			t.Errorf("kind %s makes a %T of kind %s", k.Kind, o, got)
		}
	}
}
