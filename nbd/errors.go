package nbd

import (
	"context"
	"errors"
	"fmt"
	"syscall"
)

// Errors that backends may return or wrap, and that clients' errors are (errors.Is).
var (
	ErrReadOnly     = errors.New("the disk is read-only")
	ErrNoSpace      = errors.New("no space is left for the disk's data")
	ErrInvalid      = errors.New("the request is not valid")
	ErrNotSupported = errors.New("not supported")
	ErrShutdown     = errors.New("the server is shutting down")
	// ErrDisconnected: the connection ended before the answer came; the request may or may not have been carried out.
	ErrDisconnected = errors.New("disconnected from the NBD server")
	// ErrProtocol: the other side does not follow the protocol. Trying again does not help.
	ErrProtocol = errors.New("not the NBD protocol")
	// ErrUnknownExport: the server has no such export.
	ErrUnknownExport = errors.New("no such export")
	// ErrExists: there is an export of that name.
	ErrExists = errors.New("there is an export of that name")
	// ErrClosed: used after Close.
	ErrClosed = errors.New("closed")
)

// Code is an error as it travels ("Error values"); the numbers are those of Linux.
type Code uint32

// The error values of the protocol.
const (
	CodeEPERM     Code = 1
	CodeEIO       Code = 5
	CodeENOMEM    Code = 12
	CodeEINVAL    Code = 22
	CodeENOSPC    Code = 28
	CodeEOVERFLOW Code = 75
	CodeENOTSUP   Code = 95
	CodeESHUTDOWN Code = 108
)

// sentinels that a code stands for, where there is one.
var sentinels = map[Code]error{
	CodeEPERM: ErrReadOnly, CodeENOSPC: ErrNoSpace, CodeEINVAL: ErrInvalid, CodeENOTSUP: ErrNotSupported, CodeESHUTDOWN: ErrShutdown,
}

// CodeOf gives the code by which a backend's error is told to clients: CodeEIO for errors it does not know.
func CodeOf(err error) Code {
	var remote *RemoteError
	if errors.As(err, &remote) {
		return remote.Code
	}
	for code, sentinel := range sentinels {
		if errors.Is(err, sentinel) {
			return code
		}
	}
	if errors.Is(err, context.Canceled) {
		return CodeESHUTDOWN // requests are cancelled only when the server is cut
	}
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return CodeEIO
	}
	switch errno {
	case syscall.EPERM, syscall.EROFS, syscall.EACCES:
		return CodeEPERM
	case syscall.ENOMEM:
		return CodeENOMEM
	case syscall.EINVAL:
		return CodeEINVAL
	case syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG:
		return CodeENOSPC
	case syscall.EOVERFLOW:
		return CodeEOVERFLOW
	case syscall.EOPNOTSUPP, syscall.ENOSYS:
		return CodeENOTSUP
	case syscall.ESHUTDOWN:
		return CodeESHUTDOWN
	}
	return CodeEIO
}

func (c Code) String() string {
	names := map[Code]string{
		CodeEPERM: "EPERM", CodeEIO: "EIO", CodeENOMEM: "ENOMEM", CodeEINVAL: "EINVAL",
		CodeENOSPC: "ENOSPC", CodeEOVERFLOW: "EOVERFLOW", CodeENOTSUP: "ENOTSUP", CodeESHUTDOWN: "ESHUTDOWN",
	}
	if n := names[c]; n != "" {
		return n
	}
	return fmt.Sprintf("error %d", uint32(c))
}

// RemoteError is a server's refusal of a request, or its failure. errors.Is finds the package's sentinels and Linux' errno in it.
type RemoteError struct {
	Op      string // "read", "write", …
	Off     int64
	Len     int64
	Code    Code
	Message string // the server's words, may be empty
}

func (e *RemoteError) Error() string {
	s := fmt.Sprintf("nbd: %s of %d bytes at %d: %s", e.Op, e.Len, e.Off, e.Code)
	if e.Message != "" {
		s += ": " + e.Message
	}
	return s
}

// Is finds the sentinel and the errno that the code stands for.
func (e *RemoteError) Is(target error) bool {
	return target == syscall.Errno(e.Code) || sentinels[e.Code] != nil && sentinels[e.Code] == target
}
