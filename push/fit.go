package push

import (
	"errors"
	"slices"
	"strings"
	"unicode/utf8"
)

// ErrTooLarge means that a notification is too large for its service also
// without its texts.
var ErrTooLarge = errors.New("push: notification too large")

const ellipsis = "…"

// Fit returns what encode makes of a notification, in at most limit bytes.
// Where it is more, the longest text or argument is shortened until it fits.
func Fit(n Notification, limit int, encode func(Notification) ([]byte, error)) ([]byte, error) {
	n.TitleArgs, n.BodyArgs = slices.Clone(n.TitleArgs), slices.Clone(n.BodyArgs)
	for {
		data, err := encode(n)
		if err != nil || len(data) <= limit {
			return data, err
		}
		text := longest(&n)
		if *text == "" {
			return nil, ErrTooLarge
		}
		*text = shorten(*text, len(data)-limit)
	}
}

func longest(n *Notification) *string {
	text := &n.Body
	if len(n.Title) > len(*text) {
		text = &n.Title
	}
	for _, args := range [][]string{n.BodyArgs, n.TitleArgs} {
		for i := range args {
			if len(args[i]) > len(*text) {
				text = &args[i]
			}
		}
	}
	return text
}

// shorten takes at least excess bytes from the end of a text, by whole runes.
func shorten(s string, excess int) string {
	end := len(s) - excess - len(ellipsis)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	if end <= 0 {
		return ""
	}
	return strings.TrimSuffix(s[:end], ellipsis) + ellipsis
}
