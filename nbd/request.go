package nbd

import (
	"encoding/binary"
	"fmt"
)

// request is one request's head as it came ("Request message"): nothing in it can be trusted.
type request struct {
	flags, cmd uint16
	cookie     uint64
	off        uint64
	n          uint32
}

func decodeRequest(b []byte) (r request, err error) {
	if magic := binary.BigEndian.Uint32(b); magic != magicRequest {
		return r, fmt.Errorf("%w: request magic %#x", ErrProtocol, magic)
	}
	return request{
		flags:  binary.BigEndian.Uint16(b[4:]),
		cmd:    binary.BigEndian.Uint16(b[6:]),
		cookie: binary.BigEndian.Uint64(b[8:]),
		off:    binary.BigEndian.Uint64(b[16:]),
		n:      binary.BigEndian.Uint32(b[24:]),
	}, nil
}

func (r request) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, magicRequest)
	b = binary.BigEndian.AppendUint16(b, r.flags)
	b = binary.BigEndian.AppendUint16(b, r.cmd)
	b = binary.BigEndian.AppendUint64(b, r.cookie)
	b = binary.BigEndian.AppendUint64(b, r.off)
	return binary.BigEndian.AppendUint32(b, r.n)
}

func (r request) has(flag uint16) bool { return r.flags&flag != 0 }

// payload is how many bytes follow the head.
func (r request) payload() int64 {
	if r.cmd == cmdWrite {
		return int64(r.n)
	}
	return 0
}

// refusal is an answer to a request that never reaches the backend.
type refusal struct {
	code Code
	why  string
}

func (e *refusal) Error() string { return e.why }

// allowedFlags by command. FUA is allowed everywhere and means something to changes only.
var allowedFlags = [...]uint16{
	cmdRead:        cmdFlagFUA | cmdFlagDF,
	cmdWrite:       cmdFlagFUA,
	cmdFlush:       cmdFlagFUA,
	cmdTrim:        cmdFlagFUA,
	cmdWriteZeroes: cmdFlagFUA | cmdFlagNoHole,
	cmdBlockStatus: cmdFlagFUA | cmdFlagReqOne,
}

// check refuses what must not reach the backend, in the words of "Error values".
func (r request) check(size int64, readOnly, structured, status bool) *refusal {
	switch r.cmd {
	case cmdRead:
		if r.has(cmdFlagDF) && !structured {
			return &refusal{CodeEINVAL, "DF wants structured replies"}
		}
	case cmdWrite, cmdTrim, cmdWriteZeroes:
		if readOnly {
			return &refusal{CodeEPERM, "the export is read-only"}
		}
	case cmdFlush:
		if r.off != 0 || r.n != 0 {
			return &refusal{CodeEINVAL, "a flush takes no range"}
		}
	case cmdBlockStatus:
		if !status {
			return &refusal{CodeEINVAL, "no metadata context was chosen"}
		}
	default:
		return &refusal{CodeEINVAL, fmt.Sprintf("unknown request type %d", r.cmd)}
	}
	if bad := r.flags &^ allowedFlags[r.cmd]; bad != 0 {
		return &refusal{CodeEINVAL, fmt.Sprintf("flags %#x are not for request type %d", bad, r.cmd)}
	}
	if r.cmd == cmdFlush {
		return nil
	}
	return r.checkRange(size)
}

func (r request) checkRange(size int64) *refusal {
	switch {
	case r.n == 0:
		return &refusal{CodeEINVAL, "a length of 0"}
	case (r.cmd == cmdRead || r.cmd == cmdWrite) && r.n > maxPayload:
		return &refusal{CodeEINVAL, fmt.Sprintf("a length of %d: want at most %d", r.n, maxPayload)}
	case r.off > uint64(size) || uint64(r.n) > uint64(size)-r.off:
		code := CodeEINVAL
		if r.cmd == cmdWrite || r.cmd == cmdWriteZeroes {
			code = CodeENOSPC
		}
		return &refusal{code, fmt.Sprintf("%d bytes at %d: the disk ends at %d", r.n, r.off, size)}
	case (r.off|uint64(r.n))%sectorSize != 0:
		return &refusal{CodeEINVAL, fmt.Sprintf("%d bytes at %d: want multiples of %d", r.n, r.off, sectorSize)}
	}
	return nil
}
