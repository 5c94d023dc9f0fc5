package stream

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/allsparkrt/allspark/envelope"
)

// maxText bounds the text of a position, in bytes: proxies take header lines
// of 8 KiB.
const maxText = 4 << 10

// position is how far a client has come. As text it is the epoch of the store,
// and for each log "~", the kind's letter, its id, "~" and a seq, the log moved
// last at the end:
//
//	5W2KQ~nbob-phone~17~sroom~4
//
// which needs no escaping in a header, in a query or as the id of an event. In
// the id of an alias "!" stands for "~".
//
// When not all logs fit, those not moved for longest are left out. There the
// server goes on from the cursors that it has stored: a repetition, no loss; but
// of topics it stores none. So only theirs may be at 0, where nothing was said.
type position struct {
	epoch string
	logs  []reached // the one moved last at the end
	size  int       // bytes of the text
}

type reached struct {
	log envelope.Address
	seq uint64
}

var errPosition = envelope.Errorf(envelope.BadRequest, "not a position that a server has given")

// parsePosition reads the text form; "" is no position. The error has
// [envelope.BadRequest].
func parsePosition(text string) (position, error) {
	var p position
	if text == "" {
		return p, nil
	}
	parts := strings.Split(text, "~")
	if len(text) > maxText || len(parts)%2 == 0 || !envelope.ValidID(parts[0]) {
		return position{}, errPosition
	}
	p.begin(parts[0])
	for i := 1; i < len(parts); i += 2 {
		log, ok := parseLog(parts[i])
		seq, err := strconv.ParseUint(parts[i+1], 10, 53)
		if !ok || err != nil || seq == 0 && !fromZero(log) || strconv.FormatUint(seq, 10) != parts[i+1] || p.index(log) >= 0 {
			return position{}, errPosition
		}
		p.set(log, seq)
	}
	return p, nil
}

func parseLog(text string) (envelope.Address, bool) {
	if text == "" {
		return envelope.Address{}, false
	}
	log := envelope.Address{Kind: envelope.Kind(text[0]), ID: strings.Replace(text[1:], "!", "~", 1)}
	switch log.Kind {
	case envelope.KindNode:
		return log, envelope.ValidNode(log.ID)
	case envelope.KindClient, envelope.KindSession:
		return log, envelope.ValidID(log.ID)
	}
	return envelope.Address{}, false
}

// appendText appends the text form to dst.
func (p *position) appendText(dst []byte) []byte {
	dst = append(dst, p.epoch...)
	for _, r := range p.logs {
		dst = append(dst, '~', byte(r.log.Kind))
		dst = append(dst, strings.Replace(r.log.ID, "~", "!", 1)...)
		dst = append(dst, '~')
		dst = strconv.AppendUint(dst, r.seq, 10)
	}
	return dst
}

// begin forgets everything: seqs of another epoch mean nothing.
func (p *position) begin(epoch string) {
	*p = position{epoch: epoch, size: len(epoch)}
}

// set notes where the client stands in a log, ahead of or behind where it
// stood. Seq 0 is nowhere.
func (p *position) set(log envelope.Address, seq uint64) {
	if i := p.index(log); i >= 0 {
		p.size -= p.logs[i].size()
		p.logs = slices.Delete(p.logs, i, i+1)
	}
	if seq == 0 && !fromZero(log) {
		return
	}
	p.logs = append(p.logs, reached{log, seq})
	p.size += p.logs[len(p.logs)-1].size()
	for p.size > maxText {
		p.size -= p.logs[0].size()
		p.logs = slices.Delete(p.logs, 0, 1)
	}
}

// know notes where the client stands in a log of which it need not have got
// anything, so that it is the first to be left out.
func (p *position) know(log envelope.Address, seq uint64) {
	r := reached{log, seq}
	if i := p.index(log); i >= 0 {
		p.size += r.size() - p.logs[i].size()
		p.logs[i] = r
	} else if (seq > 0 || fromZero(log)) && p.size+r.size() <= maxText {
		p.size += r.size()
		p.logs = slices.Insert(p.logs, 0, r)
	}
}

func (p *position) index(log envelope.Address) int {
	return slices.IndexFunc(p.logs, func(r reached) bool { return r.log == log })
}

// size returns how many bytes of the text r takes.
func (r reached) size() int {
	return len("~k~") + len(r.log.ID) + len(strconv.FormatUint(r.seq, 10))
}

// fromZero reports whether position 0 says anything of a log.
func fromZero(log envelope.Address) bool {
	return log.Kind == envelope.KindSession && envelope.SessionID(log.ID).IsTopic()
}

// hello returns the frame with which a client opens a connection that goes on
// from p and follows topics.
func (p *position) hello(topics ...envelope.SessionID) []byte {
	f := envelope.Control{Control: envelope.ControlHello, Epoch: p.epoch, Topics: topics}
	if len(p.logs) > 0 {
		f.Cursors = make(map[string]uint64, len(p.logs))
		for _, r := range p.logs {
			f.Cursors[r.log.String()] = r.seq
		}
	}
	return f.AppendJSON(nil)
}

// pass notes where a frame takes the client. It returns the frame's name if
// it is a control frame, and "" if it is a message.
func (p *position) pass(frame []byte, parser *envelope.Parser) (control string) {
	env, err := parser.Parse(frame)
	if !errors.Is(err, envelope.ErrControl) {
		if err == nil && env.Seq > 0 {
			p.set(env.Dest(), env.Seq)
		}
		return ""
	}
	c, err := envelope.ParseControl(frame)
	if err != nil {
		return envelope.ControlError // we wrote it: this does not happen
	}
	switch c.Control {
	case envelope.ControlHello:
		if c.Epoch != p.epoch {
			p.begin(c.Epoch)
		}
	case envelope.ControlGap:
		if log, err := envelope.ParseAddress(c.Log); err == nil && c.Floor > 0 {
			p.set(log, c.Floor-1)
		}
	case envelope.ControlSubscribed:
		if begin, err := c.CursorMap(); err == nil {
			for log, seq := range begin {
				p.know(log, seq)
			}
		}
	case envelope.ControlCaughtUp:
		if heads, err := c.HeadMap(); err == nil {
			for log, seq := range heads {
				p.know(log, seq)
			}
		}
	}
	return c.Control
}
