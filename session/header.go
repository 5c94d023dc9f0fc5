package session

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// Header is the retained document of a session, as its log has it, and what it
// is about to become.
type Header struct {
	Session envelope.SessionID
	Seq     uint64          // of its entry in the session's log; 0: there is none yet
	By      envelope.NodeID // who has set it, by the name it has in the session
	Payload []byte          // JSON
	Version uint64          // rises by one with each change

	// Op is the id of an entry that is being written with the document Next, by
	// NextBy; "" when there is none.
	Op     string
	NextBy envelope.NodeID
	Next   []byte

	Paid int64 // see [headerAllowance]
}

// MaxHeader is the largest document in bytes.
const MaxHeader = 64 << 10

// SetHeader gives a session another header, which an entry of its log tells,
// and returns it. Leaders may: the owner, moderators, a game's master, the app.
// A document that is the header already changes nothing.
//
// An intent with the entry's id comes first, then the entry, then the outcome,
// and whoever reads the header completes an intent. So what is read is never
// older than the newest header entry below a seq that was known before: a
// membership that begins there misses none.
func (s *Sessions) SetHeader(ctx context.Context, who envelope.Principal, id envelope.SessionID, document []byte) (Header, error) {
	if len(document) > MaxHeader {
		return Header{}, envelope.Errorf(envelope.TooLarge, "a header has at most %d bytes", MaxHeader)
	}
	document, err := envelope.ParseValue(document)
	if err != nil {
		return Header{}, err
	}
	return again(ctx, func() (Header, error) {
		ses, err := s.session(ctx, id)
		if err != nil {
			return Header{}, err
		}
		by, err := s.acting(ctx, who, ses)
		if err != nil {
			return Header{}, err
		}
		if !by.leads(ses) {
			return Header{}, errForbidden
		}
		h, err := s.header(ctx, id)
		if err != nil || h.Seq > 0 && bytes.Equal(h.Payload, document) {
			return h, err
		}
		if err := spendHeader(&h.Paid, who, len(document)); err != nil {
			return Header{}, err
		}
		h.Op, h.NextBy, h.Next = rand.Text(), by.name, document
		h.Version++
		if err := s.store.PutHeader(ctx, h); err != nil {
			return Header{}, err
		}
		h, err = s.announce(ctx, h)
		if errors.Is(err, ErrChanged) {
			err = nil // somebody else has completed it
		}
		return h, err
	})
}

// Header returns the header of a session to who is in it, or the app; of a
// topic to anybody. NotFound when there is none.
//
// The membership is read after the header: a leave that is not known yet comes
// after that.
func (s *Sessions) Header(ctx context.Context, who envelope.Principal, id envelope.SessionID) (Header, error) {
	if !envelope.ValidID(string(id)) {
		return Header{}, errNoID
	}
	h, err := s.header(ctx, id)
	if err != nil {
		return Header{}, err
	}
	if !id.IsTopic() {
		ses, err := s.session(ctx, id)
		if err != nil {
			return Header{}, err
		}
		if _, err := s.acting(ctx, who, ses); err != nil {
			return Header{}, err
		}
	}
	if h.Seq == 0 {
		return Header{}, errNoHeader
	}
	return h, nil
}

// Headers returns the headers of those of the sessions that have one. Who may
// see them is for the caller to know.
func (s *Sessions) Headers(ctx context.Context, ids []envelope.SessionID) (map[envelope.SessionID]Header, error) {
	found, err := s.store.Headers(ctx, ids)
	if err != nil {
		return nil, refuse(err)
	}
	headers := make(map[envelope.SessionID]Header, len(found))
	for _, h := range found {
		if h.Op != "" {
			if h, err = s.header(ctx, h.Session); err != nil {
				return nil, err
			}
		}
		if h.Seq > 0 {
			headers[h.Session] = h
		}
	}
	return headers, nil
}

// header reads a session's header, with a change that was begun completed. It
// is of version 0 when there is none.
func (s *Sessions) header(ctx context.Context, id envelope.SessionID) (Header, error) {
	return again(ctx, func() (Header, error) {
		found, err := s.store.Headers(ctx, []envelope.SessionID{id})
		if err != nil || len(found) == 0 {
			return Header{Session: id}, err
		}
		if found[0].Op != "" {
			return s.announce(ctx, found[0])
		}
		return found[0], nil
	})
}

// announce completes a change of a header: its entry first, then the outcome.
// ErrChanged when somebody else has done so.
func (s *Sessions) announce(ctx context.Context, h Header) (Header, error) {
	entry := headerEntry(h)
	seq, err := s.append(ctx, h.Session.Address(), &entry)
	if err != nil {
		return Header{}, err
	}
	h.Seq, h.By, h.Payload = seq, h.NextBy, h.Next
	h.Op, h.NextBy, h.Next = "", "", nil
	h.Version++
	return h, s.store.PutHeader(ctx, h)
}

// headerEntry returns the entry of a change of a header: the same one whoever
// completes it.
func headerEntry(h Header) envelope.Envelope {
	return envelope.Envelope{
		ID: h.Op, DestSession: h.Session, SrcNode: h.NextBy,
		Timestamp: time.Now().UnixMilli(), HasType: true, Type: envelope.TypeHeader,
		Body: append([]byte(`"payload":`), h.Next...),
	}
}

var errNoHeader = envelope.Errorf(envelope.NotFound, "the session has no header")
