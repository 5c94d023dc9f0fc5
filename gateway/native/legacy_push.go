package native

import (
	"context"
	"encoding/json"
	"net/url"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

// pushMessage answers /push_message with ok: the app sends one message, which is
// the parameter payload, to the devices that to_nodes lists in JSON. The message
// may say in whose name it comes (src_id). What the original did not have: an id
// in the message makes a repetition of the call known, and when a device's log
// does not take it, the answer is that refusal.
func (h *Handler) pushMessage(ctx context.Context, who auth.Verified, form url.Values) (any, error) {
	var nodes []envelope.NodeID
	if err := json.Unmarshal([]byte(form.Get("to_nodes")), &nodes); err != nil {
		return nil, envelope.Errorf(envelope.BadRequest, "to_nodes is a JSON array of the ids of devices")
	}
	cmd := gateway.SendMany{}
	for _, node := range nodes {
		if !envelope.ValidNode(string(node)) {
			return nil, envelope.Errorf(envelope.BadRequest, "to_nodes has what has not the form of an id")
		}
		cmd.To = append(cmd.To, gateway.Destination{Node: node})
	}
	var err error
	if cmd.Envelope, cmd.Src, cmd.SrcClient, err = undirected(form.Get("payload")); err != nil {
		return nil, err
	}
	ev, err := h.Core.Do(ctx, who.Principal, cmd)
	if err != nil {
		return nil, err
	}
	for _, sent := range ev.(gateway.SentMany).Of {
		if sent.Err != nil {
			return nil, sent.Err
		}
	}
	return plainText("ok"), nil
}

// undirected reads a legacy client's message, wherever it says it goes, and in
// whose name it comes if it says so.
func undirected(message string) (env envelope.Envelope, src envelope.NodeID, client envelope.ClientID, err error) {
	var says struct {
		Src       envelope.NodeID   `json:"src_id"`
		SrcClient envelope.ClientID `json:"src_client_id"`
		Dest      any               `json:"dest_id"`
		Client    any               `json:"dest_client_id"`
		Session   any               `json:"dest_session_id"`
	}
	// A value first, which is not nested as deep as the library would follow.
	if _, err := envelope.ParseValue([]byte(message)); err != nil {
		return env, "", "", err
	}
	if err := json.Unmarshal([]byte(message), &says); err != nil || message[0] != '{' {
		return env, "", "", envelope.Errorf(envelope.BadRequest, "payload is a message, which is a JSON object")
	}
	if says.Dest == nil && says.Client == nil && says.Session == nil {
		message = `{"dest_id":"nobody",` + message[1:] // a message is read with a destination
	}
	p := envelope.Parser{From: envelope.FromLegacyClient}
	if env, err = p.Parse([]byte(message)); err != nil {
		return env, "", "", err
	}
	if env.HasType && env.Type == envelope.TypeConfig {
		return env, "", "", envelope.Errorf(envelope.BadRequest, "that is no message")
	}
	if says.Src != "" { // a user without a device would be the app's device with another's user
		src, client = says.Src, says.SrcClient
	}
	return env, src, client, nil
}
