package lab

import "testing"

func TestMedianInterval(t *testing.T) {
	upTo := func(n int) (v []float64) {
		for i := n; i > 0; i-- {
			v = append(v, float64(i))
		}
		return v
	}
	// The pairs are those of the tables of the sign test.
	for _, c := range []struct {
		n              int
		low, mid, high float64
	}{{1, 1, 1, 1}, {5, 1, 3, 5}, {6, 1, 3.5, 6}, {9, 2, 5, 8}, {20, 6, 10.5, 15}} {
		low, mid, high := medianInterval(upTo(c.n))
		if low != c.low || mid != c.mid || high != c.high {
			t.Errorf("of 1..%d: %v, %v, %v; want %v, %v, %v", c.n, low, mid, high, c.low, c.mid, c.high)
		}
	}
}
