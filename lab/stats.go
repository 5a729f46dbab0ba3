package lab

import (
	"math"
	"slices"
)

// medianInterval gives the median of values and the narrowest pair of order statistics that encloses the true median with at
// least 95 % confidence, whatever the distribution (sign test). With fewer than 6 values no pair does; then it is the extremes.
func medianInterval(values []float64) (low, mid, high float64) {
	if len(values) == 0 {
		return 0, 0, 0
	}
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	mid = (v[(n-1)/2] + v[n/2]) / 2
	k := 0 // v[k] and its mirror enclose the median with 1 - 2·P(at most k of n)
	for k+1 < (n+1)/2 && 1-2*atMost(k+1, n) >= 0.95 {
		k++
	}
	return v[k], mid, v[n-1-k]
}

// atMost is the probability of at most k heads in n throws of a fair coin.
func atMost(k, n int) (p float64) {
	for i := 0; i <= k; i++ {
		lc, _ := math.Lgamma(float64(n + 1))
		la, _ := math.Lgamma(float64(i + 1))
		lb, _ := math.Lgamma(float64(n - i + 1))
		p += math.Exp(lc - la - lb - float64(n)*math.Ln2)
	}
	return p
}
