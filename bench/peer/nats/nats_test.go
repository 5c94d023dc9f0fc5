package nats

import (
	"slices"
	"testing"
)

// collect parses in and writes down what it holds.
func collect(in string) (got []string, used int, err error) {
	e := events{
		message: func(m message) error {
			got = append(got, string(m.subject)+"|"+string(m.reply)+"|"+string(m.payload))
			return nil
		},
		ping: func() { got = append(got, "ping") },
		pong: func() { got = append(got, "pong") },
	}
	used, err = e.parse([]byte(in))
	return got, used, err
}

func TestParse(t *testing.T) {
	const hello = "MSG u.bob 1 5\r\nhello\r\n"
	for _, tt := range []struct {
		in   string
		want []string
		used int
		bad  bool
	}{
		{in: "", want: nil},
		{in: "INFO {}\r\nPING\r\nPONG\r\n+OK\r\n", want: []string{"ping", "pong"}, used: 26},
		{in: hello + hello[:20], want: []string{"u.bob||hello"}, used: len(hello)},
		{in: hello[:10], want: nil},
		{in: "MSG p.bob 2 $JS.ACK.1 0\r\n\r\n", want: []string{"p.bob|$JS.ACK.1|"}, used: 27},
		{in: "MSG a 1 4\r\n\r\n\r\n\r\nPING\r\n", want: []string{"a||\r\n\r\n", "ping"}, used: 23},
		{in: "-ERR 'Authorization Violation'\r\n", bad: true},
		{in: "MSG a 1 -4\r\n", bad: true},
		{in: "MSG a x 4\r\n", bad: true},
		{in: "MSG a 1 99999999999\r\n", bad: true},
		{in: "MSG a\r\n", bad: true},
		{in: "HTTP/1.1 400\r\n", bad: true},
	} {
		got, used, err := collect(tt.in)
		if !slices.Equal(got, tt.want) || used != tt.used || (err != nil) != tt.bad {
			t.Errorf("%q: %q, %d, %v", tt.in, got, used, err)
		}
	}
}

func TestAppend(t *testing.T) {
	got := string(appendPub(appendSub(nil, "u.bob", 3), "d.bob", "a.alice.7", []byte("hello")))
	if want := "SUB u.bob 3\r\nPUB d.bob a.alice.7 5\r\nhello\r\n"; got != want {
		t.Errorf("%q", got)
	}
}

// FuzzParse: the parser never uses more than there is, and input in two parts
// means the same as in one.
func FuzzParse(f *testing.F) {
	f.Add("INFO {}\r\nMSG u.bob 1 5\r\nhello\r\nPING\r\n", 20)
	f.Add("MSG a 1 r 0\r\n\r\n-ERR 'x'\r\n", 3)
	f.Fuzz(func(t *testing.T, in string, cut int) {
		whole, used, err := collect(in)
		if used > len(in) {
			t.Fatalf("used %d of %d", used, len(in))
		}
		if cut < 0 || cut > len(in) {
			return
		}
		parts, n, first := collect(in[:cut])
		if first != nil {
			return
		}
		more, m, second := collect(in[n:])
		if !slices.Equal(append(parts, more...), whole) || n+m != used || (second != nil) != (err != nil) {
			t.Fatalf("%q cut at %d: %q, %d", in, cut, append(parts, more...), n+m)
		}
	})
}
