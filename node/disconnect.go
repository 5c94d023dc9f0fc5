package node

import (
	"context"
	"unicode/utf8"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

// disconnect ends connections for the app, here and on the other servers. It is
// said once: a server that is not reached goes on, and so does a connection that
// begins meanwhile.
func (n *Node) disconnect(ctx context.Context, who envelope.Principal, cmd gateway.Disconnect) (gateway.Disconnected, error) {
	if !who.App {
		return gateway.Disconnected{}, errNotApp
	}
	if cmd.Code == "" {
		cmd.Code = envelope.GoingAway
	}
	if err := checkEnd(cmd); err != nil {
		return gateway.Disconnected{}, err
	}
	of := cmd.Node.Address()
	if cmd.Client != "" {
		of = cmd.Client.Address()
	}
	servers, err := n.serversOf(ctx, of)
	if err != nil {
		return gateway.Disconnected{}, err
	}
	n.peers.broadcast(recordEnd, endBody(cmd))
	n.disconnectHere(cmd)
	return gateway.Disconnected{Servers: servers}, nil
}

func checkEnd(cmd gateway.Disconnect) error {
	switch {
	case (cmd.Node == "") == (cmd.Client == ""):
		return envelope.Errorf(envelope.BadRequest, "give one of node_id and client_id")
	case !envelope.ValidID(string(cmd.Node) + string(cmd.Client)):
		return envelope.Errorf(envelope.BadRequest, "node_id or client_id has not the form of an id")
	case len(cmd.Reason) > gateway.MaxReason || !utf8.ValidString(cmd.Reason):
		return envelope.Errorf(envelope.BadRequest, "a reason has at most %d bytes", gateway.MaxReason)
	}
	switch cmd.Code {
	case envelope.GoingAway, envelope.Unauthorized, envelope.Forbidden:
		return nil
	}
	return envelope.Errorf(envelope.BadRequest, "code is going_away, unauthorized or forbidden")
}

// disconnectHere ends the connections to this server.
func (n *Node) disconnectHere(end gateway.Disconnect) {
	for _, c := range n.conns.all() {
		if end.Node != "" && c.who.Node == end.Node || end.Client != "" && c.who.Client == end.Client {
			c.close(end.Code, end.Reason)
		}
	}
}

// endBody says to other servers what parseEnd reads.
func endBody(end gateway.Disconnect) []byte {
	body := envelope.AppendString(nil, string(end.Node))
	body = envelope.AppendString(body, string(end.Client))
	body = envelope.AppendString(body, string(end.Code))
	return envelope.AppendString(body, end.Reason)
}

func parseEnd(r *envelope.Reader) gateway.Disconnect {
	return gateway.Disconnect{
		Node: envelope.NodeID(r.String()), Client: envelope.ClientID(r.String()), Code: envelope.Code(r.String()), Reason: r.String(),
	}
}
