package qemu

import (
	"encoding/binary"

	"github.com/understudy-ha/understudy/hypervisor/guest/cpio"
)

// probeMarker is what the probe's guest says when it runs.
const probeMarker = "UNDERSTUDY ACCELERATION OK"

// probeInitramfs holds one program that says the marker and turns the power off.
func probeInitramfs() []byte {
	var a cpio.Archive
	a.Dir("dev", 0o755)
	a.CharDevice("dev/console", 0o600, 5, 1) // what the kernel gives the first program as its output
	a.File("init", 0o755, probeProgram())
	return a.Bytes()
}

// probeProgram is a whole Linux program for x86-64, written by hand so that no compiler is needed where machines run.
func probeProgram() []byte {
	const base, header = 0x400000, 64 + 56
	code := []byte{
		0xb8, 1, 0, 0, 0, // mov eax, 1 (write)
		0xbf, 1, 0, 0, 0, // mov edi, 1 (standard output)
		0xbe, 0, 0, 0, 0, // mov esi, text: filled in below
		0xba, 0, 0, 0, 0, // mov edx, length: filled in below
		0x0f, 0x05, // syscall
		0xb8, 169, 0, 0, 0, // mov eax, 169 (reboot)
		0xbf, 0xad, 0xde, 0xe1, 0xfe, // mov edi, first magic
		0xbe, 0x69, 0x19, 0x12, 0x28, // mov esi, second magic
		0xba, 0xdc, 0xfe, 0x21, 0x43, // mov edx, power off
		0x0f, 0x05, // syscall
		0xeb, 0xfe, // jmp to itself: never left
	}
	text := probeMarker + "\n"
	le := binary.LittleEndian
	le.PutUint32(code[11:], uint32(base+header+len(code)))
	le.PutUint32(code[16:], uint32(len(text)))
	size := uint64(header + len(code) + len(text))

	b := []byte{0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0} // 64 bits, little endian
	b = le.AppendUint16(b, 2)                                            // a program
	b = le.AppendUint16(b, 62)                                           // for x86-64
	b = le.AppendUint32(b, 1)
	b = le.AppendUint64(b, base+header) // starts here
	b = le.AppendUint64(b, 64)          // the program header follows
	b = le.AppendUint64(b, 0)
	b = le.AppendUint32(b, 0)
	for _, v := range []uint16{64, 56, 1, 0, 0, 0} { // sizes and counts of headers
		b = le.AppendUint16(b, v)
	}
	b = le.AppendUint32(b, 1)                                       // load
	b = le.AppendUint32(b, 5)                                       // to read and to execute
	for _, v := range []uint64{0, base, base, size, size, 0x1000} { // all of the file, at base
		b = le.AppendUint64(b, v)
	}
	return append(append(b, code...), text...)
}
