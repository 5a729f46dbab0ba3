package etcd

import (
	"testing"

	"github.com/understudy-ha/understudy/store/storetest"
)

// BenchmarkTxn writes with fsync on. All members share this machine's disk.
func BenchmarkTxn(b *testing.B) {
	b.Run("embedded=1", func(b *testing.B) {
		s := open(b, Config{Dir: b.TempDir()})
		ready(b, s)
		storetest.BenchmarkTxn(b, s)
	})
	b.Run("embedded=3", func(b *testing.B) {
		var members []*Store
		for _, cfg := range memberConfigs(b, 3) {
			members = append(members, open(b, cfg))
		}
		for _, s := range members {
			ready(b, s)
		}
		storetest.BenchmarkTxn(b, members[0])
	})
	b.Run("remote=3,mTLS", func(b *testing.B) {
		c := startCluster(b, 3)
		s := open(b, Config{Endpoints: c.endpoints(), ClientTLS: c.files})
		ready(b, s)
		storetest.BenchmarkTxn(b, s)
	})
}
