// Command understudy-guest is the first program of the tiny guests that the lab and the tests boot.
package main

import "github.com/understudy-ha/understudy/hypervisor/guest/workload"

func main() { workload.Init() }
