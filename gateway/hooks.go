package gateway

import "github.com/allsparkrt/allspark/envelope"

// What the app asks of the events that its receivers are told; to everybody else
// these commands are [envelope.Forbidden].
type (
	// GetHooks asks how far the receivers have got. The reply is [Hooks].
	GetHooks struct{}
	// ReplayHooks has the events of a partition that stand behind a seq delivered
	// to a receiver again. The reply is [Done].
	ReplayHooks struct {
		ID        string // of the request, by which a repetition is recognised; "": it is none
		Receiver  string // "": the only one
		Partition int
		After     uint64
	}
)

func (GetHooks) command()    {}
func (ReplayHooks) command() {}

type (
	// Hooks answers [GetHooks].
	Hooks struct{ Receivers []HookReceiver }
	// HookReceiver is somewhere that events are sent to.
	HookReceiver struct {
		Name       string
		Types      []string        // what it is told; none: everything
		Partitions []HookPartition // in which there has ever been an event
	}
	// HookPartition is how far a receiver has got in a partition.
	HookPartition struct {
		Partition      int
		Server         envelope.ServerID // that delivers it; "" when it is not known
		Position, Head uint64
		Trouble        *HookTrouble // nil: there is none
	}
	// HookTrouble is why events are not delivered. Times are Unix milliseconds.
	HookTrouble struct {
		Since    int64
		Attempts int
		Reason   string // of the last one
		Paused   int64  // the receiver has said that it is gone, and is not asked before then; 0: it has not
	}
)

func (Hooks) event() {}
