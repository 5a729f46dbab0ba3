package zookeeper

import (
	"errors"
	"fmt"
	"hash/fnv"
	"path"
	"strings"

	"github.com/go-zookeeper/zk"

	"github.com/understudy-ha/understudy/store"
)

// buckets is how many znodes share the keys. It is part of the format: a key is looked for in one bucket only.
const buckets = 64

// live is the first byte of the data of a key that exists. A tombstone has no data.
const live = '+'

// separator stands for the slash in a znode's name. No key has it.
const separator = ","

func (s *Store) bucket(i int) string { return fmt.Sprintf("%s/%02x", s.cfg.Root, i) }

// barrier is the znode that link.barrier writes.
func (s *Store) barrier() string { return s.cfg.Root + "/barrier" }

// node is the path of key's znode.
func (s *Store) node(key string) string {
	h := fnv.New32a()
	h.Write([]byte(key))
	return s.bucket(int(h.Sum32()%buckets)) + "/" + strings.ReplaceAll(key, "/", separator)
}

// key is the key whose znode has the name, or "" for a znode that is not ours.
func (s *Store) key(name string) string {
	key := strings.ReplaceAll(path.Base(name), separator, "/")
	if store.ValidKey(key) != nil {
		return ""
	}
	return key
}

// entry gives what a znode holds, and whether its key exists.
func (s *Store) entry(key string, data []byte, stat *zk.Stat) (store.Entry, bool) {
	if len(data) == 0 || data[0] != live {
		return store.Entry{}, false
	}
	return store.Entry{Key: key, Value: data[1:], Rev: store.Rev(stat.Mzxid)}, true
}

// prepare creates the root and its buckets, unless they are there.
func (s *Store) prepare(c *zk.Conn) error {
	last := s.bucket(buckets - 1)
	if ok, _, err := c.Exists(last); ok || err != nil {
		return err
	}
	var all []string
	for i, b := range s.cfg.Root {
		if b == '/' && i > 0 {
			all = append(all, s.cfg.Root[:i])
		}
	}
	all = append(all, s.cfg.Root, s.sweeper(), s.barrier())
	for i := range buckets {
		all = append(all, s.bucket(i))
	}
	for _, p := range all {
		acl := s.cfg.acl()
		if len(p) < len(s.cfg.Root) {
			acl = zk.WorldACL(zk.PermAll) // not ours alone
		}
		if _, err := c.Create(p, nil, 0, acl); err != nil && !errors.Is(err, zk.ErrNodeExists) {
			return fmt.Errorf("create %s: %w", p, err)
		}
	}
	return nil
}
