// Package armbench measures moves through the ARM simulator against what the plan's
// dependency graph allows at best, and beside it the order of the original ha-nva
// daemon: one address after the other, each detached, attached and attached once
// more, then one table after the other.
package armbench

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/cloud"
	"github.com/understudy-ha/understudy/cloud/azure"
	"github.com/understudy-ha/understudy/cloud/azure/armsim"
	"github.com/understudy-ha/understudy/cloud/cloudtest/graph"
)

// Tolerance is how much longer than the critical path a move may take, in ARM's time.
const Tolerance = time.Second

// Case is one set of latencies.
type Case struct {
	Name string `json:"name"`
	// Table and NIC are how long each write takes; SlowNIC, if set, is one losing NIC's.
	Table, NIC, SlowNIC time.Duration
}

// Cases are the published latencies: the new control plane's 7 s, the old one's 60 s, and a field report's NIC of 8 minutes.
func Cases() []Case {
	return []Case{
		{Name: "7s", Table: 7 * time.Second, NIC: 7 * time.Second},
		{Name: "60s", Table: 60 * time.Second, NIC: 60 * time.Second},
		{Name: "480s", Table: 7 * time.Second, NIC: 60 * time.Second, SlowNIC: 480 * time.Second},
	}
}

// Options of CompareOrders.
type Options struct {
	// Cases to measure. Default Cases().
	Cases []Case
	// Scale is how many times faster than the clock ARM runs. Default 20: its second is then 50 ms, which the
	// scheduling noise of a busy machine does not reach. In process, with a fake clock, 1 is exact.
	Scale float64
	// InProcess leaves out the sockets, for synctest bubbles.
	InProcess bool
	// Request is how long each request is on its way, in ARM's time. Default 50ms.
	Request time.Duration
	// Poll of the driver, in ARM's time. Default azure.DefaultPoll.
	Poll time.Duration
}

// Row is one case measured. All times are in ARM's seconds.
type Row struct {
	Case  string `json:"case"`
	Steps int    `json:"steps"`
	// CriticalPath is the dependency graph's: no order can be faster.
	CriticalPath float64 `json:"criticalPathSeconds"`
	// Total is what the move took, with every step read back.
	Total float64 `json:"totalSeconds"`
	// SlowestTable is one table's write; RoutesDone is when the last table was read back.
	SlowestTable float64 `json:"slowestTableSeconds"`
	RoutesDone   float64 `json:"routesDoneSeconds"`
	// Serial is what the original's order took; its routes are done last.
	Serial       float64 `json:"serialSeconds"`
	SerialWrites int     `json:"serialWrites"`
	// OK: Total and RoutesDone are within Tolerance of their floors.
	OK bool `json:"ok"`
}

