package envelope

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"

	"github.com/go-json-experiment/json/jsontext"
)

// scanner reads JSON (RFC 8259) in one pass over its text, as strictly as
// [Parser] promises, and copies nothing: values are parts of the text. After the
// first fault err says what it is and nothing more is read.
//
// A library's decoder would do; it costs four times as much, because it keeps
// what its callers may ask for and a frame's reader does not.
type scanner struct {
	text  []byte
	at    int // what is read next
	depth int // how many values are open
	limit int // of depth
	err   *Error
}

func (s *scanner) fail() {
	if s.err == nil {
		s.err = notJSON(fmt.Errorf("byte %d", s.at))
	}
}

// peek skips white space and returns the byte behind it; 0 at the end.
func (s *scanner) peek() byte {
	for ; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

// end fails unless all has been read.
func (s *scanner) end() {
	if s.peek(); s.at < len(s.text) {
		s.fail()
	}
}

// value reads a value and returns its text.
func (s *scanner) value() []byte {
	first := s.peek()
	start := s.at
	switch first {
	case '"':
		s.string()
	case '{':
		s.object()
	case '[':
		s.array()
	case 't':
		s.literal("true")
	case 'f':
		s.literal("false")
	case 'n':
		s.literal("null")
	default:
		s.number()
	}
	if s.err != nil {
		return nil
	}
	return s.text[start:s.at]
}

// enter reads the bracket that opens an object or an array.
func (s *scanner) enter() {
	s.at++
	if s.depth++; s.depth > s.limit && s.err == nil {
		s.err = Errorf(BadRequest, "nested deeper than %d", s.limit)
	}
}

func (s *scanner) object() {
	var o object
	for s.enter(); s.next(&o); {
		s.value()
	}
	s.depth--
}

func (s *scanner) array() {
	s.enter()
	if s.peek() == ']' {
		s.at++
		s.depth--
		return
	}
	for s.err == nil {
		s.value()
		switch s.peek() {
		case ',':
			s.at++
		case ']':
			s.at++
			s.depth--
			return
		default:
			s.fail()
		}
	}
}

// object is what a scanner knows of an object within which it is.
type object struct {
	raw  []byte // the name of the present member as it is written
	name []byte // the same without quotes and escapes

	few  [16]span            // where in the text the names so far are; without escapes
	n    int                 // how many of few
	many map[string]struct{} // the names so far, if they do not go into few
}

// span is a part of a text.
type span struct{ from, to int }

// next reads the name of the next member and the colon behind it. Behind the
// last member it reads the brace and returns false.
func (s *scanner) next(o *object) bool {
	if s.err != nil {
		return false
	}
	c := s.peek()
	if c == '}' {
		s.at++
		return false
	}
	if o.raw != nil {
		if c != ',' {
			s.fail()
			return false
		}
		s.at++
		c = s.peek()
	}
	if c != '"' {
		s.fail()
		return false
	}
	start := s.at
	plain := s.string()
	if s.err != nil {
		return false
	}
	o.raw = s.text[start:s.at]
	o.name = o.raw[1 : len(o.raw)-1]
	if !plain {
		o.name, _ = jsontext.AppendUnquote(nil, o.raw) // it has been read, so it is a string
	}
	if !s.isNew(o, span{start + 1, s.at - 1}, plain) || s.peek() != ':' {
		s.fail()
		return false
	}
	s.at++
	return true
}

// isNew reports whether no member before had the name of the present one, which
// is at that place of the text if it is plain.
func (s *scanner) isNew(o *object, at span, plain bool) bool {
	if o.many == nil {
		for _, other := range o.few[:o.n] {
			if string(s.text[other.from:other.to]) == string(o.name) {
				return false
			}
		}
		if plain && o.n < len(o.few) {
			o.few[o.n] = at
			o.n++
			return true
		}
		o.many = make(map[string]struct{}, 2*len(o.few))
		for _, other := range o.few[:o.n] {
			o.many[view(s.text[other.from:other.to])] = struct{}{}
		}
	}
	before := len(o.many)
	o.many[view(o.name)] = struct{}{}
	return len(o.many) > before
}

// view returns b as a string, which is valid as long as b does not change.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// string reads a string and reports whether it is without escapes.
func (s *scanner) string() (plain bool) {
	t, i := s.text, s.at+1
	plain = true
	var seen uint64 // bits of all bytes, to know whether there are others than ASCII
	for {
		for ; i+8 <= len(t); i += 8 {
			w := binary.LittleEndian.Uint64(t[i:])
			seen |= w
			if m := special(w); m != 0 {
				i += bits.TrailingZeros64(m) / 8
				break
			}
		}
		if i >= len(t) {
			break
		}
		switch c := t[i]; {
		case c == '"':
			if seen&highs != 0 && !utf8.Valid(t[s.at:i]) {
				s.fail()
			}
			s.at = i + 1
			return plain
		case c == '\\':
			plain = false
			n := escape(t[i:])
			if n == 0 {
				s.fail()
				return plain
			}
			i += n
		case c < ' ':
			s.fail()
			return plain
		default: // one of the last bytes of the text
			seen |= uint64(c)
			i++
		}
	}
	s.fail()
	return plain
}

const (
	ones  = 0x01_01_01_01_01_01_01_01
	highs = 0x80 * ones
)

// special looks at eight bytes of a string at once: the lowest bit of the result
// is in the first of them that is a quote, a backslash or a control character.
// There may be bits above that mean nothing.
func special(w uint64) uint64 {
	quote, slash := w^'"'*ones, w^'\\'*ones
	return ((w-' '*ones)&^w | (quote-ones)&^quote | (slash-ones)&^slash) & highs
}

// escape returns the length of the escape sequence with which t begins, of a
// pair of them for a pair of surrogates; 0 if there is none.
func escape(t []byte) int {
	if len(t) < 2 {
		return 0
	}
	switch t[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		switch r := hex(t); {
		case r < 0:
			return 0
		case !utf16.IsSurrogate(r):
			return 6
		case utf16.DecodeRune(r, hex(t[6:])) != utf8.RuneError:
			return 12
		}
	}
	return 0
}

// hex returns the number of \uXXXX at the front of t; -1 if there is none.
func hex(t []byte) rune {
	if len(t) < 6 || t[0] != '\\' || t[1] != 'u' {
		return -1
	}
	n, err := strconv.ParseUint(view(t[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(n)
}

func (s *scanner) literal(word string) {
	if len(s.text)-s.at < len(word) || string(s.text[s.at:s.at+len(word)]) != word {
		s.fail()
		return
	}
	s.at += len(word)
}

func (s *scanner) number() {
	t, i := s.text, s.at
	is := func(chars string) bool { return i < len(t) && strings.IndexByte(chars, t[i]) >= 0 }
	digits := func() bool {
		start := i
		for i < len(t) && '0' <= t[i] && t[i] <= '9' {
			i++
		}
		return i > start
	}
	ok := true
	if is("-") {
		i++
	}
	if is("0") {
		i++
	} else {
		ok = digits()
	}
	if ok && is(".") {
		i++
		ok = digits()
	}
	if ok && is("eE") {
		if i++; is("+-") {
			i++
		}
		ok = digits()
	}
	if !ok {
		s.fail()
		return
	}
	s.at = i
}
