package workload

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"syscall"
)

// handler is the guest's service: GET / and /state tell its state, POST /write?n=N writes N records and answers when they are durable.
func handler(r *recorder) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, "seq=%d\n", r.now().Seq) })
	tell := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(r.now())
	}
	mux.HandleFunc("GET /state", tell)
	mux.HandleFunc("GET /cgi-bin/state", tell)
	mux.HandleFunc("POST /write", func(w http.ResponseWriter, q *http.Request) {
		n, err := strconv.Atoi(q.FormValue("n"))
		if err != nil || n < 1 || n > 1_000_000 {
			http.Error(w, fmt.Sprintf("n %q: want 1 to 1000000", q.FormValue("n")), http.StatusBadRequest)
			return
		}
		if err := r.write(n); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		tell(w, q)
	})
	mux.HandleFunc("POST /sync", func(w http.ResponseWriter, q *http.Request) {
		syscall.Sync()
		tell(w, q)
	})
	return mux
}
