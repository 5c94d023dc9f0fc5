package tinode

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// Messages are JSON objects with one member that names their kind
// (github.com/tinode/chat/blob/master/docs/API.md). Names and bodies need no
// escaping, see peer.Message.

func appendHi(b []byte, id uint64) []byte {
	return append(appendID(b, "hi", id), `,"ver":"0.25","ua":"bench"}}`...)
}

// appendAccount makes an account and logs in.
func appendAccount(b []byte, id uint64, name, password string) []byte {
	b = append(append(appendID(b, "acc", id), `,"user":"new`...), name...)
	b = append(b, `","scheme":"basic","login":true,"secret":"`...)
	b = base64.StdEncoding.AppendEncode(b, []byte(name+":"+password))
	return append(b, `"}}`...)
}

func appendLogin(b []byte, id uint64, token string) []byte {
	b = append(append(appendID(b, "login", id), `,"scheme":"token","secret":"`...), token...)
	return append(b, `"}}`...)
}

func appendSub(b []byte, id uint64, topic string) []byte {
	b = append(append(appendID(b, "sub", id), `,"topic":"`...), topic...)
	return append(b, `"}}`...)
}

// appendPub publishes; the content begins with the name of whom it is for.
func appendPub(b []byte, id uint64, topic, to string, body []byte) []byte {
	b = append(append(appendID(b, "pub", id), `,"noecho":true,"topic":"`...), topic...)
	b = append(append(b, `","content":"`...), to...)
	return append(append(append(b, ' '), body...), `"}}`...)
}

// appendReceived says that everything up to a message has been received.
func appendReceived(b []byte, topic []byte, seq uint64) []byte {
	b = append(append(b, `{"note":{"what":"recv","topic":"`...), topic...)
	b = strconv.AppendUint(append(b, `","seq":`...), seq, 10)
	return append(b, "}}"...)
}

func appendID(b []byte, kind string, id uint64) []byte {
	b = append(append(append(b, `{"`...), kind...), `":{"id":"`...)
	return append(strconv.AppendUint(b, id, 10), '"')
}

// data is a message in a topic; it points into what was parsed.
type data struct {
	topic []byte
	seq   uint64
	to    []byte
	body  []byte
}

// ctrl is the answer to a request.
type ctrl struct {
	ID     string `json:"id"`
	Code   int    `json:"code"`
	Text   string `json:"text"`
	Params struct {
		User  string `json:"user"`
		Token string `json:"token"`
	} `json:"params"`
}

func (c ctrl) err() error {
	if c.Code < 400 {
		return nil
	}
	return fmt.Errorf("tinode: %d %s", c.Code, c.Text)
}

var (
	dataStart = []byte(`{"data":{"topic":"`)
	ctrlStart = []byte(`{"ctrl":`)
	quote     = []byte(`"`)

	errProtocol = errors.New("tinode: not its protocol")
)

// parseData reads a message by where its members stand; false: it is something
// else.
func parseData(in []byte) (d data, ok bool) {
	rest, ok := bytes.CutPrefix(in, dataStart)
	if !ok {
		return d, false
	}
	if d.topic, rest, ok = bytes.Cut(rest, quote); !ok {
		return d, false
	}
	if _, rest, ok = bytes.Cut(rest, []byte(`"seq":`)); !ok {
		return d, false
	}
	for len(rest) > 0 && rest[0] >= '0' && rest[0] <= '9' {
		d.seq = d.seq*10 + uint64(rest[0]-'0')
		rest = rest[1:]
	}
	if _, rest, ok = bytes.Cut(rest, []byte(`"content":"`)); !ok {
		return d, false
	}
	content, _, ok := bytes.Cut(rest, quote)
	if !ok {
		return d, false
	}
	d.to, d.body, ok = bytes.Cut(content, []byte(" "))
	return d, ok
}

// parseCtrl reads an answer; false: it is something else.
func parseCtrl(in []byte) (c ctrl, ok bool, err error) {
	if !bytes.HasPrefix(in, ctrlStart) {
		return c, false, nil
	}
	var m struct {
		Ctrl ctrl `json:"ctrl"`
	}
	if err := json.Unmarshal(in, &m); err != nil {
		return c, false, fmt.Errorf("%w: %w", errProtocol, err)
	}
	return m.Ctrl, true, nil
}
