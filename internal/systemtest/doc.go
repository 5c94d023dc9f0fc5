// Package systemtest holds tests that run the program as its users do: real
// processes, real sockets, real signals.
package systemtest
