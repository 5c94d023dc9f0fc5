package scenario

import (
	"bytes"
	"strconv"
	"time"
)

// stamp is what a message says of itself. In the payload it is four words:
// run, sender, number, and microseconds from the start of the run to the
// moment the message was to be sent; then filling.
type stamp struct {
	run  string
	from int
	n    int
	due  time.Duration
}

var payloadStart = []byte(`"payload":"`)

// body returns an envelope's body of at least size bytes.
func (s stamp) body(size int) []byte {
	b := append(make([]byte, 0, size+64), payloadStart...)
	b = append(b, s.run...)
	for _, n := range [...]int64{int64(s.from), int64(s.n), s.due.Microseconds()} {
		b = strconv.AppendInt(append(b, ' '), n, 10)
	}
	b = append(b, ' ')
	for len(b) < size-1 {
		b = append(b, 'x')
	}
	return append(b, '"')
}

// readStamp reads a body; false: it is not one of ours.
func readStamp(body []byte) (s stamp, ok bool) {
	rest, ok := bytes.CutPrefix(body, payloadStart)
	if !ok {
		return s, false
	}
	run, rest, ok := bytes.Cut(rest, []byte(" "))
	if !ok {
		return s, false
	}
	s.run = string(run)
	var numbers [3]int64
	for i := range numbers {
		var word []byte
		if word, rest, ok = bytes.Cut(rest, []byte(" ")); !ok {
			return s, false
		}
		n, err := strconv.ParseInt(string(word), 10, 64)
		if err != nil {
			return s, false
		}
		numbers[i] = n
	}
	s.from, s.n, s.due = int(numbers[0]), int(numbers[1]), time.Duration(numbers[2])*time.Microsecond
	return s, true
}
