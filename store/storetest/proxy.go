package storetest

import (
	"io"
	"net"
	"sync"
)

// Proxy forwards TCP connections to a server, until it is cut: then connections break and new ones
// are refused, as when the network between a client and its server is gone. TLS passes through.
type Proxy struct {
	listener net.Listener
	target   string
	running  sync.WaitGroup

	mu     sync.Mutex
	thawed *sync.Cond
	cut    bool // also after Close
	frozen bool
	conns  map[net.Conn]struct{}
}

// NewProxy listens on a free loopback port for target ("host:port").
func NewProxy(target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: l, target: target, conns: map[net.Conn]struct{}{}}
	p.thawed = sync.NewCond(&p.mu)
	p.running.Go(p.accept)
	return p, nil
}

// Addr is where clients connect to.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Cut breaks every connection and refuses new ones until Heal.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	p.frozen = false
	p.thawed.Broadcast()
	for c := range p.conns {
		c.Close()
	}
}

// Freeze keeps every connection, and accepts new ones, but lets nothing through until Thaw or Cut: as when
// packets are dropped.
func (p *Proxy) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = true
}

// Thaw ends Freeze. What was sent meanwhile arrives.
func (p *Proxy) Thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = false
	p.thawed.Broadcast()
}

// Heal ends Cut.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = false
}

// Close breaks every connection and waits for the goroutines.
func (p *Proxy) Close() {
	p.listener.Close()
	p.Cut()
	p.running.Wait()
}

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.serve(c) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	defer client.Close()
	if !p.own(client) {
		return
	}
	defer p.disown(client)
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer server.Close()
	if !p.own(server) {
		return
	}
	defer p.disown(server)
	p.running.Go(func() {
		io.Copy(gate{p, server}, client)
		server.Close()
	})
	io.Copy(gate{p, client}, server)
}

// own registers a connection for Cut, unless it comes too late.
func (p *Proxy) own(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.cut {
		p.conns[c] = struct{}{}
	}
	return !p.cut
}

func (p *Proxy) disown(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// gate is a connection that takes bytes when the proxy is not frozen.
type gate struct {
	proxy *Proxy
	conn  net.Conn
}

func (g gate) Write(b []byte) (int, error) {
	g.proxy.mu.Lock()
	for g.proxy.frozen {
		g.proxy.thawed.Wait()
	}
	g.proxy.mu.Unlock()
	return g.conn.Write(b)
}
