package auth

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// Revocation says that credentials are worth nothing any more: the one of a
// name, or all of a user, of a device or of everybody that were issued before a
// time. Validation tokens and guest keys are bound by it as auth keys are.
type Revocation struct {
	// At most one of these; none of them means everybody's.
	JTI    string
	Client envelope.ClientID
	Node   envelope.NodeID

	// Before is when a key must have been issued not to be meant, by its own
	// word, in Unix milliseconds; of a JTI it is 0, and says nothing. A key that
	// does not say when it was issued is meant.
	Before int64
	// Expires is when none of the keys can be valid any more, in Unix milliseconds.
	Expires int64
}

// subject is what a revocation is about. There is at most one row for each.
type subject struct {
	kind byte
	id   string
}

func (r *Revocation) subject() subject {
	switch {
	case r.JTI != "":
		return subject{'j', r.JTI}
	case r.Client != "":
		return subject{'c', string(r.Client)}
	case r.Node != "":
		return subject{'n', string(r.Node)}
	}
	return subject{kind: 'a'}
}

// Name tells what a revocation is about from what all others are about.
func (r *Revocation) Name() string {
	s := r.subject()
	return string(s.kind) + s.id
}

// Cover makes r mean what another one about the same means besides.
func (r *Revocation) Cover(other Revocation) {
	r.Before, r.Expires = max(r.Before, other.Before), max(r.Expires, other.Expires)
}

// RevocationStore keeps revocations. Package storetest holds its promises as
// tests. All methods are safe for concurrent use.
type RevocationStore interface {
	// PutRevocation writes one, durably. Of two about the same, what is kept
	// covers both (see [Revocation.Cover]). Then the version is another one.
	PutRevocation(ctx context.Context, r Revocation) error
	// Revocations returns all of them, in any order, and a version, which is
	// never 0: rows written before it became that are among them. Nothing is
	// returned when the version is the one that is known already.
	Revocations(ctx context.Context, known uint64) (all []Revocation, version uint64, err error)
	// DropRevocations deletes those that expire before a time, Unix milliseconds.
	DropRevocations(ctx context.Context, before int64) error
}

// Revocations knows what has been revoked, as far as this server has heard. Its
// methods are safe for concurrent use; with a nil one, nothing ever is.
type Revocations struct {
	// Static after construction.
	store RevocationStore
	keep  time.Duration
	now   func() time.Time

	mu      sync.RWMutex
	rows    map[subject]Revocation // guarded by mu
	version uint64                 // guarded by mu; of the store, when it was last read
}

// NewRevocations returns what knows of none yet; see [Revocations.Refresh]. keep
// is how long each is kept, in which all keys that it means must end: the
// MaxLifetime of [Config]. A nil now means time.Now.
func NewRevocations(store RevocationStore, keep time.Duration, now func() time.Time) *Revocations {
	if now == nil {
		now = time.Now
	}
	return &Revocations{store: store, keep: keep, now: now, rows: make(map[subject]Revocation)}
}

// Check refuses a credential that was revoked, with an [*envelope.Error].
func (r *Revocations) Check(who Verified) error {
	if r == nil {
		return nil
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if len(r.rows) == 0 {
		return nil
	}
	issued := int64(-1) // before everything
	if !who.Issued.IsZero() {
		issued = who.Issued.UnixMilli()
	}
	for _, s := range [...]subject{{'c', string(who.Client)}, {'n', string(who.Node)}, {kind: 'a'}} {
		if row, ok := r.rows[s]; ok && issued < row.Before {
			return errRevoked
		}
	}
	if _, ok := r.rows[subject{'j', who.JTI}]; ok { // no row is about ""
		return errRevoked
	}
	return nil
}

var errRevoked = envelope.Errorf(envelope.Revoked, "the credential was revoked")

// Revoke writes a revocation and heeds it here from then on. Before 0 means
// now. It returns what was written. The error is an [*envelope.Error].
func (r *Revocations) Revoke(ctx context.Context, row Revocation) (Revocation, error) {
	now := r.now()
	if err := row.complete(now); err != nil {
		return Revocation{}, err
	}
	row.Expires = now.Add(r.keep + 2*Leeway).UnixMilli() // keys count for that much longer, by clocks that are off as much
	if err := r.store.PutRevocation(ctx, row); err != nil {
		return Revocation{}, envelope.AsError(err)
	}
	r.Learn(row)
	return row, nil
}

// complete fills in Before and refuses what means nothing.
func (r *Revocation) complete(now time.Time) error {
	given := 0
	for _, id := range []string{r.JTI, string(r.Client), string(r.Node)} {
		if id != "" {
			given++
		}
	}
	switch {
	case given > 1:
		return envelope.Errorf(envelope.BadRequest, "a revocation is about one of a jti, a user and a device")
	case len(r.JTI) > maxClaim,
		r.Client != "" && !envelope.ValidID(string(r.Client)), r.Node != "" && !envelope.ValidID(string(r.Node)):
		return envelope.Errorf(envelope.BadRequest, "no credential has such a jti or id")
	case r.Before < 0 || r.Before > now.Add(Leeway).UnixMilli():
		return envelope.Errorf(envelope.BadRequest, "before is a time in milliseconds that is not ahead of now")
	case r.JTI != "":
		r.Before = 0
	case r.Before == 0:
		r.Before = now.UnixMilli()
	}
	return nil
}

// Learn takes revocations from elsewhere, and reports whether any was news.
func (r *Revocations) Learn(rows ...Revocation) (news bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, row := range rows {
		was, known := r.rows[row.subject()]
		row.Cover(was)
		if !known || row != was {
			r.rows[row.subject()] = row
			news = true
		}
	}
	return news
}

// Refresh reads what other servers have written, and reports whether any was
// news. It forgets what is over.
func (r *Revocations) Refresh(ctx context.Context) (news bool, err error) {
	r.mu.RLock()
	known := r.version
	r.mu.RUnlock()
	rows, version, err := r.store.Revocations(ctx, known)
	if err != nil || version == known {
		return false, err
	}
	news = r.Learn(rows...)
	now := r.now().UnixMilli()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.version = version
	maps.DeleteFunc(r.rows, func(_ subject, row Revocation) bool { return row.Expires < now })
	return news, nil
}

// Drop deletes what is over from the store.
func (r *Revocations) Drop(ctx context.Context) error {
	return r.store.DropRevocations(ctx, r.now().UnixMilli())
}

// All returns the revocations that are not over, in the order of their names.
func (r *Revocations) All() []Revocation {
	now := r.now().UnixMilli()
	r.mu.RLock()
	defer r.mu.RUnlock()
	var all []Revocation
	for _, row := range r.rows {
		if row.Expires >= now {
			all = append(all, row)
		}
	}
	slices.SortFunc(all, func(a, b Revocation) int { return cmp.Compare(a.Name(), b.Name()) })
	return all
}
