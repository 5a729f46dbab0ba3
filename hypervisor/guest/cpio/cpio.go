// Package cpio writes archives in the form that Linux takes as an initramfs ("newc").
package cpio

import (
	"bytes"
	"fmt"
)

const (
	modeDir  = 0o040000
	modeFile = 0o100000
	modeLink = 0o120000
	modeChar = 0o020000
)

// Archive being written. Parents come before their children. The zero Archive is empty.
type Archive struct {
	buf   bytes.Buffer
	inode int
}

// Dir adds a directory.
func (a *Archive) Dir(name string, perm int) { a.add(name, modeDir|perm, 0, 0, nil) }

// File adds a file.
func (a *Archive) File(name string, perm int, data []byte) { a.add(name, modeFile|perm, 0, 0, data) }

// Link adds a symbolic link.
func (a *Archive) Link(name, target string) { a.add(name, modeLink|0o777, 0, 0, []byte(target)) }

// CharDevice adds a character device, which needs no privilege here.
func (a *Archive) CharDevice(name string, perm, major, minor int) {
	a.add(name, modeChar|perm, major, minor, nil)
}

// Bytes of the whole archive. Nothing may be added after it.
func (a *Archive) Bytes() []byte {
	a.add("TRAILER!!!", 0, 0, 0, nil)
	return a.buf.Bytes()
}

func (a *Archive) add(name string, mode, major, minor int, data []byte) {
	a.inode++
	// magic, inode, mode, uid, gid, links, mtime, size, device of the file, device that it is, length of the name, checksum
	fmt.Fprintf(&a.buf, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		a.inode, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name)+1, 0, name)
	a.pad()
	a.buf.Write(data)
	a.pad()
}

// pad to a multiple of four.
func (a *Archive) pad() {
	for a.buf.Len()%4 != 0 {
		a.buf.WriteByte(0)
	}
}
