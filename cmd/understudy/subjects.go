package main

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/client"
)

// askedKinds are the kinds that do what they are asked, with the word that stands before a name: group/dmz.
var askedKinds = []struct {
	kind api.Kind
	word string
}{{api.KindApplianceGroup, "group"}, {api.KindProtectedMachine, "machine"}, {api.KindRecoveryPlan, "plan"}}

// subjectWord names a subject as it can be typed.
func subjectWord(r api.Ref) string {
	for _, s := range askedKinds {
		if s.kind == r.Kind {
			return s.word + "/" + r.Name
		}
	}
	return string(r.Kind) + "/" + r.Name
}

// isSubject tells whether a kind does what it is asked.
func isSubject(k api.Kind) bool { return subjectWord(api.Ref{Kind: k}) != string(k)+"/" }

// subject finds what a word means: KIND/NAME, or a bare name if one of the kinds alone has it.
func subject(ctx context.Context, cl *client.Client, word string, kinds ...api.Kind) (api.Object, error) {
	info, name, err := api.KindInfo{}, word, error(nil)
	if strings.Contains(word, "/") {
		if info, name, err = kindAndName([]string{word}); err != nil {
			return nil, err
		}
		if !slices.Contains(kinds, info.Kind) {
			return nil, usagef("%s: want %s", word, orWords(kinds, name))
		}
		return cl.Get(ctx, info.Kind, "", name)
	}
	if !api.ValidName(name) {
		return nil, usagef(`name %q: want 1 to 63 of a-z, 0-9, "-" and ".", with a letter or digit first and last, or KIND/NAME`, name)
	}
	var found []api.Object
	var missing error
	for _, kind := range kinds {
		o, err := cl.Get(ctx, kind, "", name)
		var refusal *api.Error
		switch {
		case err == nil:
			found = append(found, o)
		case errors.As(err, &refusal) && refusal.Code == api.CodeNotFound:
			missing = err
		default:
			return nil, err
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0 && len(kinds) == 1:
		return nil, missing
	case len(found) == 0:
		return nil, api.Errorf(api.CodeNotFound, "%s is not there: neither %s", name, strings.ReplaceAll(orWords(kinds, name), " or ", " nor "))
	}
	var have []string
	var refs []api.Kind
	for _, o := range found {
		have = append(have, shortRef(o.Head().Ref()))
		refs = append(refs, o.Head().Kind)
	}
	return nil, usagef("%q is %s: want %s", name, strings.Join(have, " and "), orWords(refs, name))
}

// orWords lists a name under several kinds: "group/x, machine/x or plan/x".
func orWords(kinds []api.Kind, name string) string {
	words := make([]string, len(kinds))
	for i, k := range kinds {
		words[i] = subjectWord(api.Ref{Kind: k, Name: name})
	}
	last := len(words) - 1
	if last == 0 {
		return words[0]
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
