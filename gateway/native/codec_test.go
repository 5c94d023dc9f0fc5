package native

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

var update = flag.Bool("update", false, "write what the codec says into the transcripts")

// TestTranscripts reads testdata/*.txtar. In "in" each line is a frame, and
// "commands" what it means, in the form of describe. "events" names events of
// the table below, and "out" is the frame of each, or "-" for none.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			codec := NewCodec(strings.HasPrefix(filepath.Base(file), "legacy"))
			parts := make(map[string]*txtar.File)
			for i := range a.Files {
				parts[a.Files[i].Name] = &a.Files[i]
			}
			for _, pair := range []struct {
				from, to string
				say      func(line string) string
			}{
				{"in", "commands", func(line string) string {
					frame := []byte(line)
					cmd, id, err := codec.Decode(frame)
					clear(frame) // nothing that is got is in it: the memory is the reader's
					return describe(cmd, id, err)
				}},
				{"events", "out", func(line string) string {
					ev, ok := events()[line]
					if !ok {
						t.Fatalf("no event %q", line)
					}
					out := codec.Append(nil, ev)
					if len(out) == 0 {
						return "-"
					}
					return string(out)
				}},
			} {
				if parts[pair.from] == nil {
					continue
				}
				var got strings.Builder
				for line := range strings.Lines(string(parts[pair.from].Data)) {
					fmt.Fprintln(&got, pair.say(strings.TrimSuffix(line, "\n")))
				}
				if *update {
					parts[pair.to].Data = []byte(got.String())
					continue
				}
				want := strings.Split(string(parts[pair.to].Data), "\n")
				for i, line := range strings.Split(got.String(), "\n") {
					if i >= len(want) || line != want[i] {
						t.Errorf("%s %d: got\n%s\nin place of\n%s", pair.to, i+1, line, want[min(i, len(want)-1)])
					}
				}
			}
			if *update {
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// describe writes a command in one line.
func describe(cmd gateway.Command, id string, err error) string {
	if err != nil {
		return strings.TrimSpace(fmt.Sprintf("refused %s %s", envelope.CodeOf(err), id))
	}
	switch cmd := cmd.(type) {
	case gateway.Send:
		e := cmd.Envelope
		return fmt.Sprintf("send %s id=%s type=%d,%v %v key=%s ttl=%d receipt=%v src=%s body=%s",
			e.Dest(), e.ID, e.Type, e.HasType, e.Class, e.Key, e.TTL, e.Receipt, e.SrcNode, e.Body)
	case gateway.Hello:
		cursors, _ := json.Marshal(envelope.ByText(cmd.Cursors))
		hello := fmt.Sprintf("hello cursors=%s given=%v epoch=%s fromNow=%v", cursors, cmd.Cursors != nil, cmd.Epoch, cmd.FromNow)
		if len(cmd.Topics) > 0 {
			hello += fmt.Sprintf(" topics=%v", cmd.Topics)
		}
		return hello
	case gateway.Subscribe:
		cursors, _ := json.Marshal(envelope.ByText(cmd.Cursors))
		return fmt.Sprintf("subscribe id=%s topics=%v cursors=%s epoch=%s", cmd.ID, cmd.Topics, cursors, cmd.Epoch)
	case gateway.Unsubscribe:
		return fmt.Sprintf("unsubscribe id=%s topics=%v", cmd.ID, cmd.Topics)
	case gateway.Refresh:
		return fmt.Sprintf("refresh id=%s key=%s", cmd.ID, cmd.AuthKey)
	case gateway.Acknowledge:
		cursors, _ := json.Marshal(envelope.ByText(envelope.ByLog(cmd.Cursors)))
		return fmt.Sprintf("acknowledge %s", cursors)
	case gateway.MarkRead:
		cursors, _ := json.Marshal(envelope.ByText(envelope.ByLog(cmd.Cursors)))
		return fmt.Sprintf("read %s", cursors)
	case gateway.GetPresence:
		subscribe := "once"
		if cmd.Subscribe != nil {
			subscribe = fmt.Sprint(*cmd.Subscribe)
		}
		return fmt.Sprintf("presence clients=%v session=%s subscribe=%s", cmd.Clients, cmd.Session, subscribe)
	case gateway.FetchPending:
		return fmt.Sprintf("fetch id=%s marks=%d..%d times=%d..%d clock=%d only=%v",
			cmd.ID, cmd.FromSeq, cmd.ToSeq, cmd.FromTime, cmd.ToTime, cmd.Clock, cmd.ClockOnly)
	}
	return fmt.Sprintf("%T", cmd)
}

func events() map[string]gateway.Event {
	bob := envelope.NodeID("bob").Address()
	heads := map[envelope.Address]uint64{bob: 7, envelope.SessionID("r").Address(): 9}
	return map[string]gateway.Event{
		"message": gateway.Message{Envelope: &envelope.Envelope{
			ID: "1", DestNode: "bob", SrcNode: "alice", SrcClient: "al", Timestamp: 5, Seq: 7, Body: []byte(`"payload":"hi"`),
		}},
		"ack":       gateway.Ack{ID: "1", Seq: 7, Log: bob},
		"taken":     gateway.Ack{ID: "1"},
		"nack":      gateway.Refusal{ID: "1", Err: envelope.BusyError(100, "later", nil)},
		"error":     gateway.Refusal{Err: envelope.Errorf(envelope.BadRequest, "no")},
		"welcome":   gateway.Welcome{Server: "a", Epoch: "e", Heads: heads, Window: 256, Ping: 25 * time.Second},
		"caught_up": gateway.CaughtUp{Heads: heads},
		"gap":       gateway.Gap{Log: bob, Floor: 3},
		"reconnect": gateway.Reconnect{After: 1500 * time.Millisecond, URLs: []string{"http://b"}},
		"servers":   gateway.Servers{},
		"offline":   gateway.Ack{ID: "1", Offline: true},
		"read":      gateway.ReadMark{Cursors: map[envelope.Address]uint64{bob: 7}},
		"delivered": gateway.Receipt{ID: "1", Log: bob, Seq: 7, Node: "bob", Client: "bo"},
		"seen":      gateway.Receipt{ID: "1", Log: bob, Seq: 7, Node: "bob", Client: "bo", Read: true},
		"presence":  gateway.Presence{Of: []envelope.Presence{{Client: "al", Online: true}, {Client: "bo", LastSeen: 5}}},
		"pending": gateway.Pending{
			Node: "bob", ID: "9", FromSeq: 3, ToSeq: 4, More: true, ClockAdd: -5, Entries: []envelope.Envelope{
				{ID: "1", DestNode: "bob", SrcNode: "alice", Timestamp: 5, Seq: 7, Body: []byte(`"payload":"he said \"hi\" <ä>"`)},
				{DestSession: "r", SrcNode: "alice", Timestamp: 6, Seq: 9, HasType: true, Type: 100},
			},
		},
		"to all": gateway.Message{Envelope: &envelope.Envelope{
			ID: "1", DestSession: "r", SrcNode: "alice", SrcClient: "al", Timestamp: 5, Seq: 8, Body: []byte(`"payload":"hi"`),
		}},
		"to a member": gateway.Message{Envelope: &envelope.Envelope{
			ID: "2", DestSession: "r", DestNode: "bob", SrcNode: "alice", SrcClient: "al", Timestamp: 5, Seq: 7, Body: []byte(`"payload":"hi"`),
		}},
		"joined": gateway.Message{Envelope: &envelope.Envelope{
			ID: "o1", DestSession: "r", SrcNode: "alice", SrcClient: "al", Timestamp: 5, Seq: 2, HasType: true, Type: envelope.TypeJoined,
		}},
		"left": gateway.Message{Envelope: &envelope.Envelope{
			ID: "o2", DestSession: "r", SrcNode: "alice", SrcClient: "al", Timestamp: 6, Seq: 9, HasType: true, Type: envelope.TypeLeft,
		}},
		"not a member": gateway.Message{Envelope: &envelope.Envelope{
			ID: "3", DestSession: "r", Timestamp: 5, HasType: true, Type: envelope.TypeNotMember,
		}},
		"member not known": gateway.Message{Envelope: &envelope.Envelope{
			ID: "4", DestSession: "r", DestNode: "eve", Timestamp: 5, HasType: true, Type: envelope.TypeNotMember,
		}},
		"subscribed": gateway.Subscribed{
			ID: "1", Topics: []envelope.SessionID{"topic:a", "topic:b"},
			Cursors: map[envelope.Address]uint64{envelope.SessionID("topic:a").Address(): 3, envelope.SessionID("topic:b").Address(): 0},
			Heads:   map[envelope.Address]uint64{envelope.SessionID("topic:a").Address(): 7, envelope.SessionID("topic:b").Address(): 0},
		},
		"expiring":        gateway.Expiring{At: time.UnixMilli(1700000000000)},
		"refreshed":       gateway.Refreshed{ID: "1", Expires: time.UnixMilli(1700000000001)},
		"unsubscribed":    gateway.Unsubscribed{Topics: []envelope.SessionID{"topic:a"}},
		"pending nothing": gateway.Pending{Node: "bob"},
		"pending clock":   gateway.Pending{Node: "bob", ID: "9", ClockOnly: true, ClockAdd: 1500},
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"id":"1","dest_id":"bob","payload":"hi"}`, `{"control":"hello","cursors":{"node:bob":1},"resume":true}`,
		`{"control":"ack","cursors":{"session:r":2}}`, `{"dest_id":"bob","type":-7,"x":[{"a":1e3}]}`,
		`{"control":"subscribe","id":"1","topics":["topic:a"],"cursors":{"session:topic:a":2}}`,
		`{"dest_session_id":"r","class":"latest","key":"k"}`, `{"dest_id":"b\u006fb"}`, "{\"a\":\"\xff\"}",
		`{"type":-101,"payload":"{\"fetch_inbox_messages\":true,\"fetch_inbox_messages_from_seq\":-1,\"timestamp\":1.5e12}"}`,
		`{"type":-101,"payload":{"fetch_inbox_messages":1,"fetch_inbox_messages_to_time_stamp":7}}`,
	} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, frame []byte, legacy bool) {
		given := bytes.Clone(frame)
		cmd, id, err := NewCodec(legacy).Decode(frame)
		if !bytes.Equal(frame, given) {
			t.Fatal("the frame was changed")
		}
		if (cmd == nil) == (err == nil) || id != "" && !envelope.ValidID(id) {
			t.Fatalf("%v, %q, %v", cmd, id, err)
		}
		send, ok := cmd.(gateway.Send)
		if !ok {
			return
		}
		e := send.Envelope
		if e.SrcNode != "" || e.SrcClient != "" || e.Seq != 0 || e.Timestamp != 0 || e.HasType && envelope.SystemType(e.Type) || e.Dest().IsZero() {
			t.Fatalf("a client said %+v", e)
		}
		// What is sent on is valid and means the same.
		var p envelope.Parser
		p.From = envelope.FromServer
		again, err := p.Parse(NewCodec(legacy).Append(nil, gateway.Message{Envelope: e}))
		if err != nil || again.Dest() != e.Dest() || !bytes.Equal(again.Body, e.Body) || again.ID != e.ID {
			t.Fatalf("%+v became %+v, %v", e, again, err)
		}
	})
}
