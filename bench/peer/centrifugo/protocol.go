package centrifugo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// The JSON form of the bidirectional client protocol, version 2: objects, one
// a line, several to a frame (centrifugal.dev/docs/transports/client_protocol).
// Names and bodies need no escaping, see peer.Message.

// position is how far a user has got in a channel with history.
type position struct {
	Epoch  string `json:"epoch"`
	Offset uint64 `json:"offset"`
}

func appendConnect(b []byte, id uint32) []byte {
	return append(appendCommand(b, id, "connect"), "}}"...)
}

// appendSubscribe asks for what was missed since a position; nil: only for what
// comes.
func appendSubscribe(b []byte, id uint32, channel string, since *position) []byte {
	b = append(append(appendCommand(b, id, "subscribe"), `"channel":"`...), channel...)
	b = append(b, '"')
	if since != nil {
		b = append(append(b, `,"recover":true,"epoch":"`...), since.Epoch...)
		b = strconv.AppendUint(append(b, `","offset":`...), since.Offset, 10)
	}
	return append(b, "}}"...)
}

func appendPublish(b []byte, id uint32, prefix, name string, body []byte) []byte {
	b = append(appendCommand(b, id, "publish"), `"channel":"`...)
	b = append(append(append(b, prefix...), name...), `","data":"`...)
	return append(append(b, body...), `"}}`...)
}

func appendCommand(b []byte, id uint32, name string) []byte {
	b = strconv.AppendUint(append(b, `{"id":`...), uint64(id), 10)
	return append(append(append(b, `,"`...), name...), `":{`...)
}

// push is a publication that a connection hears.
type push struct {
	channel, data []byte
	offset        uint64 // 0 without history
}

// reply is the answer to a command.
type reply struct {
	ID    uint32 `json:"id"`
	Error *Error `json:"error"`

	Connect *struct {
		Version string `json:"version"`
	} `json:"connect"`
	Subscribe *struct {
		position
		Recovered    bool `json:"recovered"`
		Publications []struct {
			Data   string `json:"data"`
			Offset uint64 `json:"offset"`
		} `json:"publications"`
	} `json:"subscribe"`
}

// Error is what the server answers to a command that it refuses.
type Error struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func (e *Error) Error() string { return fmt.Sprintf("centrifugo: %d %s", e.Code, e.Message) }

var errProtocol = errors.New("centrifugo: not its protocol")

// events are what a server says; each is called while a frame is parsed.
type events struct {
	push  func(push)
	reply func(reply)
	ping  func()
}

var (
	pushStart    = []byte(`{"push":{"channel":"`)
	pubStart     = []byte(`"pub":{"data":"`)
	offsetStart  = []byte(`"offset":`)
	replyStart   = []byte(`{"id":`)
	publishReply = []byte(`,"publish":{}}`)
)

// parse handles all objects of a frame. Publications and the answers to
// publications, of which there are many, are read by where their members
// stand; the rest as JSON.
func (e events) parse(frame []byte) error {
	for line := range bytes.Lines(frame) {
		line = bytes.TrimSpace(line)
		switch {
		case len(line) == 0:
		case string(line) == "{}":
			e.ping()
		case bytes.HasPrefix(line, pushStart):
			if p, ok := parsePush(line[len(pushStart):]); ok {
				e.push(p)
			}
		case bytes.HasPrefix(line, []byte(`{"push":`)): // of another kind
		default:
			r, err := parseReply(line)
			if err != nil {
				return err
			}
			e.reply(r)
		}
	}
	return nil
}

// parsePush reads a push behind the start of the channel's name; false: it is
// of another kind.
func parsePush(line []byte) (p push, ok bool) {
	var rest []byte
	if p.channel, rest, ok = bytes.Cut(line, []byte(`"`)); !ok {
		return p, false
	}
	if _, rest, ok = bytes.Cut(rest, pubStart); !ok {
		return p, false
	}
	if p.data, rest, ok = bytes.Cut(rest, []byte(`"`)); !ok {
		return p, false
	}
	if _, number, ok := bytes.Cut(rest, offsetStart); ok {
		for _, digit := range number {
			if digit < '0' || digit > '9' {
				break
			}
			p.offset = p.offset*10 + uint64(digit-'0')
		}
	}
	return p, true
}

func parseReply(line []byte) (r reply, err error) {
	if id, ok := bytes.CutSuffix(line, publishReply); ok {
		if id, ok = bytes.CutPrefix(id, replyStart); ok {
			if n, err := strconv.ParseUint(string(id), 10, 32); err == nil {
				return reply{ID: uint32(n)}, nil
			}
		}
	}
	if err := json.Unmarshal(line, &r); err != nil {
		return r, fmt.Errorf("%w: %w", errProtocol, err)
	}
	if r.ID == 0 {
		return r, fmt.Errorf("%w: %q", errProtocol, line)
	}
	return r, nil
}
