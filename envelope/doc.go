// Package envelope holds the values that travel on AllSpark's wires: ids,
// addresses, envelopes, control frames, error codes and limits, together with
// their strict JSON parser, their JSON encoder and the binary form used by
// stores and peer links.
//
// Everything here is a plain value: no I/O, no goroutine, no lock. Values may
// be shared between goroutines as long as nobody changes them; an [Envelope]
// is treated as read-only once the node has stamped it.
package envelope
