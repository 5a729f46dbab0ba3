package probe

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// maxStatusLine is what is read at most; a status line is far shorter.
const maxStatusLine = 512

func (a attempt) askHTTP() *failure {
	c, f := a.dial()
	if f != nil {
		return f
	}
	defer c.close()
	if f := c.write(request(a.Target), a.deadline); f != nil {
		return f
	}
	var buf [maxStatusLine]byte
	have := 0
	for have < len(buf) {
		n, f := c.read(buf[have:], a.deadline)
		if f != nil {
			return f
		}
		have += n
		if end := bytes.IndexByte(buf[:have], '\n'); end >= 0 {
			return judge(buf[:end])
		}
	}
	return judge(nil)
}

// request is written by hand: net/http's client takes twice the time for the same probe.
func request(t Target) []byte {
	path := t.Path
	if path == "" {
		path = "/"
	}
	b := make([]byte, 0, 128+len(path))
	b = append(b, "GET "...)
	b = append(b, path...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = t.Address.AppendTo(b)
	return append(b, "\r\nUser-Agent: understudy-probe\r\nConnection: close\r\n\r\n"...)
}

var errNoHTTP = errors.New("the answer is not HTTP/1")

// judge reads a status line and wants 200–299.
func judge(line []byte) *failure {
	code, ok := statusCode(line)
	switch {
	case !ok:
		return &failure{err: errNoHTTP}
	case code < 200 || code > 299:
		return &failure{err: fmt.Errorf("answered %d, want 200 to 299", code)}
	}
	return nil
}

// statusCode reads "HTTP/1.x NNN …".
func statusCode(line []byte) (int, bool) {
	rest, ok := bytes.CutPrefix(line, []byte("HTTP/1."))
	if !ok || len(rest) < 5 || rest[1] != ' ' || len(rest) > 5 && rest[5] != ' ' && rest[5] != '\r' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(rest[2:5]), 10, 16)
	return int(n), err == nil && n >= 100
}
