package node

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
)

// An entry is revised by later ones of its log, which name its seq: edits give
// it another body, the last of them counts; a deletion takes the body away, for
// good, whatever edits come after it or came first to be numbered. The entry
// itself stays in the log as it was sent. What readers get of it is decided
// here, when they read: by what the store knows of revisions, which it has
// stored in one step with them.

// maxEdits bounds how often one entry can be edited.
const maxEdits = 100

var (
	errNoEntry    = envelope.Errorf(envelope.NotFound, "no such entry, or not yours to see")
	errNotRevised = envelope.Errorf(envelope.Forbidden, "not yours to edit or delete")
	errNotSaid    = envelope.Errorf(envelope.Forbidden, "only messages can be edited and deleted")
	errMuchEdited = envelope.Errorf(envelope.Forbidden, "an entry can be edited %d times", maxEdits)
)

// mayRevise refuses an edit or deletion that a device may not make: an entry is
// its sender's to edit and delete, the user's on whatever device, and a
// session's moderators may delete what is said there. Who is anonymous has only
// what was sent by the alias: its hand in anything else would tell whose it is. A
// repetition of one that was stored is for the store to recognise, whatever has
// become of the entry since.
func (n *Node) mayRevise(ctx context.Context, who envelope.Principal, log envelope.Address, env *envelope.Envelope) error {
	refused := n.checkRevision(ctx, who, log, env)
	if code := envelope.CodeOf(refused); code != envelope.NotFound && code != envelope.Forbidden {
		return refused
	}
	found, err := n.inbox.Find(ctx, log, env.SrcNode, env.ID)
	if err != nil {
		return err
	}
	if found.Seq != 0 {
		return nil
	}
	return refused
}

func (n *Node) checkRevision(ctx context.Context, who envelope.Principal, log envelope.Address, env *envelope.Envelope) error {
	seq := env.Revises()
	read, err := n.inbox.Read(ctx, log, seq-1, 1, 1)
	if err != nil {
		return err
	}
	if len(read) == 0 || read[0].Seq != seq || read[0].Expired(time.Now()) {
		return errNoEntry
	}
	entry := &read[0]
	if env.Deletes != 0 {
		env.ForMaster = entry.ForMaster // whoever has seen the one is to see the other
	}
	own := entry.SrcClient == env.SrcClient && entry.SrcClient != ""
	if env.SrcNode != who.Node {
		own = own || entry.SrcNode == env.SrcNode // the alias
	}
	if !own || log.Kind == envelope.KindSession { // what it has sent to others it knows
		v, err := n.view(ctx, who, log)
		if envelope.CodeOf(err) == envelope.NotFound || err == nil && !v.shows(entry) {
			return errNoEntry
		}
		if err != nil {
			return err
		}
	}
	alone := false
	if entry.Edits != 0 && env.Deletes != 0 {
		// An edit goes with the entry that it edits, and by itself once that is trimmed.
		x, err := n.inbox.Extent(ctx, log)
		if err != nil {
			return err
		}
		alone = entry.Edits < x.Floor
	}
	switch {
	case entry.DestNode != env.DestNode || entry.DestClient != env.DestClient || entry.DestSession != env.DestSession:
		return errNoEntry
	case entry.Revises() != 0 && !alone || entry.HasType && envelope.SystemType(entry.Type):
		return errNotSaid
	case entry.ForMaster != env.ForMaster && env.Edits != 0: // it would go to others than the entry
		return errNotRevised
	case own:
	case env.Deletes == 0 || log.Kind != envelope.KindSession:
		return errNotRevised
	default: // nobody puts words into another's mouth, but may have to take them out
		if err := n.sessions.MayDelete(ctx, who, envelope.SessionID(log.ID), entry.SrcNode); err != nil {
			return err
		}
	}
	of, err := n.inbox.Revisions(ctx, map[envelope.Address][]inbox.Range{log: {{First: seq, Last: seq}}})
	if err != nil {
		return err
	}
	for _, r := range of[log] {
		if r.Deletes {
			return errNoEntry
		}
	}
	if env.Edits != 0 && len(of[log]) >= maxEdits {
		return errMuchEdited
	}
	return nil
}

// deletedBody is the body of an entry that was deleted.
const deletedBody = `"deleted":true`

