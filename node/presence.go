package node

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/session"
)

// Presence is read off the edges: a user is online while there is one for its
// address, at any server whose lease lives. Nobody keeps a state of it besides
// that could become wrong.
const (
	// maxPresence bounds the users of one question. Of a larger session they
	// are those of the members whose device ids come first.
	maxPresence = 1000
	// presenceWithin is how long the store may take to answer a connection.
	presenceWithin = 5 * time.Second
)

// mayKnow decides who may ask about whom, and returns the users a question is
// about, each once. Any user may ask about users; only members about a session.
func (n *Node) mayKnow(ctx context.Context, who envelope.Principal, cmd gateway.GetPresence) ([]envelope.ClientID, error) {
	var clients []envelope.ClientID
	switch {
	case n.cfg.PresenceOff:
		return nil, envelope.Errorf(envelope.Forbidden, "this server does not tell who is online")
	case (cmd.Session == "") == (len(cmd.Clients) == 0):
		return nil, envelope.Errorf(envelope.BadRequest, "presence is that of clients or of a session_id")
	case len(cmd.Clients) > maxPresence:
		return nil, envelope.Errorf(envelope.BadRequest, "at most %d clients at once", maxPresence)
	case cmd.Session != "":
		_, members, err := n.sessions.Get(ctx, who, cmd.Session)
		if err != nil {
			return nil, err
		}
		slices.SortFunc(members, func(a, b session.Member) int { return cmp.Compare(a.Node, b.Node) })
		for _, m := range members {
			if !m.Hidden() {
				clients = append(clients, m.Client)
			}
		}
	default:
		clients = cmd.Clients
	}
	once := make(map[envelope.ClientID]bool, min(len(clients), maxPresence))
	users := make([]envelope.ClientID, 0, min(len(clients), maxPresence))
	for _, client := range clients {
		if !envelope.ValidID(string(client)) {
			return nil, envelope.Errorf(envelope.BadRequest, "a client has not the form of an id")
		}
		if !once[client] && len(users) < maxPresence {
			once[client] = true
			users = append(users, client)
		}
	}
	return users, nil
}

// getPresence answers a caller without a connection.
func (n *Node) getPresence(ctx context.Context, who envelope.Principal, cmd gateway.GetPresence) (gateway.Event, error) {
	if cmd.Subscribe != nil {
		return nil, envelope.Errorf(envelope.BadRequest, "a subscription belongs to a connection")
	}
	clients, err := n.mayKnow(ctx, who, cmd)
	if err != nil {
		return nil, err
	}
	of, err := n.presence(ctx, clients)
	return gateway.Presence{Of: of}, err
}

// presence looks who is connected, in the order of clients.
func (n *Node) presence(ctx context.Context, clients []envelope.ClientID) ([]envelope.Presence, error) {
	addrs := make([]envelope.Address, len(clients))
	for i, client := range clients {
		addrs[i] = client.Address()
	}
	online, seen, err := n.whereabouts(ctx, addrs)
	if err != nil {
		return nil, err
	}
	of := make([]envelope.Presence, len(clients))
	for i, client := range clients {
		of[i] = envelope.Presence{Client: client, Online: online[addrs[i]], LastSeen: seen[addrs[i]]}
	}
	return of, nil
}

// whereabouts returns which addresses are connected somewhere, and when those
// that are not were seen last.
func (n *Node) whereabouts(ctx context.Context, addrs []envelope.Address) (online map[envelope.Address]bool, seen map[envelope.Address]int64, err error) {
	online, err = n.graph.Online(ctx, addrs)
	if err == nil {
		var away []envelope.Address
		for _, addr := range addrs {
			if !online[addr] {
				away = append(away, addr)
			}
		}
		seen, err = n.sights.last(ctx, away)
	}
	if err != nil {
		return nil, nil, envelope.BusyError(1000, "the store is away", err)
	}
	return online, seen, nil
}

// presence answers a presence frame. The read loop calls it, so a connection
// has one question under way at a time.
func (c *conn) presence(cmd gateway.GetPresence) error {
	ctx, cancel := c.ctx.within(presenceWithin)
	defer cancel()
	if cmd.Subscribe != nil && !*cmd.Subscribe && len(cmd.Clients) == 0 && cmd.Session == "" {
		c.n.watchers.end(c)
		c.reply(gateway.Presence{})
		return nil
	}
	clients, err := c.n.mayKnow(ctx, c.who, cmd)
	switch {
	case err != nil:
		return err
	case cmd.Subscribe == nil:
		of, err := c.n.presence(ctx, clients)
		if err == nil {
			c.reply(gateway.Presence{Of: of})
		}
		return err
	case *cmd.Subscribe:
		return c.n.watchers.subscribe(ctx, c, clients)
	}
	c.n.watchers.unsubscribe(c, clients)
	c.reply(gateway.Presence{})
	return nil
}
