package main

import "testing"

// fioReport is what fio 3 prints of a job that reads, cut to what is read here.
const fioReport = `note: both iodepth >= 1 and synchronous I/O engine are selected
{"jobs":[{"read":{"iops":1000.5,"bw_bytes":4098048,"total_ios":5002,"clat_ns":{"percentile":{"99.000000":250000}}},
"write":{"iops":0,"bw_bytes":0,"total_ios":0,"clat_ns":{}}}]}`

func TestReadFio(t *testing.T) {
	if s, err := readFio([]byte(fioReport), "iops"); err != nil || s != (sample{value: 1000.5, p99: 250, requests: 5002}) {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err := readFio([]byte(fioReport), "MiB/s"); err != nil || s.value != 4098048.0/(1<<20) {
		t.Errorf("%+v, %v", s, err)
	}
	for _, bad := range []string{"", "{}", `{"jobs":[{}]}`} {
		if s, err := readFio([]byte(bad), "iops"); err == nil {
			t.Errorf("%q is read as %+v", bad, s)
		}
	}
}

// TestABBA: each round measures both twice in mirrored order, and its ratio is of their sums.
func TestABBA(t *testing.T) {
	order, speed := "", 0.0
	measure := func(name string, of float64) func() (sample, error) {
		return func() (sample, error) {
			order, speed = order+name, speed+1 // a machine that gets faster all the time
			return sample{value: of + speed}, nil
		}
	}
	as, bs, err := abba(3, measure("a", 100), measure("b", 100), func(int, sample, sample) {})
	if err != nil || order != "abbaabbaabba" {
		t.Fatal(order, err)
	}
	for i, r := range byRound(as, bs, rate) {
		if r != 1 {
			t.Errorf("round %d: ratio %v of two that are equal", i+1, r)
		}
	}
}

func TestGoals(t *testing.T) {
	for _, c := range []struct {
		judge  func(r *report)
		passed bool
	}{
		{func(r *report) { r.atLeast(0.9, "x", []float64{0.5, 0.9, 1}, "", "") }, true},
		{func(r *report) { r.atLeast(0.9, "x", []float64{0.5, 0.89, 1}, "", "") }, false},
		{func(r *report) { r.atMost(1.5, "x", []float64{1, 1.5, 9}, "", "") }, true},
		{func(r *report) { r.atMost(1.5, "x", []float64{1, 1.6, 9}, "", "") }, false},
	} {
		var r report
		r.Passed = true
		if c.judge(&r); r.Passed != c.passed || r.Checks[0].Passed != c.passed || len(r.Figures) != 3 {
			t.Errorf("%+v, want %v", r, c.passed)
		}
	}
}

func TestPipelineLines(t *testing.T) {
	out := "BenchmarkPipeline/seal-2         \t      12\t 171797962 ns/op\t  48.83 MB/s\n" +
		"BenchmarkPipeline/all-2          \t       8\t 260077029 ns/op\t  32.25 MB/s\t        30.76 MiB/s\n"
	m := benchLine.FindAllStringSubmatch(out, -1)
	if len(m) != 2 || m[0][1] != "seal" || m[0][2] != "48.83" || m[1][1] != "all" || m[1][2] != "32.25" {
		t.Errorf("%q", m)
	}
}
