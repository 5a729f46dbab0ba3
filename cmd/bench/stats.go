package main

import (
	"math"
	"slices"
)

// medianInterval gives the median and the narrowest pair of order statistics that encloses the true median with at least 95 %
// confidence (sign test); with fewer than 6 values that is the extremes at best.
func medianInterval(values []float64) (low, mid, high float64) {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	mid = (v[(n-1)/2] + v[n/2]) / 2
	k, outside, ways := 0, 2*math.Pow(0.5, float64(n)), 1.0 // outside: chance that the median lies beyond v[k] and its mirror
	for k+1 < (n+1)/2 {
		ways *= float64(n-k) / float64(k+1)
		if outside += 2 * ways * math.Pow(0.5, float64(n)); outside > 0.05 {
			break
		}
		k++
	}
	return v[k], mid, v[n-1-k]
}
