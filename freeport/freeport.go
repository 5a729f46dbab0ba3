// Package freeport finds loopback ports for the servers that tests start.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// The ports are below those that the kernel gives to outgoing connections (from 32768 on), one of which might
// take a port between its choice and the server's start.
const first, last = 15000, 32000

// Take gives n ports that nobody listens on right now.
func Take(n int) ([]int, error) {
	var ports []int
	for try := 0; len(ports) < n; try++ {
		port := first + rand.IntN(last-first)
		l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port))
		if err == nil {
			defer l.Close() // only at the end, so that none is found twice
			ports = append(ports, port)
		} else if try > 100+10*n {
			return nil, errors.Join(fmt.Errorf("no %d free ports between %d and %d", n, first, last), err)
		}
	}
	return ports, nil
}

// Address gives a loopback address that nobody listens on right now.
func Address() (string, error) {
	ports, err := Take(1)
	if err != nil {
		return "", err
	}
	return fmt.Sprint("127.0.0.1:", ports[0]), nil
}
