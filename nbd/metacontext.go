package nbd

import (
	"encoding/binary"
)

// metaContext answers LIST_META_CONTEXT and SET_META_CONTEXT: an export name, then queries. The only context is base:allocation.
func (h *handshake) metaContext(opt uint32, data []byte) error {
	set := opt == optSetMetaContext
	if set {
		h.context = nil // whatever was chosen before, also if this one is refused
	}
	if !h.structured {
		return h.refuse(opt, repErrInvalid, "metadata contexts want structured replies first")
	}
	f := fields{data}
	name, ok := f.str()
	queries, ok2 := f.strs()
	if !ok || !ok2 || len(f.b) > 0 {
		return h.refuse(opt, repErrInvalid, "the option is malformed")
	}
	if h.find(name) == nil {
		return h.refuse(opt, repErrUnknown, "there is no such export")
	}
	if !meansAllocation(queries, !set) {
		return h.reply(opt, repAck, nil)
	}
	id := uint32(0)
	if set {
		h.context, id = &name, allocationID
	}
	if err := h.reply(opt, repMetaContext, append(binary.BigEndian.AppendUint32(nil, id), contextAllocation...)); err != nil {
		return err
	}
	return h.reply(opt, repAck, nil)
}

// meansAllocation: a list also knows the wildcards, no query at all and a bare namespace.
func meansAllocation(queries []string, listing bool) bool {
	if listing && len(queries) == 0 {
		return true
	}
	for _, q := range queries {
		if q == contextAllocation || listing && q == "base:" {
			return true
		}
	}
	return false
}

// fields takes an option's data apart. Every length is checked against what is there.
type fields struct{ b []byte }

func (f *fields) uint32() (uint32, bool) {
	if len(f.b) < 4 {
		return 0, false
	}
	n := binary.BigEndian.Uint32(f.b)
	f.b = f.b[4:]
	return n, true
}

// str is a 32-bit length and as many bytes, at most maxName.
func (f *fields) str() (string, bool) {
	n, ok := f.uint32()
	if !ok || n > maxName || int(n) > len(f.b) {
		return "", false
	}
	s := string(f.b[:n])
	f.b = f.b[n:]
	return s, true
}

// strs is a 32-bit count and as many strings.
func (f *fields) strs() (all []string, ok bool) {
	n, ok := f.uint32()
	if !ok || int64(n) > int64(len(f.b)/4) {
		return nil, false
	}
	for range n {
		s, ok := f.str()
		if !ok {
			return nil, false
		}
		all = append(all, s)
	}
	return all, true
}

// uint16s is a 16-bit count and as many 16-bit numbers.
func (f *fields) uint16s() (all []uint16, ok bool) {
	if len(f.b) < 2 {
		return nil, false
	}
	n := int(binary.BigEndian.Uint16(f.b))
	f.b = f.b[2:]
	if len(f.b) < 2*n {
		return nil, false
	}
	for range n {
		all = append(all, binary.BigEndian.Uint16(f.b))
		f.b = f.b[2:]
	}
	return all, true
}
