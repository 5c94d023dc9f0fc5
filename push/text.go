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
	Sound             string
	Silent            bool // nothing is shown: the app is woken and decides
	Content           bool // the message goes along, under "message", if it is small
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
	n.Sound = t.Sound
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
