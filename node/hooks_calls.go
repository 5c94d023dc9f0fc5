package node

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"slices"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/hook"
)

// What the app asks of the events that it is told: how far its receivers have
// got, and to have some told again.

var errNoHooks = envelope.Errorf(envelope.NotFound, "this server tells nobody of events")

// replay carries out [gateway.ReplayHooks].
func (h *hooks) replay(ctx context.Context, who envelope.Principal, cmd gateway.ReplayHooks) error {
	switch {
	case !who.App:
		return errNotApp
	case h == nil:
		return errNoHooks
	case cmd.Partition < 0 || cmd.Partition >= hook.Partitions:
		return envelope.Errorf(envelope.BadRequest, "partition is from 0 to %d", hook.Partitions-1)
	case cmd.ID != "" && !envelope.ValidID(cmd.ID):
		return envelope.Errorf(envelope.BadRequest, "id has not the form of an id")
	case cmd.Receiver == "" && len(h.deliverers) == 1:
		cmd.Receiver = h.deliverers[0].Receiver().Name
	case cmd.Receiver == "":
		return envelope.Errorf(envelope.BadRequest, "there are several receivers: name one")
	}
	if !slices.ContainsFunc(h.deliverers, func(d *hook.Deliverer) bool { return d.Receiver().Name == cmd.Receiver }) {
		return envelope.Errorf(envelope.NotFound, "there is no receiver of that name")
	}
	e := hook.Replay(cmp.Or(cmd.ID, rand.Text()), cmd.Receiver, cmd.After)
	env := &envelope.Envelope{ID: e.ID, Timestamp: time.Now().UnixMilli(), Body: e.Said()}
	done := make(chan error, 1)
	h.n.owners.append(outboxLog(cmd.Partition), env, func(_ uint64, err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return envelope.BusyError(1000, "the store did not answer in time", context.Cause(ctx))
	}
}

// state carries out [gateway.GetHooks].
func (h *hooks) state(ctx context.Context, who envelope.Principal) (gateway.Hooks, error) {
	switch {
	case !who.App:
		return gateway.Hooks{}, errNotApp
	case h == nil:
		return gateway.Hooks{}, errNoHooks
	}
	from := make(map[envelope.Address]uint64, hook.Partitions)
	for p := range hook.Partitions {
		from[outboxLog(p)] = 0
	}
	heads, err := h.n.inbox.Heads(ctx, from)
	if err != nil {
		return gateway.Hooks{}, err
	}
	work := h.workOfAll(ctx)
	var reply gateway.Hooks
	for _, d := range h.deliverers {
		r := d.Receiver()
		at, err := outbox{h.n, r.Name}.positions(ctx)
		if err != nil {
			return gateway.Hooks{}, err
		}
		of := gateway.HookReceiver{Name: r.Name}
		for _, t := range r.Types {
			of.Types = append(of.Types, string(t))
		}
		for p := range hook.Partitions {
			head, ever := heads[outboxLog(p)]
			if !ever {
				continue
			}
			state := gateway.HookPartition{Partition: p, Position: at[p], Head: max(head, at[p])}
			for id, there := range work {
				if !there.delivers[p] {
					continue
				}
				state.Server = id
				if trouble, is := there.troubles[hookPlace{r.Name, p}]; is {
					state.Trouble = &trouble
				}
			}
			of.Partitions = append(of.Partitions, state)
		}
		reply.Receivers = append(reply.Receivers, of)
	}
	return reply, nil
}

// hookWork is what a server does for events: which partitions it delivers, and
// where that does not go well.
type hookWork struct {
	delivers [hook.Partitions]bool
	troubles map[hookPlace]gateway.HookTrouble
}

// hookPlace is a receiver's position in a partition.
type hookPlace struct {
	receiver  string
	partition int
}

// work is that of this server.
func (h *hooks) work() hookWork {
	work := hookWork{troubles: make(map[hookPlace]gateway.HookTrouble)}
	if h == nil {
		return work
	}
	for p := range hook.Partitions {
		if work.delivers[p] = h.n.chosen(outboxLog(p)); !work.delivers[p] {
			continue
		}
		for _, d := range h.deliverers {
			if t, is := d.Trouble(p); is {
				work.troubles[hookPlace{d.Receiver().Name, p}] = gateway.HookTrouble{
					Since: t.Since.UnixMilli(), Attempts: t.Attempts, Reason: t.Reason, Paused: max(0, t.Paused.UnixMilli()),
				}
			}
		}
	}
	return work
}

// workOfAll asks all servers. One that does not answer in time has nothing to say.
func (h *hooks) workOfAll(ctx context.Context) map[envelope.ServerID]hookWork {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	self := h.n.cfg.Graph.Self.ID
	all := map[envelope.ServerID]hookWork{self: h.work()}
	answers := make(map[envelope.ServerID]<-chan hookWork)
	for _, r := range h.n.graph.Servers() {
		if r.ID == self {
			continue
		}
		number, answer := h.works.ask()
		defer h.works.take(number)
		answers[r.ID] = answer
		h.n.peers.send(r.ID, recordHooks, binary.AppendUvarint(nil, number))
	}
	for id, answer := range answers {
		select {
		case work := <-answer:
			all[id] = work
		case <-ctx.Done():
			return all
		}
	}
	return all
}

// hookWorkBody says to another server what parseHookWork reads.
func hookWorkBody(number uint64, work hookWork) []byte {
	body := binary.AppendUvarint(nil, number)
	for _, does := range work.delivers {
		flag := byte(0)
		if does {
			flag = 1
		}
		body = append(body, flag)
	}
	for at, t := range work.troubles {
		body = envelope.AppendString(append(body, byte(at.partition)), at.receiver)
		body = binary.AppendUvarint(binary.AppendUvarint(body, uint64(t.Since)), uint64(t.Attempts))
		body = binary.AppendUvarint(envelope.AppendString(body, t.Reason), uint64(t.Paused))
	}
	return body
}

func parseHookWork(r *envelope.Reader) (number uint64, work hookWork) {
	number, work.troubles = r.Uvarint(), make(map[hookPlace]gateway.HookTrouble)
	for p := range work.delivers {
		work.delivers[p] = r.Byte() == 1
	}
	for len(r.Rest()) > 0 && r.Err() == nil {
		at := hookPlace{partition: int(r.Byte()), receiver: r.String()}
		work.troubles[at] = gateway.HookTrouble{
			Since: int64(r.Uvarint()), Attempts: int(r.Uvarint()), Reason: r.String(), Paused: int64(r.Uvarint()),
		}
	}
	return number, work
}

// hookWorkThere takes the answer of another server.
func (h *hooks) hookWorkThere(r *envelope.Reader) {
	number, work := parseHookWork(r)
	if h != nil && r.Err() == nil {
		h.works.answer(number, work)
	}
}
