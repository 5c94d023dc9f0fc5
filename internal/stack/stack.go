// Package stack has room made on the stack of a goroutine that is about to need
// it. A goroutine begins with few KB, and each time they do not suffice gets a
// stack twice as large, into which everything is copied, frame by frame: three
// times until somebody who connects has been looked up in the store, which took an
// eighth of the CPU time of a connect.
package stack

// Size is what Reserve makes room for, in bytes. With what is there above it
// this is a stack of 16 KB.
const Size = 8 << 10

// Reserve makes room for Size bytes below the caller, at once. It is for the first
// function of a short goroutine, when there is little to be copied.
//
//go:noinline
func Reserve() { touch(0) }

//go:noinline
func touch(i int) byte {
	var room [Size]byte
	room[i] = 1
	return room[len(room)-1-i]
}
