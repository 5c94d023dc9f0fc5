package hook

import "slices"

// DefaultReceiver is the name of the receiver of an app that has one.
const DefaultReceiver = "default"

// Receiver is somewhere that events are sent to. Each receiver has its own
// position in each partition, so none waits for another.
type Receiver struct {
	Name    string // of it to operators, and of its positions in the outbox
	URL     string
	Secrets [][]byte // for the signatures; each signs
	Types   []Type   // what it is told; none: everything
}

// wants reports whether a receiver is to be told of an event.
func (r *Receiver) wants(e Event) bool {
	return e.Type != replay && (len(r.Types) == 0 || slices.Contains(r.Types, e.Type))
}

// asked reports whether an entry of an outbox is a replay for the receiver. One
// that does not name any is for the default.
func (r *Receiver) asked(e Event) bool {
	return e.Type == replay && (e.Receiver == r.Name || e.Receiver == "" && r.Name == DefaultReceiver)
}

// next returns what a receiver is to be handed next of a page of events: a
// replay that it has asked for, which is the first one then, or the events that it
// is to be told before the next such replay; and up to where that goes, at which
// it is done with the events of others as well.
func (r *Receiver) next(page []Event) (again *Event, some []Event, upTo uint64) {
	for i, e := range page {
		if r.asked(e) {
			if i == 0 {
				return &page[0], nil, e.Seq
			}
			break
		}
		if upTo = e.Seq; r.wants(e) {
			some = append(some, e)
		}
	}
	return nil, some, upTo
}
