package node

import (
	"encoding/binary"
	"fmt"

	"github.com/allsparkrt/allspark/envelope"
)

// receive takes a frame from a peer. An error ends the link: a peer that does
// not speak our language is not to be guessed at.
func (p *peers) receive(l *link, frame []byte) error {
	for len(frame) > 0 {
		kind, body, rest, err := nextRecord(frame)
		if err == nil {
			err = p.record(l, l.peer, kind, body)
		}
		if err != nil {
			return err
		}
		frame = rest
	}
	return nil
}

func (p *peers) record(l *link, from envelope.ServerID, kind byte, body []byte) error {
	r := envelope.NewReader(body)
	switch kind {
	case recordDeliver:
		addr, env := r.Address(), r.Envelope()
		if r.Err() == nil {
			p.delivered(from, addr, &env)
		}
	case recordMiss:
		addr := r.Address()
		if r.Err() == nil {
			p.missed(from, addr)
		}
	case recordEdges:
		for len(r.Rest()) > 0 && r.Err() == nil {
			if addr := r.Address(); r.Err() == nil {
				p.edgeChanged(from, addr)
				p.n.watchers.hint(addr)
			}
		}
	case recordGone:
		for len(r.Rest()) > 0 && r.Err() == nil {
			if addr := r.Address(); r.Err() == nil {
				p.n.graph.Invalidate(addr) // or senders would hear that somebody is there
				p.n.watchers.hint(addr)
			}
		}
	case recordHead:
		addr, seq := r.Address(), r.Uvarint()
		if r.Err() == nil {
			p.n.hint(addr, seq)
		}
	case recordRefresh:
		device, id := r.String(), ""
		if len(r.Rest()) > 0 { // older servers do not say which session
			id = r.String()
		}
		if r.Err() == nil {
			p.n.refresh(envelope.NodeID(device), envelope.SessionID(id))
		}
	case recordAppend:
		number, first, addr, env := r.Uvarint(), r.Byte() == 1, r.Address(), r.Envelope()
		if r.Err() == nil {
			p.asked(l, number, first, addr, &env)
		}
	case recordAppended:
		number, seq, refusal := parseAppended(r)
		if r.Err() == nil {
			p.answered(l, number, seq, refusal)
		}
	case recordMember:
		id, device := r.String(), r.String()
		if r.Err() == nil {
			p.n.forget(envelope.SessionID(id), envelope.NodeID(device))
		}
	case recordNotice:
		addr, except, ev, err := parseNotice(r)
		if err != nil {
			return err
		}
		p.n.notifyHere(addr, except, ev)
	case recordConnected:
		p.n.connectedElsewhere(from, r)
	case recordReplaced:
		device, id := r.String(), r.String()
		if r.Err() == nil {
			p.n.replacedElsewhere(envelope.NodeID(device), id)
		}
	case recordReach:
		number, log, seq := r.Uvarint(), r.Address(), r.Uvarint()
		if r.Err() == nil {
			p.send(from, recordReached, reachBody(number, p.n.reachHere(log, seq)))
		}
	case recordReached:
		p.n.reached(r)
	case recordRoll:
		p.n.tellRoll(from)
	case recordBeat:
		p.beaten(l, from, r)
	case recordLossy:
		p.resync()
		p.send(from, recordRoll, nil)
		if len(r.Rest()) > 0 {
			if boot, revivals := r.String(), r.Uvarint(); r.Err() == nil {
				p.n.graph.Revived(boot, revivals)
			}
		}
	case recordRevoked:
		if rows := parseRevoked(r); r.Err() == nil {
			p.n.revoker.learn(rows)
		}
	case recordEnd:
		if end := parseEnd(r); r.Err() == nil {
			p.n.disconnectHere(end)
		}
	case recordHealth:
		if body := p.n.healthBody(r); r.Err() == nil {
			p.send(from, recordHealthy, body)
		}
	case recordHealthy:
		p.n.healthTold(r)
	case recordDrain:
		number, boot := r.Uvarint(), r.String()
		if r.Err() == nil && p.n.drainHere(boot) {
			p.send(from, recordDraining, binary.AppendUvarint(nil, number))
		}
	case recordDraining:
		if number := r.Uvarint(); r.Err() == nil {
			p.n.questions.drain.answer(number, struct{}{})
		}
	case recordHooks:
		number := r.Uvarint()
		if r.Err() == nil {
			p.send(from, recordHooked, hookWorkBody(number, p.n.hooks.work()))
		}
	case recordHooked:
		p.n.hooks.hookWorkThere(r)
	case recordRelay:
		rel, err := parseRelay(body)
		if err != nil {
			return err
		}
		if rel.to == p.n.cfg.Graph.Self.ID {
			return p.record(l, rel.via[0], rel.kind, rel.body)
		}
		if !rel.passed(p.n.cfg.Graph.Self.ID) {
			p.relay(rel)
		}
		return nil
	default:
		return fmt.Errorf("a peer sent a record of kind %q", kind)
	}
	return r.Err()
}

// delivered takes a message that was routed here. A relayed message is never
// stored again, nor routed on.
func (p *peers) delivered(from envelope.ServerID, addr envelope.Address, env *envelope.Envelope) {
	if p.n.deliver(addr, env) == 0 {
		p.n.stats.PeerMissed.Add(1)
		p.send(from, recordMiss, addressesBody(addr))
	}
}

// missed takes a peer's word that it has nobody for an address: what we
// remembered of it is wrong. If the address is at another server by now, that
// one is told how far the log goes.
func (p *peers) missed(from envelope.ServerID, addr envelope.Address) {
	last, known := p.n.graph.EdgeChanged(addr)
	if !known || last == 0 {
		return
	}
	p.n.graph.Route(addr, last, func(servers []envelope.ServerID) {
		for _, id := range servers {
			if id != from {
				p.send(id, recordHead, headBody(addr, last))
			}
		}
	})
}

// edgeChanged takes a peer's word that it has a new edge. Messages that we
// routed by an older view of the address may not have gone there, so the peer
// is told how far the log goes.
func (p *peers) edgeChanged(from envelope.ServerID, addr envelope.Address) {
	if last, known := p.n.graph.EdgeChanged(addr); known && last > 0 {
		p.send(from, recordHead, headBody(addr, last))
	}
}

// asked carries out an append for another server. After a refusal, what that
// server had sent of the stream before it heard of it is refused too, so that
// nothing overtakes the refused one: first says that it has heard.
func (p *peers) asked(l *link, number uint64, first bool, log envelope.Address, env *envelope.Envelope) {
	s := stream{log, env.SrcNode}
	answer := func(seq uint64, err error) {
		if !l.send(recordAppended, appendedBody(number, seq, err)) {
			go l.ws.CloseNow() // it would wait for ever; closing may block, and a store's done may not
		}
	}
	if !l.mayAppend(s, first, number) {
		answer(0, errEarlierRefused)
		return
	}
	defer l.passage.end(&l.mu)
	p.n.owners.here(log, env, func(seq uint64, err error) {
		if err != nil && envelope.CodeOf(err).Retry() {
			l.refuseAppends(s, number)
		}
		answer(seq, err)
	})
}

// answered takes the outcome of an append that another server carried out.
func (p *peers) answered(l *link, number, seq uint64, err error) {
	if a := p.n.owners.take(number, l); a != nil {
		p.n.owners.settle(a, seq, err)
	}
}
