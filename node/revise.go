package node

import (
	"context"
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
// session's moderators may delete what is said there. A
// repetition of one that was stored is for the store to recognise, whatever has
// become of the entry since.
func (n *Node) mayRevise(ctx context.Context, who envelope.Principal, log envelope.Address, env *envelope.Envelope) error {
	refused := n.checkRevision(ctx, who, log, env)
	if code := envelope.CodeOf(refused); code != envelope.NotFound && code != envelope.Forbidden {
		return refused
	}
	found, err := n.inbox.Find(ctx, log, who.Node, env.ID)
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
	own := entry.SrcClient == who.Client
	if !own || log.Kind == envelope.KindSession { // what it has sent to others it knows
		v, err := n.view(ctx, who, log)
		if envelope.CodeOf(err) == envelope.NotFound || err == nil && !v.sees(seq) {
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
	size := 0
	for i := range entries {
		env := &entries[i]
		if hidden(env, deleted) {
			continue
		}
		if by := edits[env.Seq]; by != 0 {
			if err := n.edit(ctx, v.log, env, by); err != nil {
				return nil, err
			}
		}
		if size += len(env.Body); size > inbox.PageBytes && i > 0 {
			return entries[:i], nil
		}
	}
	return entries, nil
}

// edit gives an entry the body of one that edits it.
func (n *Node) edit(ctx context.Context, log envelope.Address, env *envelope.Envelope, by uint64) error {
	read, err := n.inbox.Read(ctx, log, by-1, 1, 1)
	if err != nil || len(read) == 0 || read[0].Seq != by { // trimmed meanwhile, like the entry
		return err
	}
	body := append(make([]byte, 0, len(read[0].Body)+64), `"edited":{"seq":`...)
	body = append(strconv.AppendUint(body, by, 10), `,"timestamp":`...)
	body = append(strconv.AppendInt(body, read[0].Timestamp, 10), '}')
	if len(read[0].Body) > 0 {
		body = append(append(body, ','), read[0].Body...)
	}
	env.Body = body
	return nil
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
