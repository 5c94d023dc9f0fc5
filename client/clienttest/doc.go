// Package clienttest is a server in memory for tests of clients: it speaks the
// native protocol over a network in memory, numbers and keeps messages, and
// does on the wire what a test tells it to. It promises nothing of what a real
// server promises about durability, rights and load.
package clienttest
