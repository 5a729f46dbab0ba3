package azure

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/cloud"
)

// tagName is the tag that says who wrote last.
const tagName = "understudy-epoch"

// mark is the value of the tag.
type mark struct {
	token api.Token
	scope string
}

func (m mark) String() string {
	return fmt.Sprintf("%s/%d/%d/%s", m.token.ClusterID, m.token.Epoch, m.token.Generation, m.scope)
}

// parseMark reads a tag's value; the scope may be missing.
func parseMark(s string) (mark, bool) {
	p := strings.Split(s, "/")
	if len(p) < 3 || len(p) > 4 || p[0] == "" {
		return mark{}, false
	}
	epoch, err1 := strconv.ParseInt(p[1], 10, 64)
	generation, err2 := strconv.ParseInt(p[2], 10, 64)
	if err1 != nil || err2 != nil || epoch < 0 || generation < 0 {
		return mark{}, false
	}
	m := mark{token: api.Token{ClusterID: p[0], Epoch: epoch, Generation: generation}}
	if len(p) == 4 {
		m.scope = p[3]
	}
	return m, true
}

// newer tells whether a mark was left by somebody who acts after us. A new cluster id comes with a higher epoch, so
// epochs order across clusters; generations count within one owner only.
func (m mark) newer(than mark) bool {
	if m.token.Epoch != than.token.Epoch {
		return m.token.Epoch > than.token.Epoch
	}
	return m.token.ClusterID == than.token.ClusterID && (m.scope == "" || m.scope == than.scope) && m.token.Generation > than.token.Generation
}

// checkMark refuses to touch what a newer leadership has touched. A tag that is none of ours is no fence.
func checkMark(d document, ours mark) error {
	if m, ok := parseMark(d.tag(tagName)); ok && m.newer(ours) {
		return fmt.Errorf("%w: tag %s is %s, ours is %s", cloud.ErrStale, tagName, m, ours)
	}
	return nil
}
