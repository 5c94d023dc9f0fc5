package gateway

import "github.com/allsparkrt/allspark/envelope"

type (
	// PutPushToken says where the caller's device can be woken: the token of a
	// push service, "apns", "fcm" or "webpush". The reply is [Done].
	PutPushToken struct {
		Service, Value string // of Web Push the endpoint
		App            string // APNs: the bundle id
		Sandbox        bool   // APNs: the development environment
		P256DH, Auth   []byte // Web Push: the subscription's keys
		Locale         string // BCP 47; "" the default
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
)

func (PutPushToken) command()  {}
func (DropPushToken) command() {}
func (Mute) command()          {}
