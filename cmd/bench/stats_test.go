package main

import "testing"

func TestMedianInterval(t *testing.T) {
	for _, c := range []struct {
		n              int
		low, mid, high float64
	}{{1, 1, 1, 1}, {3, 1, 2, 3}, {6, 1, 3.5, 6}, {9, 2, 5, 8}, {20, 6, 10.5, 15}} { // as tables of the sign test have it
		var v []float64
		for i := c.n; i > 0; i-- {
			v = append(v, float64(i))
		}
		if low, mid, high := medianInterval(v); low != c.low || mid != c.mid || high != c.high {
			t.Errorf("%d values: %v %v %v, want %v %v %v", c.n, low, mid, high, c.low, c.mid, c.high)
		}
	}
}