// revised returns entries of a log as their revisions have left them, for
// somebody who may see them: without a body if they were deleted, with the body
// of the last edit that may be seen if they were edited. When edits make them
// too much for a page, it returns only the first of them. It changes entries.
func (n *Node) revised(ctx context.Context, v view, entries []envelope.Envelope) ([]envelope.Envelope, error) {
	of, err := n.revisions(ctx, map[envelope.Address][]envelope.Envelope{v.log: entries})
	if err != nil || len(of[v.log]) == 0 {
		return entries, err
	}
	deleted, edits := make(map[uint64]bool), make(map[uint64]uint64)
	for _, r := range of[v.log] {
		if r.Deletes {
			deleted[r.Of] = true
		} else if v.sees(r.Seq) {
			edits[r.Of] = max(edits[r.Of], r.Seq)
		}
	}
	for seq := range deleted {
		delete(edits, seq)
	}
	var read map[uint64]*envelope.Envelope
	size := 0
	for i := range entries {
		env := &entries[i]
		if hidden(env, deleted) {
			continue
		}
		if by := edits[env.Seq]; by != 0 {
			if _, known := read[by]; !known {
				if read, err = n.readEdits(ctx, v.log, edits, entries[i:]); err != nil {
					return nil, err
				}
			}
			if read[by] != nil { // else trimmed meanwhile, like the entry
				edited(env, read[by])
			}
		}
		if size += len(env.Body); size > inbox.PageBytes && i > 0 {
			return entries[:i], nil
		}
	}
	return entries, nil
}

// readEdits reads the edits of entries; edits says by their seqs which those
// are. When they are too much to be read at once it reads fewer, but that of the
// first entry. Nil stands for one that is gone.
func (n *Node) readEdits(ctx context.Context, log envelope.Address, edits map[uint64]uint64, of []envelope.Envelope) (map[uint64]*envelope.Envelope, error) {
	var seqs []uint64
	for i := range of {
		if by := edits[of[i].Seq]; by != 0 {
			seqs = append(seqs, by)
		}
	}
	for count := len(seqs); ; count = max(count/8, 1) {
		asked := seqs[:count]
		read, err := n.inbox.ReadEach(ctx, log, asked, inbox.PageBytes)
		if err != nil {
			return nil, err
		}
		last := slices.Max(asked)
		if len(read) > 0 {
			last = read[len(read)-1].Seq // what is beyond did not fit
		}
		found := make(map[uint64]*envelope.Envelope, count)
		for _, seq := range asked {
			if seq <= last {
				found[seq] = nil
			}
		}
		for i := range read {
			found[read[i].Seq] = &read[i]
		}
		if _, known := found[seqs[0]]; known {
			return found, nil
		}
	}
}

// edited gives an entry the body of one that edits it.
func edited(env, by *envelope.Envelope) {
	body := append(make([]byte, 0, len(by.Body)+64), `"edited":{"seq":`...)
	body = append(strconv.AppendUint(body, by.Seq, 10), `,"timestamp":`...)
	body = append(strconv.AppendInt(body, by.Timestamp, 10), '}')
	if len(by.Body) > 0 {
		body = append(append(body, ','), by.Body...)
	}
	env.Body = body
}

// hideDeleted takes the bodies from the entries of some logs that were deleted,
// and from the edits of such. It changes pages.
func (n *Node) hideDeleted(ctx context.Context, pages map[envelope.Address][]envelope.Envelope) error {
	of, err := n.revisions(ctx, pages)
	if err != nil {
		return err
	}
	for log, revisions := range of {
		deleted := make(map[uint64]bool)
		for _, r := range revisions {
			if r.Deletes {
				deleted[r.Of] = true
			}
		}
		for i := range pages[log] {
			hidden(&pages[log][i], deleted)
		}
	}
	return nil
}

// hidden takes the body from an entry that was deleted, or edits such a one,
// and reports whether it did.
func hidden(env *envelope.Envelope, deleted map[uint64]bool) bool {
	if !deleted[env.Seq] && !deleted[env.Edits] {
		return false
	}
	env.Body = []byte(deletedBody)
	return true
}

// revisions returns what is known of the revisions of entries of some logs, and
// of the entries that these edit.
func (n *Node) revisions(ctx context.Context, pages map[envelope.Address][]envelope.Envelope) (map[envelope.Address][]inbox.Revision, error) {
	of := make(map[envelope.Address][]inbox.Range, len(pages))
	for log, entries := range pages {
		if len(entries) == 0 {
			continue
		}
		// They are in rising or in falling order.
		first, last := entries[0].Seq, entries[len(entries)-1].Seq
		first, last = min(first, last), max(first, last)
		of[log] = []inbox.Range{{First: first, Last: last}}
		asked := make(map[uint64]bool)
		for i := range entries {
			if e := entries[i].Edits; e != 0 && (e < first || e > last) && !asked[e] {
				asked[e] = true
				of[log] = append(of[log], inbox.Range{First: e, Last: e})
			}
		}
	}
	if len(of) == 0 {
		return nil, nil
	}
	return n.inbox.Revisions(ctx, of)
}
