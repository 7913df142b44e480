// SPDX-License-Identifier: MIT

// sums - checksums by goroutines, while stacks grow, panics pass and garbage is collected.
//
// usage: sums-go THREADS
//
// Obeys `run N` and `quit` as tests/victims/victim.h says. In each round every goroutine calls
//
//	main.sum         once; it needs no look at its stack
//	main.panics      once; it panics, and is recovered from by main.recovers
//	main.grows       65 times at least: an entry that finds the stack too small is executed again
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

//go:noinline
func sum(x uint64) uint64 {
	return (x*0x51a76b35 ^ x) + 0x1f3d5217
}

//go:noinline
func grows(n int, x uint64) uint64 {
	var room [32]uint64
	room[n&31] = x
	if n == 0 {
		return x
	}
	return grows(n-1, x+1) + room[n&31] - x
}

//go:noinline
func panics(x uint64) uint64 {
	var none []uint64
	return none[x]
}

//go:noinline
func recovers(x uint64) (result uint64) {
	defer func() {
		if recover() != nil {
			result = x + 1
		}
	}()
	return panics(x)
}

var garbage sync.Map

func round(thread int, k uint64) (wrong int) {
	x := k*0x9e3779b97f4a7c15 + uint64(thread)
	if sum(x) != (x*0x51a76b35^x)+0x1f3d5217 {
		wrong++
	}
	if recovers(x) != x+1 {
		wrong++
	}
	done := make(chan uint64)
	go func() { done <- grows(64, x) }() // a stack of its own, which is small
	if <-done != x+64 {
		wrong++
	}
	if k%16 == 0 {
		garbage.Store(thread, make([]byte, 10000))
	}
	return wrong
}

func main() {
	threads, _ := strconv.Atoi(os.Args[1])
	runtime.GOMAXPROCS(threads)
	input := bufio.NewScanner(os.Stdin)
	wrong := 0
	time.Sleep(time.Millisecond) // opens what timers need
	fmt.Println("ready")
	for input.Scan() {
		words := strings.Fields(input.Text())
		if len(words) == 2 && words[0] == "run" {
			rounds, _ := strconv.ParseUint(words[1], 10, 64)
			results := make(chan int)
			for thread := 0; thread < threads; thread++ {
				go func(thread int) {
					bad := 0
					for k := uint64(0); k < rounds; k++ {
						bad += round(thread, k)
					}
					results <- bad
				}(thread)
			}
			for thread := 0; thread < threads; thread++ {
				wrong += <-results
			}
			fmt.Println("done", wrong)
		} else if len(words) == 1 && words[0] == "quit" {
			return
		}
	}
}
