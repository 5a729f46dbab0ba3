package server

import (
	"context"
	"encoding/json"
	"log/slog"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/notify"
	"github.com/understudy-ha/understudy/store"
)

// recordQueue is how many events wait to be written; when it is full the newest is dropped and counted.
const recordQueue = 256

// recorder writes events to the store and tells notifiers.
type recorder struct {
	s      *Server
	queue  chan api.Event
	notify *notify.Notifier
}

func newRecorder(s *Server) *recorder {
	n := s.cfg.Notify
	return &recorder{s: s, queue: make(chan api.Event, recordQueue), notify: notify.New(notify.Config{Webhooks: n.Webhooks, Exec: n.Exec,
		Dir: s.cfg.HooksDir, Mail: n.Mail, MinSeverity: n.MinSeverity, Dropped: func(string, string) { s.metrics.dropped.WithLabelValues("notifications").Inc() }})}
}

// record is called by the loop and does not wait.
func (r *recorder) record(e api.Event) {
	slog.Info(e.Message, "code", e.Code, "severity", e.Severity, "regarding", e.Regarding)
	r.notify.Tell(e)
	select {
	case r.queue <- e:
	default:
		r.s.metrics.dropped.WithLabelValues("events").Inc()
	}
}

func (r *recorder) run(ctx context.Context) {
	defer r.notify.Close()
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-r.queue:
			if err := r.write(ctx, e); err != nil {
				r.s.metrics.dropped.WithLabelValues("events").Inc()
				slog.Debug("event was not stored", "code", e.Code, "err", err)
			}
		}
	}
}

func (r *recorder) write(ctx context.Context, e api.Event) error {
	value, err := json.Marshal(e)
	if err != nil {
		return err
	}
	key := api.ObjectKey(e.Ref())
	_, err = r.s.store.Txn(ctx, []store.Cond{{Key: key}}, []store.Op{{Key: key, Value: value}})
	return err
}
