package embedded

import (
	"context"
	"errors"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/inbox"
	"github.com/allsparkrt/allspark/session"
)

func sessionsOver(s *Store) *session.Sessions {
	return session.New(s, func(ctx context.Context, log envelope.Address, env *envelope.Envelope) (uint64, error) {
		return inbox.Wait(ctx, func(done func(uint64, error)) { s.Append(log, env, done) })
	}, nil)
}

// A change that was refused because the disk did not take it can be seen in the
// database. It is not answered as done for that, whoever asks again and how often.
func TestNotDoneBeforeOnDisk(t *testing.T) {
	for name, fault := range map[string]error{
		"full disk":   &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC},
		"broken disk": errors.New("input/output error"),
	} {
		t.Run(name, func(t *testing.T) {
			s, disk := openFaulty(t, Options{Patience: 50 * time.Millisecond})
			all := sessionsOver(s)
			owner := envelope.Principal{Node: "owner", Client: "o"}
			if _, err := all.Create(t.Context(), owner, "r", session.Defaults, session.As{}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond) // for the mark behind it
			disk.write.Store(&fault)
			_, err := all.Ban(t.Context(), owner, "r", "bob")
			wantBusy(t, "ban", err)
			_, err = all.Ban(t.Context(), owner, "r", "bob") // as Busy asks for
			acknowledged := err == nil

			killed := t.TempDir() // what is there when the process is killed now
			if err := os.CopyFS(killed, os.DirFS(s.options.Dir)); err != nil {
				t.Fatal(err)
			}
			disk.write.Store(nil)
			_ = s.Close()
			s = openIn(t, killed)
			m, err := s.Member(t.Context(), "r", "bob")
			if acknowledged && m.State != session.Banned {
				t.Errorf("the ban was acknowledged, and is lost: state is %v, %v", m.State, err)
			}
			mustClose(t, s)
		})
	}
}
