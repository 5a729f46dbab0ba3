package server

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/store"
)

func isStoreNotFound(err error) bool { return errors.Is(err, store.ErrNotFound) }

// asError turns any error into what the API answers. Errors that are nobody's business become Internal.
func asError(err error) *api.Error {
	var e *api.Error
	var bad *api.Invalid
	var big *http.MaxBytesError
	switch {
	case errors.As(err, &e):
		return e
	case errors.As(err, &bad):
		return &api.Error{Code: api.CodeInvalid, Message: bad.Error(), Fields: bad.Fields}
	case errors.As(err, &big):
		return api.Errorf(api.CodeTooLarge, "the body is larger than %d bytes", big.Limit)
	case errors.Is(err, store.ErrUnknown):
		return api.Errorf(api.CodeOutcomeUnknown, "the store broke off: the write may or may not have happened; read before trying again")
	case errors.Is(err, store.ErrUnavailable):
		return api.Errorf(api.CodeUnavailable, "the store does not answer; nothing was changed; try again")
	case errors.Is(err, store.ErrConflict):
		return api.Errorf(api.CodeConflict, "somebody else changed the same thing at the same moment; try again")
	case errors.Is(err, store.ErrNotFound):
		return api.Errorf(api.CodeNotFound, "not found")
	}
	return api.Errorf(api.CodeInternal, "internal error; the controller's log says more")
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		slog.Debug("answer was not delivered", "err", err) // the client has gone
	}
}
