package embedded

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/push"
)

var _ push.Store = (*Store)(nil)

func tokenKey(t push.Token) []byte {
	return append(appendID([]byte{rowToken}, t.Service), t.Value...)
}

// tokenOwnerPrefix is that of the rows by which an owner, a device or a user,
// finds its tokens.
func tokenOwnerPrefix(owner envelope.Address) []byte {
	return appendAddress([]byte{rowTokenOwner}, owner)
}

func tokenOwnerKey(owner envelope.Address, t push.Token) []byte {
	return append(tokenOwnerPrefix(owner), tokenKey(t)[1:]...)
}

// PutToken implements push.Store.
func (s *Store) PutToken(ctx context.Context, t push.Token) error {
	t.P256DH, t.Auth = slices.Clone(t.P256DH), slices.Clone(t.Auth) // the update may outlive the call
	return s.do(ctx, synced, func(b *pebble.Batch) error {
		var was push.Token
		there, err := getJSON(b, tokenKey(t), &was)
		if err != nil || there && was.Registered > t.Registered {
			return err
		}
		if there {
			if err := deleteToken(b, was); err != nil {
				return err
			}
		}
		for _, owner := range []envelope.Address{t.Node.Address(), t.Client.Address()} {
			if err := b.Set(tokenOwnerKey(owner, t), nil, nil); err != nil {
				return err
			}
		}
		return setJSON(b, tokenKey(t), t)
	})
}

func deleteToken(b *pebble.Batch, t push.Token) error {
	for _, key := range [][]byte{tokenKey(t), tokenOwnerKey(t.Node.Address(), t), tokenOwnerKey(t.Client.Address(), t)} {
		if err := b.Delete(key, nil); err != nil {
			return err
		}
	}
	return nil
}

// DropToken implements push.Store.
func (s *Store) DropToken(ctx context.Context, t push.Token, upto int64) error {
	return s.do(ctx, synced, func(b *pebble.Batch) error {
		var was push.Token
		there, err := getJSON(b, tokenKey(t), &was)
		if err != nil || !there || was.Node != t.Node || was.Registered > upto {
			return err
		}
		return deleteToken(b, was)
	})
}

