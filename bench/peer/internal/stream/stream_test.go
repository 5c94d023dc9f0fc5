package stream

import (
	"bytes"
	"errors"
	"slices"
	"testing"
)

// lines is a parser of lines.
func lines(got *[]string) func([]byte) (int, error) {
	return func(in []byte) (used int, err error) {
		for {
			line, _, ok := bytes.Cut(in[used:], []byte("\n"))
			if !ok {
				return used, nil
			}
			*got = append(*got, string(line))
			used += len(line) + 1
		}
	}
}

// However the input is cut, the same comes out.
func TestFeed(t *testing.T) {
	const in = "one\ntwo\n\nfour\n"
	want := []string{"one", "two", "", "four"}
	for first := range len(in) + 1 {
		for second := first; second <= len(in); second++ {
			var a Assembler
			var got []string
			for _, part := range []string{in[:first], in[first:second], in[second:]} {
				// Frames come in a buffer that is used again.
				buf := []byte(part)
				if err := a.Feed(buf, lines(&got)); err != nil {
					t.Fatal(err)
				}
				clear(buf)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("cut at %d and %d: %q", first, second, got)
			}
		}
	}
}

func TestFeedError(t *testing.T) {
	bad := errors.New("bad")
	var a Assembler
	if err := a.Feed([]byte("x"), func([]byte) (int, error) { return 0, bad }); !errors.Is(err, bad) {
		t.Error(err)
	}
}
