package lab

import (
	"context"
	"fmt"

	"github.com/understudy-ha/understudy/cloud/azure/armbench"
)

// runARMLatency moves a pair on Azure's simulator with the latencies that were published, beside the order of the
// original daemon. Its seconds are ARM's, twenty times faster than the clock's.
func runARMLatency(ctx context.Context, o Options) (r Result, err error) {
	if len(o.Faults) > 0 {
		return r, refuse("fault", fmt.Sprint(o.Faults), "none: nothing breaks, writes are slow")
	}
	rows, err := armbench.CompareOrders(ctx, armbench.Options{})
	if err != nil {
		return r, err
	}
	for _, row := range rows {
		for _, f := range []Figure{
			{Name: "critical_path", Value: row.CriticalPath}, {Name: "total", Value: row.Total},
			{Name: "slowest_table", Value: row.SlowestTable}, {Name: "routes_done", Value: row.RoutesDone},
			{Name: "total", Value: row.Serial, Peer: "ha-nva"},
		} {
			f.Unit, f.Fault = "s", row.Case
			f.Value = float64(int(f.Value*10+0.5)) / 10
			r.figure(f)
		}
		r.check(row.Case+" writes", row.OK, "total %.1f s with a critical path of %.1f s; routes after %.1f s with a slowest table of %.1f s; the original's order takes %.1f s",
			row.Total, row.CriticalPath, row.RoutesDone, row.SlowestTable, row.Serial)
	}
	return r, nil
}
