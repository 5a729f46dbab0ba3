package armsim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// errCut is what a client sees of a cut connection.
var errCut = errors.New("armsim: the connection was cut")

// roundTripper answers requests without a socket.
type roundTripper struct{ s *Server }

// RoundTrip implements http.RoundTripper.
func (t roundTripper) RoundTrip(q *http.Request) (*http.Response, error) {
	t.s.travel(q)
	if err := q.Context().Err(); err != nil {
		return nil, err
	}
	var body []byte
	if q.Body != nil {
		b, err := io.ReadAll(q.Body)
		if err != nil {
			return nil, err
		}
		if err := q.Body.Close(); err != nil {
			return nil, err
		}
		body = b
	}
	in := q.Clone(q.Context())
	if in.Host == "" {
		in.Host = q.URL.Host
	}
	a := t.s.answer(in, body)
	if a.cut {
		return nil, errCut
	}
	var out []byte
	if a.body != nil {
		b, err := json.Marshal(a.body)
		if err != nil {
			return nil, err
		}
		out = b
	}
	return &http.Response{
		Status: fmt.Sprintf("%d %s", a.status, http.StatusText(a.status)), StatusCode: a.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: a.header, Body: io.NopCloser(bytes.NewReader(out)), ContentLength: int64(len(out)), Request: q,
	}, nil
}
