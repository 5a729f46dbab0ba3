package main

import (
	"fmt"
	"os"
	"strconv"

	"github.com/understudy-ha/understudy/sim"
)

func main() {
	seed, _ := strconv.ParseUint(os.Args[1], 10, 64)
	if len(os.Args) > 2 {
		n, _ := strconv.Atoi(os.Args[2])
		for i := range n {
			r := sim.Run(seed+uint64(i), nil)
			fmt.Println(r.Seed, r.Lines, r.Failovers, r.Moves, r.Jobs, r.Virtual, r.Failure)
		}
		return
	}
	fmt.Println(sim.Run(seed, os.Stdout).Failure)
}