// CompareOrders measures each case. The error is for what did not work; a move that was too slow is a Row with OK false.
func CompareOrders(ctx context.Context, o Options) ([]Row, error) {
	if len(o.Cases) == 0 {
		o.Cases = Cases()
	}
	if o.Scale <= 0 {
		o.Scale = 20
	}
	if o.Poll <= 0 {
		o.Poll = azure.DefaultPoll
	}
	if o.Request <= 0 {
		o.Request = 50 * time.Millisecond
	}
	var rows []Row
	for _, c := range o.Cases {
		row, err := compare(ctx, o, c)
		if err != nil {
			return rows, fmt.Errorf("case %s: %w", c.Name, err)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func compare(ctx context.Context, o Options, c Case) (Row, error) {
	row := Row{Case: c.Name, SlowestTable: c.Table.Seconds()}
	if err := inSimulator(o, o.Scale, c, func(sim *armsim.Server, endpoint string, rt http.RoundTripper) error {
		return measureMove(ctx, o, c, sim, endpoint, rt, &row)
	}); err != nil {
		return row, err
	}
	serialScale := o.Scale
	if !o.InProcess {
		serialScale *= 10 // nothing hangs on this figure's last second
	}
	if err := inSimulator(o, serialScale, c, func(sim *armsim.Server, endpoint string, rt http.RoundTripper) error {
		return measureSerial(ctx, sim, endpoint, rt, &row)
	}); err != nil {
		return row, err
	}
	limit := Tolerance.Seconds()
	row.OK = row.Total <= row.CriticalPath+limit && row.RoutesDone <= row.SlowestTable+limit
	return row, nil
}

// inSimulator runs f against a fresh simulator, over loopback HTTP or in process.
func inSimulator(o Options, scale float64, c Case, f func(*armsim.Server, string, http.RoundTripper) error) error {
	sim, err := armsim.New(armsim.Options{Seed: 1, TimeScale: scale, Token: simToken, Topology: topology(o, c)})
	if err != nil {
		return err
	}
	if o.InProcess {
		return f(sim, "https://arm.test", sim.Transport())
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: sim, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	rt := &http.Transport{MaxIdleConnsPerHost: 32}
	err = f(sim, "http://"+l.Addr().String(), rt)
	rt.CloseIdleConnections()
	if e := srv.Close(); err == nil && e != nil {
		err = e
	}
	<-served
	return err
}

// measureMove plans a failover from a to b and runs its graph with the product's planner and driver.
func measureMove(ctx context.Context, o Options, c Case, sim *armsim.Server, endpoint string, rt http.RoundTripper, row *Row) error {
	g := group()
	p := &api.Provider{Spec: api.ProviderSpec{Type: api.ProviderAzure, Azure: &api.AzureProvider{
		Endpoint: endpoint, Credential: api.AzureCredential{Type: azure.Static, SecretRef: "token"},
	}}}
	d, err := azure.New(azure.Config{Provider: p, Transport: rt, Poll: sim.Real(o.Poll), Secret: func(string) (map[string]string, error) {
		return map[string]string{"token": simToken}, nil
	}})
	if err != nil {
		return err
	}
	steps, err := azure.Planner{}.Plan(cloud.Move{Group: g, Provider: p, From: "a", To: "b", Generation: 1})
	if err != nil {
		return err
	}
	path, err := graph.CriticalPath(steps, func(s api.Step) time.Duration { return c.cost(s) })
	if err != nil {
		return err
	}
	token := api.Token{ClusterID: "armbench", Epoch: 1, Generation: 1}
	begin := sim.Now()
	timings, err := graph.Run(ctx, steps, func(ctx context.Context, s api.Step) (string, error) { return d.Do(ctx, token, s) })
	row.Total = (sim.Now() - begin).Seconds()
	if err != nil {
		return err
	}
	row.Steps, row.CriticalPath = len(steps), path.Seconds()
	for _, t := range timings {
		if t.Kind == api.StepRoutes {
			row.RoutesDone = max(row.RoutesDone, t.End.Seconds()*float64(time.Second)/float64(sim.Real(time.Second)))
		}
	}
	s, err := d.Observe(ctx, g)
	if err != nil {
		return err
	}
	if s.On() != "b" {
		return fmt.Errorf("after the move not everything is on b: %+v", s.Astray("b"))
	}
	return d.Close()
}

// cost is what a step's write takes in the simulator.
func (c Case) cost(s api.Step) time.Duration {
	switch {
	case s.Routes != nil:
		return c.Table
	case c.SlowNIC > 0 && strings.EqualFold(s.NIC.NIC, nicID("a", nicNames[0])):
		return c.SlowNIC
	}
	return c.NIC
}

// Print writes the rows as a table for people.
func Print(w io.Writer, rows []Row) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "case\tcritical path\tmeasured\tslowest table\troutes done\toriginal's order\t\t")
	for _, r := range rows {
		verdict := "ok"
		if !r.OK {
			verdict = "TOO SLOW"
		}
		fmt.Fprintf(tw, "%s\t%.1f s\t%.1f s\t%.1f s\t%.1f s\t%.1f s\t%s\t\n", r.Case, r.CriticalPath, r.Total, r.SlowestTable, r.RoutesDone, r.Serial, verdict)
	}
	return tw.Flush()
}
