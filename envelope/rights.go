package envelope

import (
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	// MaxRights bounds the JSON of [Rights], in bytes.
	MaxRights = 2 << 10
	// maxRate is the highest rate that can be given.
	maxRate = 10_000_000
)

// Rights bound what a credential may be used for. What is absent bounds nothing,
// and an empty list allows nothing. They bound what is done with the credential;
// what its device has been made a member of it goes on hearing. A Rights is never
// changed once it is made; a nil one bounds nothing.
type Rights struct {
	// Send lists where it may send, as addresses in text form, "session:lobby",
	// or what they begin with, "session:room-*" and "node:*". What is sent to
	// somebody in a session is sent to the session, and so is what decides about
	// it: its header, its settings and who else is in it.
	Send []string `json:"send,omitzero"`
	// Join lists the sessions that it may join or make and the topics that it may
	// follow or read, as ids or what they begin with: "lobby", "topic:*".
	Join []string `json:"join,omitzero"`
	// Create says whether it may make sessions; nil: it may.
	Create *bool `json:"create,omitzero"`
	// Rate is how many messages and calls there may be in a second, if that is
	// less than what the server allows a device; 0: as many as that.
	Rate int `json:"rate,omitzero"`
}

// ParseRights reads rights from JSON, strictly: what is misspelled must not be
// taken for what is absent. The error has [BadRequest].
func ParseRights(text []byte) (*Rights, error) {
	if len(text) > MaxRights {
		return nil, Errorf(BadRequest, "rights have at most %d bytes", MaxRights)
	}
	r := new(Rights)
	err := eachMember(text, func(name string, value jsontext.Value) error {
		if value.Kind() == 'n' {
			return Errorf(BadRequest, "the right %q is null", name)
		}
		var err error
		switch name {
		case "send":
			r.Send, err = patterns(value, validPlace)
		case "join":
			r.Join, err = patterns(value, validPrefix)
		case "create":
			err = json.Unmarshal(value, &r.Create)
		case "rate":
			if err = json.Unmarshal(value, &r.Rate); err == nil && (r.Rate < 1 || r.Rate > maxRate) {
				err = Errorf(BadRequest, "a rate is from 1 to %d", maxRate)
			}
		default:
			err = Errorf(BadRequest, "there is no right of that name; there are send, join, create and rate")
		}
		return err
	})
	if err != nil {
		return nil, &Error{Code: BadRequest, Detail: "these are no rights", Cause: err}
	}
	return r, nil
}

// UnmarshalJSON implements [json.Unmarshaler] by [ParseRights].
func (r *Rights) UnmarshalJSON(text []byte) error {
	parsed, err := ParseRights(text)
	if err == nil {
		*r = *parsed
	}
	return err
}

// patterns reads a list of them; an empty one is not nil.
func patterns(value jsontext.Value, valid func(string) bool) ([]string, error) {
	list := []string{}
	if err := json.Unmarshal(value, &list); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(list, func(p string) bool { return !valid(p) }) {
		return list, nil
	}
	return nil, Errorf(BadRequest, "a right lists ids, or what they begin with and then *")
}

// validPlace reports whether a pattern is of the form KIND:ID or KIND:PREFIX*.
func validPlace(pattern string) bool {
	kind, id, _ := strings.Cut(pattern, ":")
	switch kind {
	case KindNode.String(), KindClient.String(), KindSession.String():
		return validPrefix(id)
	}
	return false
}

// validPrefix reports whether a pattern is an id, or a part of one and then *.
func validPrefix(pattern string) bool {
	prefix, open := strings.CutSuffix(pattern, "*")
	return ValidID(prefix) || open && prefix == ""
}

func matches(list []string, id string) bool {
	return slices.ContainsFunc(list, func(pattern string) bool {
		if prefix, open := strings.CutSuffix(pattern, "*"); open {
			return strings.HasPrefix(id, prefix)
		}
		return pattern == id
	})
}

// MaySend reports whether messages may be sent to an address.
func (r *Rights) MaySend(to Address) bool {
	return r == nil || r.Send == nil || matches(r.Send, to.String())
}

// MayJoin reports whether a session may be joined, or a topic followed and read.
func (r *Rights) MayJoin(id SessionID) bool {
	return r == nil || r.Join == nil || matches(r.Join, string(id))
}

// MayCreate reports whether sessions may be made.
func (r *Rights) MayCreate() bool { return r == nil || r.Create == nil || *r.Create }

// Equal reports whether both say the same.
func (r *Rights) Equal(other *Rights) bool {
	if r == nil || other == nil {
		return r == other
	}
	same := func(a, b []string) bool { return (a == nil) == (b == nil) && slices.Equal(a, b) }
	return same(r.Send, other.Send) && same(r.Join, other.Join) && r.Rate == other.Rate &&
		(r.Create == nil) == (other.Create == nil) && r.MayCreate() == other.MayCreate()
}
