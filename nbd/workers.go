package nbd

import "sync"

const (
	workersMax   = 16       // requests of one connection under way
	workersBytes = 64 << 20 // and their data, in bytes; a single request may always go
)

// workers answer the requests of one connection whose export blocks, each in a goroutine of its own, in any order.
type workers struct {
	idle    chan *worker // those that wait for a request
	started int

	mu    sync.Mutex
	free  sync.Cond // bytes went down
	bytes int64
	send  sync.Mutex // one reply at a time
	err   error      // the first one while sending; under send
}

type worker struct {
	todo chan request
	data scratch
	load []byte // the payload, in data
	out  scratch
}

func newWorkers() *workers {
	w := &workers{idle: make(chan *worker, workersMax)}
	w.free.L = &w.mu
	return w
}

// hand gives a request to a worker, waiting for one if all are busy. The payload is copied.
func (w *workers) hand(s *session, r request, payload []byte) error {
	w.mu.Lock()
	need := w.need(r)
	for w.bytes > 0 && w.bytes+need > workersBytes {
		w.free.Wait()
	}
	w.bytes += need
	w.mu.Unlock()
	one := w.take(s)
	one.load = one.data.sized(len(payload))
	copy(one.load, payload)
	one.todo <- r
	w.send.Lock()
	defer w.send.Unlock()
	return w.err
}

func (w *workers) need(r request) int64 {
	if (r.cmd == cmdRead || r.cmd == cmdWrite) && r.n <= maxPayload {
		return int64(r.n)
	}
	return 0
}

func (w *workers) take(s *session) *worker {
	select {
	case one := <-w.idle:
		return one
	default:
	}
	if w.started == workersMax {
		return <-w.idle
	}
	w.started++
	one := &worker{todo: make(chan request, 1)}
	go w.work(s, one)
	return one
}

func (w *workers) work(s *session, one *worker) {
	for r := range one.todo {
		out := s.answer(s.ctx, one.out.b[:0], r, one.load)
		w.send.Lock()
		if _, err := s.conn.Write(out); err != nil && w.err == nil {
			w.err = err
		}
		w.send.Unlock()
		one.out.b = out
		one.out.trim()
		one.data.trim()
		w.mu.Lock()
		w.bytes -= w.need(r)
		w.mu.Unlock()
		w.free.Signal()
		w.idle <- one
	}
}

// wait until everything under way is answered, and end the workers.
func (w *workers) wait() error {
	for range w.started {
		close((<-w.idle).todo)
	}
	w.send.Lock()
	defer w.send.Unlock()
	return w.err
}
