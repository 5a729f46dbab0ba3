// Package lab builds the seed architectures in network namespaces of this host, with real processes, sends traffic
// through them, injects faults and reports what a client saw. It is the demo, the end-to-end test and the benchmark.
//
// It needs root. Everything a run makes lives in namespaces of its own and is removed when the run ends, also after an
// interrupt; what a killed run left behind is removed by [Down], and by the next run.
package lab
