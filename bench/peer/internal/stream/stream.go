// Package stream joins the messages of protocols that treat a WebSocket as a
// stream of bytes: a message may be cut anywhere into frames.
package stream

// Assembler keeps the beginning of a message until the rest comes. The zero
// value is ready; it is for one goroutine.
type Assembler struct{ rest []byte }

// Feed hands in to parse, behind what was left over. parse uses the whole
// messages at the beginning and returns how many bytes these are.
func (a *Assembler) Feed(in []byte, parse func(in []byte) (used int, err error)) error {
	if len(a.rest) > 0 {
		a.rest = append(a.rest, in...)
		in = a.rest
	}
	used, err := parse(in)
	if err != nil {
		return err
	}
	if used == len(in) {
		a.rest = nil
		return nil
	}
	a.rest = append(a.rest[:0], in[used:]...)
	return nil
}
