package push

import (
	"strconv"
	"strings"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// keepFor is how long a service keeps a notification for a device that it
// cannot reach, unless the message expires before.
const keepFor = 7 * 24 * time.Hour

// maxContent is the largest message, in bytes, that is sent along.
const maxContent = 2048

// Text says what notifications show: keys of the app's own translations, with
// the arguments sender, session and unread messages, in this order; or where
// Title or Body is given plain text, in which {sender}, {session} and {unread} are
// replaced. The sender is the user, the device of an anonymous member's alias.
type Text struct {
	TitleKey, BodyKey string
	Title, Body       string
	In                map[string]Words // by language (BCP 47), instead of these four

	Sound    string
	Category string // APNs: of the app's notification categories
	Channel  string // Android: of its notification channels
	Mutable  bool   // APNs: the app's extension may change what is shown
	Silent   bool   // nothing is shown: the app is woken and decides
	Content  bool   // the message goes along, under "message", if it is small
}

// Words are the title and the text of notifications in one language. Where
// neither the key nor the text of one is given, that of the [Text] is taken.
type Words struct {
	TitleKey, BodyKey string
	Title, Body       string
}

// Locale reports whether text is the name of a language as tokens have it.
func Locale(text string) bool { return localeForm.MatchString(text) }

// in returns the text in a language: of those that there are the first when the
// name is cut from its end (RFC 4647, section 3.4), else as it is.
func (t Text) in(locale string) Text {
	for ; locale != ""; locale = broader(locale) {
		for name, w := range t.In {
			if !strings.EqualFold(name, locale) {
				continue
			}
			if w.Title != "" || w.TitleKey != "" {
				t.Title, t.TitleKey = w.Title, w.TitleKey
			}
			if w.Body != "" || w.BodyKey != "" {
				t.Body, t.BodyKey = w.Body, w.BodyKey
			}
			return t
		}
	}
	return t
}

// broader cuts the last subtag off a language's name, and one of a single
// character with it, which only announces what follows.
func broader(locale string) string {
	locale = locale[:max(0, strings.LastIndexByte(locale, '-'))]
	if i := strings.LastIndexByte(locale, '-'); i >= 0 && i == len(locale)-2 {
		locale = locale[:i]
	}
	return locale
}

// notification says a message.
func (t Text) notification(of Pending, count int) Notification {
	env := of.Envelope
	n := Notification{
		CollapseID: collapseID(of.Log), Silent: t.Silent, Urgent: !t.Silent, Badge: &count,
		Data:    map[string]string{"log": of.Log.String(), "seq": strconv.FormatUint(env.Seq, 10)},
		Expires: time.Now().Add(keepFor),
	}
	if at, limited := env.Expires(); limited && at.Before(n.Expires) {
		n.Expires = at
	}
	if t.Content && len(env.Body) <= maxContent {
		n.Data["message"] = string(env.AppendJSON(nil))
	}
	if t.Silent {
		return n
	}
	n.Sound, n.Category, n.Channel, n.Mutable = t.Sound, t.Category, t.Channel, t.Mutable
	args := []string{senderOf(env), string(env.DestSession), strconv.Itoa(count)}
	fill := strings.NewReplacer("{sender}", args[0], "{session}", args[1], "{unread}", args[2]).Replace
	if n.Title = fill(t.Title); t.Title == "" && t.TitleKey != "" {
		n.TitleKey, n.TitleArgs = t.TitleKey, args
	}
	if n.Body = fill(t.Body); t.Body == "" && t.BodyKey != "" {
		n.BodyKey, n.BodyArgs = t.BodyKey, args
	}
	return n
}

// senderOf names the sender as the message does: an anonymous member by its
// alias, since nothing else is in the message.
func senderOf(env *envelope.Envelope) string {
	if env.SrcClient != "" {
		return string(env.SrcClient)
	}
	return string(env.SrcNode)
}
