package main

import (
	"strings"

	"github.com/understudy-ha/understudy/api"
)

// kindOf finds the kind that a word on the command line means.
func kindOf(word string) (api.KindInfo, error) {
	if k, ok := api.LookupKind(word); ok {
		return k, nil
	}
	if k, ok := api.LookupKind(strings.ToLower(word)); ok {
		return k, nil
	}
	return api.KindInfo{}, usagef("kind %q: want one of %s", word, kindList(", "))
}

// kindList names every kind with its other names.
func kindList(separator string) string {
	var names []string
	for _, k := range api.Kinds() {
		names = append(names, k.Plural+" ("+strings.Join(k.Aliases, ", ")+")")
	}
	return strings.Join(names, separator)
}

// kindAndName splits the arguments KIND [NAME], which may also come as KIND/NAME.
func kindAndName(given []string) (api.KindInfo, string, error) {
	word, name, _ := strings.Cut(given[0], "/")
	if len(given) > 1 {
		if name != "" {
			return api.KindInfo{}, "", usagef("%q and %q both name a resource: want KIND NAME or KIND/NAME", given[0], given[1])
		}
		name = given[1]
	}
	k, err := kindOf(word)
	if err == nil && name != "" && !api.ValidName(name) {
		err = usagef(`name %q: want 1 to 63 of a-z, 0-9, "-" and ".", with a letter or digit first and last`, name)
	}
	return k, name, err
}

// shortRef names a resource for people; the tenant only if it is not the usual one.
func shortRef(r api.Ref) string {
	if r.Tenant == "" || r.Tenant == api.DefaultTenant {
		return string(r.Kind) + "/" + r.Name
	}
	return string(r.Kind) + "/" + r.Tenant + "/" + r.Name
}
