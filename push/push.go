// Package push wakes devices that have no connection, by the push services of
// their platforms: which messages call for it, at most how often, and what is
// said. The services themselves are in packages below it.
package push

import (
	"context"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// Service is a push service.
type Service string

// The services.
const (
	APNs    Service = "apns"
	FCM     Service = "fcm"
	WebPush Service = "webpush"
)

// Token is where a service reaches one app on one device. There is one row for
// each (Service, Value); it belongs to the device that registered it last.
type Token struct {
	Service Service
	Value   string // the device token; of Web Push the endpoint's URL
	App     string // APNs: the topic (bundle id); else "" or the app's name
	Sandbox bool   // APNs: the development environment
	P256DH  []byte // Web Push: the subscription's public key, an uncompressed point
	Auth    []byte // Web Push: its secret, 16 bytes
	Locale  string // BCP 47; "" the default

	Node       envelope.NodeID
	Client     envelope.ClientID
	Registered int64 // Unix milliseconds, when it was last
	// The credential it was registered with, which may be revoked: its name and
	// when it was issued (Unix milliseconds), "" and 0 where it does not say.
	JTI    string
	Issued int64
}

// Notification is what a device is told. It holds what the operator's templates
// made of it, and of a message's contents nothing unless the app has opted in.
type Notification struct {
	ID         string // the same for all attempts
	CollapseID string // a later one with the same takes the place of an earlier one; at most 64 bytes
	Silent     bool   // wakes the app and shows nothing
	Dismiss    bool   // takes back what was shown under CollapseID; silent

	// Shown, unless Silent: keys that the app translates, with arguments, or
	// plain text where there is no key.
	TitleKey, BodyKey   string
	TitleArgs, BodyArgs []string
	Title, Body         string
	Sound               string
	Category            string // APNs: what the app has named so
	Channel             string // Android: likewise
	Mutable             bool   // APNs: the app's extension may change it

	Badge   *int              // unread messages; nil leaves it as it is
	Data    map[string]string // for the app: the log and its head; services have use for "aps", "dismiss", "from", "gcm…" and "google…" themselves
	Expires time.Time         // when it need not be delivered any more
	Urgent  bool              // at once, also when the device saves power
}

// Sender is one push service. Send is safe for concurrent use. It makes one
// attempt within the context; its error is a [*Failure].
type Sender interface {
	Send(ctx context.Context, to Token, n Notification) error
}

// Failure says why a notification was not taken, and what to do.
type Failure struct {
	Reason string // the service's word, for logs and dead letters; holds no token
	// Gone: the token is dead. Since is when the service says it was known to be
	// (zero: now); a token registered after that is not dropped.
	Gone  bool
	Since time.Time
	// Retry: the same attempt may succeed later, After that long if it is not 0.
	Retry bool
	After time.Duration
	// Inner: it says something about the network that this server is in, which
	// the token's owner is not told, see Told.
	Inner bool
	Cause error
}

// Told returns the failure as the token's owner may hear it. Of an address that it
// has named it does not learn from a refusal that it is one of ours.
func (f *Failure) Told() *Failure {
	if f.Inner {
		return Unanswered(f.Cause)
	}
	return f
}

// Error implements error.
func (f *Failure) Error() string { return "push: " + f.Reason }

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Cause }
