package gateway

import (
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

type (
	// PutPushToken says where the caller's device can be woken: the token of a
	// push service, "apns", "fcm" or "webpush". The reply is [Done].
	PutPushToken struct {
		Service, Value string // of Web Push the endpoint
		App            string // APNs: the bundle id
		Sandbox        bool   // APNs: the development environment
		P256DH, Auth   []byte // Web Push: the subscription's keys
		Locale         string // BCP 47; "" the default
		By             Credential
	}
	// Credential is what the caller has shown, by which that may be revoked: its
	// name and when it was issued, "" and zero where it does not say.
	Credential struct {
		JTI    string
		Issued time.Time
	}
	// DropPushToken takes that back; "" of either is any. The reply is [Done].
	DropPushToken struct{ Service, Value string }
	// Mute keeps what is said in a log from waking the caller's device, until a
	// time (Unix milliseconds; 0: for good), or with Off no longer does. The
	// reply is [Done].
	Mute struct {
		Log   envelope.Address
		Until int64
		Off   bool
	}
	// TestPush sends one notification now to each push token of the caller's device,
	// or for the app of any, whatever it has been told, with a Title and a Body of
	// at most [MaxTestText] bytes together; without both it says Test. The reply is [PushTested]. NotFound when
	// there is no token.
	TestPush struct {
		Node        envelope.NodeID // "": the caller's
		Title, Body string
	}
	// GetFailedPushes lists notifications that were given up, the last of each
	// device, of devices behind After in the order of their ids. For the app. The
	// reply is [FailedPushes].
	GetFailedPushes struct {
		After envelope.NodeID
		Limit int // at most; 0: as many as a page has
	}
	// SettleFailedPush forgets what was given up for a device and, with Again, has
	// the device told once more. When nothing was, it does nothing. For the app. The
	// reply is [Done].
	SettleFailedPush struct {
		Node  envelope.NodeID
		Again bool
	}
)

// MaxTestText bounds the texts of [TestPush], in bytes.
const MaxTestText = 1000

func (PutPushToken) command()  {}
func (DropPushToken) command() {}
func (Mute) command()          {}

func (TestPush) command()         {}
func (GetFailedPushes) command()  {}
func (SettleFailedPush) command() {}

type (
	// PushTested answers [TestPush], with an answer for each token.
	PushTested struct{ Of []PushTry }
	// PushTry is what a push service has said.
	PushTry struct {
		Service string
		Token   string // a digest that tells tokens apart
		Sent    bool   // the service has taken it
		Reason  string // else why not, in the service's word
		Gone    bool   // the token is dead, and dropped
		Retry   bool   // it may be taken later, After that long if it is not 0
		After   time.Duration
	}
	// FailedPushes answers [GetFailedPushes].
	FailedPushes struct {
		Of   []FailedPush
		Next envelope.NodeID // After of the next page
		More bool
	}
	// FailedPush is a notification that was given up.
	FailedPush struct {
		Node     envelope.NodeID
		At       int64            // Unix milliseconds
		Log      envelope.Address // the device's own or its user's, else zero: it may be in a session by an alias
		Seq      uint64           // there
		Service  string
		Reason   string // the service's word
		Attempts int
	}
)

func (PushTested) event()   {}
func (FailedPushes) event() {}
