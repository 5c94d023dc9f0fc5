package client

import (
	"errors"

	"github.com/allsparkrt/allspark/envelope"
)

// Errors of a [Client]. Refusals by the server are [*envelope.Error], on whose
// code a caller may decide.
var (
	// ErrClosed means that the user has closed the client. The outcome of a
	// send that it answers is unknown.
	ErrClosed = errors.New("client: closed")
	// ErrUnknown means that the connection broke before a message that is not
	// stored was answered: it may have been delivered or not.
	ErrUnknown = errors.New("client: the connection broke before the answer; outcome unknown")
	// ErrNotConnected means that there is no connection for a message that is
	// not stored; it was not sent.
	ErrNotConnected = errors.New("client: not connected")
	// ErrDuplicateID means that a message with the same id is waiting for its
	// answer; the second one was not sent.
	ErrDuplicateID = errors.New("client: a message with that id is on its way")
	// ErrUnsubscribed means that the user has called [Client.Unsubscribe] before
	// the server followed a topic.
	ErrUnsubscribed = errors.New("client: unsubscribed")
)

// closeMeaning is what the end of a connection asks of the client.
type closeMeaning uint8

const (
	comeBack    closeMeaning = iota // connect again, after a while
	askForToken                     // the token was refused: make the pre-connection call again
	stayAway                        // the same again would end the same way
)

// meaningOfClose reads a close code (RFC 6455, section 7.4). A negative code
// stands for a connection that ended without one (1006).
func meaningOfClose(code int) closeMeaning {
	switch {
	case code == envelope.Unauthorized.CloseCode():
		return askForToken
	case code >= 4500:
		return stayAway
	}
	switch code {
	case 1002, 1003, 1007, 1008, 1009, 1010: // what this side sent is not acceptable
		return stayAway
	}
	return comeBack
}

// codeOfClose returns the code whose close code it is, and Internal for others.
func codeOfClose(closeCode int) envelope.Code {
	for _, c := range []envelope.Code{
		envelope.BadRequest, envelope.Unauthorized, envelope.Forbidden, envelope.NotFound,
		envelope.Conflict, envelope.TooLarge, envelope.RateLimited, envelope.Quota, envelope.Busy,
		envelope.SlowReader, envelope.Replaced, envelope.Revoked, envelope.GoingAway,
	} {
		if c.CloseCode() == closeCode {
			return c
		}
	}
	return envelope.Internal
}
