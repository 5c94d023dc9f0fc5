package native

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

// configRequest is the payload of a legacy client's message of type −101: JSON,
// mostly within a JSON string. Page marks below 0 and times of 0 mean open.
// Numbers may have fractions, as some clients' clocks do.
type configRequest struct {
	Fetch     jsontext.Value `json:"fetch_inbox_messages"`
	FromSeq   float64        `json:"fetch_inbox_messages_from_seq"`
	ToSeq     float64        `json:"fetch_inbox_messages_to_seq"`
	FromTime  float64        `json:"fetch_inbox_messages_from_time_stamp"` // Unix milliseconds
	ToTime    float64        `json:"fetch_inbox_messages_to_time_stamp"`
	Timestamp float64        `json:"timestamp"` // the client's clock, Unix milliseconds
	GCMKey    jsontext.Value `json:"update_gcm_key"`
}

// maxConfigNumber is the largest number a legacy client may give, and the
// largest that floating point holds exactly.
const maxConfigNumber = 1 << 53

func decodeConfig(env *envelope.Envelope) (gateway.Command, error) {
	payload, _ := env.Member("payload")
	if payload.Kind() == '"' {
		// It has been parsed, so it is a valid string.
		payload, _ = jsontext.AppendUnquote(nil, payload)
	}
	var req configRequest
	if err := json.Unmarshal(payload, &req); err != nil {
		return nil, &envelope.Error{
			Code: envelope.BadRequest, Detail: "the payload of type -101 is not the JSON object that it takes", Cause: err,
		}
	}
	for _, n := range []float64{req.FromSeq, req.ToSeq, req.FromTime, req.ToTime, req.Timestamp} {
		if n > maxConfigNumber {
			return nil, envelope.Errorf(envelope.BadRequest, "numbers are at most 2^53")
		}
	}
	cmd := gateway.FetchPending{
		ID:      env.ID,
		FromSeq: uint64(max(0, req.FromSeq)), ToSeq: uint64(max(0, req.ToSeq)),
		FromTime: int64(max(0, req.FromTime)), ToTime: int64(max(0, req.ToTime)),
		Clock: int64(max(0, req.Timestamp)), ClockOnly: !given(req.Fetch),
	}
	switch {
	case given(req.GCMKey) && req.GCMKey.Kind() != '"':
		return nil, envelope.Errorf(envelope.BadRequest, "update_gcm_key is a string")
	case given(req.GCMKey):
		token, _ := jsontext.AppendUnquote(nil, req.GCMKey) // it has been parsed
		cmd.PushToken = string(token)
	case cmd.ClockOnly && cmd.Clock == 0:
		return nil, envelope.Errorf(envelope.BadRequest, "type -101 asks with fetch_inbox_messages, timestamp or update_gcm_key")
	}
	return cmd, nil
}

// given reports whether a member is there and has a value that the original
// system, which was written in Python, took for true.
func given(v jsontext.Value) bool {
	switch string(v) {
	case "", "null", "false", "0", `""`:
		return false
	}
	return true
}

// configReply is the payload of a message of type −102. Each message is a
// string that holds its JSON.
type configReply struct {
	Messages  []string `json:"messages"`
	FromSeq   uint64   `json:"from_seq"`
	ToSeq     uint64   `json:"to_seq"`
	More      bool     `json:"more"`
	ClockDiff int64    `json:"server_timestamp_add_diff"` // add it to the client's clock, milliseconds
}

// clockReply is configReply to who asked for no messages.
type clockReply struct {
	ClockDiff int64 `json:"server_timestamp_add_diff"`
}

func appendConfigReply(dst []byte, ev gateway.Pending) []byte {
	var reply any = clockReply{ev.ClockAdd}
	if !ev.ClockOnly {
		messages := make([]string, len(ev.Entries))
		for i := range ev.Entries {
			messages[i] = string(ev.Entries[i].AppendJSON(nil))
		}
		reply = configReply{messages, ev.FromSeq, ev.ToSeq, ev.More, ev.ClockAdd}
	}
	// Strings, numbers and booleans in valid UTF-8 cannot fail to marshal.
	payload, _ := json.Marshal(reply, json.Deterministic(true))
	env := envelope.Envelope{ID: ev.ID, DestNode: ev.Node, HasType: true, Type: envelope.TypeConfigReply}
	env.SetPayload(string(payload))
	return env.AppendJSON(dst)
}
