package lead

import (
	"cmp"
	"strconv"
	"strings"
)

// ClusterID builds the name of a cluster's life: its serial orders lives, its suffix makes two lives with one serial differ.
func ClusterID(serial uint64, suffix string) string {
	return strconv.FormatUint(serial, 10) + "-" + suffix
}

// ClusterSerial gives the serial of a cluster id; 0 for "" and what is none.
func ClusterSerial(id string) uint64 {
	n, err := strconv.ParseUint(strings.SplitN(id, "-", 2)[0], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// CompareClusters orders cluster ids: by serial, then, so that any two differ, by text.
func CompareClusters(a, b string) int {
	if c := cmp.Compare(ClusterSerial(a), ClusterSerial(b)); c != 0 {
		return c
	}
	return strings.Compare(a, b)
}