// DropTokens implements push.Store.
func (s *Store) DropTokens(ctx context.Context, jti string, before int64) error {
	meant := func(t push.Token) bool { return jti != "" && t.JTI == jti || jti == "" && t.Issued < before }
	var found []push.Token
	err := s.scan(ctx, []byte{rowToken}, func(_, value []byte) error {
		var t push.Token
		if err := json.Unmarshal(value, &t); err != nil {
			return fmt.Errorf("%w: %w", errDamaged, err)
		}
		if meant(t) {
			found = append(found, t)
		}
		return nil
	})
	if err != nil || len(found) == 0 {
		return err
	}
	return s.do(ctx, synced, func(b *pebble.Batch) error {
		for _, t := range found {
			var is push.Token
			there, err := getJSON(b, tokenKey(t), &is)
			if err == nil && there && meant(is) { // else it was registered anew
				err = deleteToken(b, is)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// TokensOf implements push.Store.
func (s *Store) TokensOf(ctx context.Context, nodes []envelope.NodeID) ([]push.Token, error) {
	var all []push.Token
	for _, node := range nodes {
		of, err := s.tokensOf(ctx, node.Address())
		if err != nil {
			return nil, err
		}
		all = append(all, of...)
	}
	return all, nil
}

// TokensOfClient implements push.Store.
func (s *Store) TokensOfClient(ctx context.Context, client envelope.ClientID) ([]push.Token, error) {
	return s.tokensOf(ctx, client.Address())
}

// tokensOf passes over rows of a token that has moved between two reads.
func (s *Store) tokensOf(ctx context.Context, owner envelope.Address) ([]push.Token, error) {
	var all []push.Token
	err := s.scan(ctx, tokenOwnerPrefix(owner), func(rest, _ []byte) error {
		var t push.Token
		there, err := getJSON(s.db, append([]byte{rowToken}, rest...), &t)
		if there && (t.Node.Address() == owner || t.Client.Address() == owner) {
			all = append(all, t)
		}
		return err
	})
	return all, err
}

func muteKey(node envelope.NodeID, log envelope.Address) []byte {
	return append(append(appendID([]byte{rowMute}, node), byte(log.Kind)), log.ID...)
}

// PutMute implements push.Store.
func (s *Store) PutMute(ctx context.Context, m push.Mute) error {
	return s.do(ctx, synced, func(b *pebble.Batch) error { return setJSON(b, muteKey(m.Node, m.Log), m) })
}

// DropMute implements push.Store.
func (s *Store) DropMute(ctx context.Context, node envelope.NodeID, log envelope.Address) error {
	return s.do(ctx, synced, func(b *pebble.Batch) error { return b.Delete(muteKey(node, log), nil) })
}

// Mutes implements push.Store.
func (s *Store) Mutes(ctx context.Context, node envelope.NodeID) ([]push.Mute, error) {
	return scanJSON[push.Mute](ctx, s, appendID([]byte{rowMute}, node))
}

func jobKey(k push.JobKey) []byte {
	return append([]byte{rowJob, byte(k.Task), byte(k.Addr.Kind)}, k.Addr.ID...)
}

// dueKey orders jobs by time; what follows the time is the end of jobKey.
func dueKey(j push.Job) []byte {
	return append(binary.BigEndian.AppendUint64([]byte{rowDue}, uint64(j.Due)), jobKey(j.JobKey)[1:]...)
}

func failedKey(k push.JobKey) []byte { return append([]byte{rowFailed}, jobKey(k)[1:]...) }

// setJob writes a job and what it is found by in the place of another.
func setJob(b *pebble.Batch, was, j push.Job) error {
	if was.Due != 0 && was.Due != j.Due {
		if err := b.Delete(dueKey(was), nil); err != nil {
			return err
		}
	}
	if j.Due != 0 && was.Due != j.Due {
		if err := b.Set(dueKey(j), nil, nil); err != nil {
			return err
		}
	}
	switch {
	case was.Failed == nil && j.Failed != nil:
		if err := b.Set(failedKey(j.JobKey), nil, nil); err != nil {
			return err
		}
	case was.Failed != nil && j.Failed == nil:
		if err := b.Delete(failedKey(j.JobKey), nil); err != nil {
			return err
		}
	}
	return setJSON(b, jobKey(j.JobKey), storedJob{Job: j, Told: toldOf(j)})
}

// storedJob is a Job in JSON, where an address cannot be a key.
type storedJob struct {
	push.Job
	Told []told `json:",omitempty"` // hides that of Job
}

type told struct {
	Log envelope.Address
	Seq uint64
}

func toldOf(j push.Job) []told {
	var all []told
	for log, seq := range j.Told {
		all = append(all, told{log, seq})
	}
	return all
}

func getJob(from pebble.Reader, key []byte) (push.Job, bool, error) {
	var row storedJob
	there, err := getJSON(from, key, &row)
	for _, t := range row.Told {
		if row.Job.Told == nil {
			row.Job.Told = make(map[envelope.Address]uint64, len(row.Told))
		}
		row.Job.Told[t.Log] = t.Seq
	}
	return row.Job, there, err
}

// Touch implements push.Store. It is as durable as what is synced after it.
func (s *Store) Touch(ctx context.Context, keys []push.JobKey, due int64) error {
	keys = slices.Clone(keys)
	return s.do(ctx, lazy, func(b *pebble.Batch) error {
		for _, k := range keys {
			was, there, err := getJob(b, jobKey(k))
			if err != nil {
				return err
			}
			j := was
			j.JobKey, j.Version = k, was.Version+1
			if !there || was.Due == 0 || was.Claim == "" && due < was.Due {
				j.Due = due
			}
			if err := setJob(b, was, j); err != nil {
				return err
			}
		}
		return nil
	})
}

// PutJob implements push.Store.
func (s *Store) PutJob(ctx context.Context, j push.Job) error {
	return s.do(ctx, synced, func(b *pebble.Batch) error {
		was, _, err := getJob(b, jobKey(j.JobKey))
		if err != nil {
			return err
		}
		if j.Version != was.Version+1 {
			return push.ErrChanged
		}
		return setJob(b, was, j)
	})
}

// DropJob implements push.Store.
func (s *Store) DropJob(ctx context.Context, j push.Job) error {
	return s.do(ctx, lazy, func(b *pebble.Batch) error {
		was, there, err := getJob(b, jobKey(j.JobKey))
		if err != nil {
			return err
		}
		if !there || was.Version != j.Version {
			return push.ErrChanged
		}
		for _, key := range [][]byte{jobKey(was.JobKey), dueKey(was), failedKey(was.JobKey)} {
			if err := b.Delete(key, nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// Jobs implements push.Store.
func (s *Store) Jobs(ctx context.Context, keys []push.JobKey) ([]push.Job, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	var all []push.Job
	for _, k := range keys {
		j, there, err := getJob(s.db, jobKey(k))
		if err != nil {
			return nil, err
		}
		if there {
			all = append(all, j)
		}
	}
	return all, nil
}

// DueJobs implements push.Store.
func (s *Store) DueJobs(ctx context.Context, now int64, limit int) ([]push.Job, error) {
	upper := binary.BigEndian.AppendUint64([]byte{rowDue}, uint64(now)+1)
	return s.jobsBy(ctx, []byte{rowDue}, upper, 1+8, limit, func(j push.Job) bool { return j.Due != 0 && j.Due <= now })
}

// FailedJobs implements push.Store.
func (s *Store) FailedJobs(ctx context.Context, from envelope.NodeID, limit int) ([]push.Job, error) {
	lower := append(failedKey(push.JobKey{Task: push.Tell, Addr: from.Address()}), endOfID) // which no id goes on with
	return s.jobsBy(ctx, lower, after([]byte{rowFailed}), 1, limit, func(j push.Job) bool { return j.Failed != nil })
}

// jobsBy returns the jobs that rows lead to whose keys, behind so many bytes,
// name them. A job may have changed since.
func (s *Store) jobsBy(ctx context.Context, lower, upper []byte, skip, limit int, still func(push.Job) bool) (all []push.Job, err error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, readError(err)
	}
	for valid := it.First(); valid && len(all) < limit; valid = it.Next() {
		j, there, err := getJob(s.db, append([]byte{rowJob}, it.Key()[skip:]...))
		if err != nil {
			_ = it.Close()
			return nil, err
		}
		if there && still(j) {
			all = append(all, j)
		}
	}
	if err := it.Close(); err != nil {
		return nil, readError(err)
	}
	return all, nil
}
