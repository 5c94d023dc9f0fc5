package remote

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"testing/quick"
	"time"

	"github.com/allsparkrt/allspark/bench/peer"
	"github.com/allsparkrt/allspark/bench/peer/allspark"
	"github.com/allsparkrt/allspark/bench/peer/peertest"
	"github.com/allsparkrt/allspark/bench/peer/wire"
)

// TestMain is a worker when the tests start one.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "worker" {
		err := Serve(context.Background(), os.Args[2], func(name string) (peer.Target, error) {
			if name != "allspark" {
				return nil, fmt.Errorf("no target %q", name)
			}
			return allspark.One(allspark.Options{}), nil
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func spread(t *testing.T, n int) *Target {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Spread(allspark.One(allspark.Options{Builder: &allspark.Builder{Dir: t.TempDir()}}), n, []string{self, "worker"})
}

// What drivers promise holds over workers.
func TestTarget(t *testing.T) { peertest.Run(t, spread(t, 2)) }

// A worker that ends takes its connections with it, and they say so.
func TestWorkerEnds(t *testing.T) {
	loop, err := wire.NewLoop(1)
	if err != nil {
		t.Fatal(err)
	}
	target := spread(t, 2)
	if err := target.Start(t.Context(), peer.Env{Dir: t.TempDir(), Loop: loop}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(target.Stop(), loop.Close()); err != nil {
			t.Error(err)
		}
	})
	closed := make([]chan error, 2)
	for i := range closed {
		closed[i] = make(chan error, 1)
		u := peer.User{Name: fmt.Sprint("u", i), Index: i}
		if _, err := target.Connect(t.Context(), u, peer.Handler{Closed: func(err error) { closed[i] <- err }}); err != nil {
			t.Fatal(err)
		}
	}
	pids := target.Workers()
	if len(pids) != 2 || slices.Contains(pids, os.Getpid()) {
		t.Fatalf("workers %v", pids)
	}
	worker, err := os.FindProcess(pids[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := worker.Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-closed[0]:
		if err == nil {
			t.Error("closed without a reason")
		}
	case <-time.After(30 * time.Second):
		t.Fatal("nobody says that the connection has ended")
	}
	if _, err := target.Connect(t.Context(), peer.User{Name: "late"}, peer.Handler{}); err == nil {
		t.Error("connected by a worker that has ended")
	}
	select {
	case err := <-closed[1]:
		t.Errorf("the other worker's connection ended: %v", err)
	default:
	}
}

func TestMessageThereAndBack(t *testing.T) {
	err := quick.Check(func(durable, receipt bool, tag uint64, body []byte) bool {
		want := peer.Message{Body: body, Durable: durable, Tag: tag, Receipt: receipt}
		to, got, err := readMessage(appendMessage(nil, "somebody-1", want))
		return err == nil && to == "somebody-1" && slices.Equal(got.Body, body) &&
			got.Durable == durable && got.Tag == tag && got.Receipt == receipt
	}, nil)
	if err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "\x01", "\x01\xff", "\x01\x05", "\x01\x05\x03ab"} {
		if _, _, err := readMessage([]byte(bad)); !errors.Is(err, errFrame) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestFrames(t *testing.T) {
	var got []frame
	f := frames{each: func(f frame) error { got = append(got, f); return nil }}
	in := []byte("\x00\x00\x00\x07X\x00\x00\x00\x09hi\x00\x00\x00\x05o\x00\x00\x00\x01")
	for cut := range len(in) + 1 {
		got = nil
		used, err := f.Read(in[:cut])
		want := 0
		if cut == len(in) {
			want = cut
		} else if cut >= 11 {
			want = 11
		}
		if used != want || err != nil {
			t.Fatalf("%d bytes: %d used, want %d, %v", cut, used, want, err)
		}
	}
	if len(got) != 2 || got[0].kind != shut || got[0].conn != 9 || string(got[0].rest) != "hi" || got[1].kind != opened || len(got[1].rest) != 0 {
		t.Errorf("%+v", got)
	}
	for _, bad := range []string{"\x00\x00\x00\x04X\x00\x00\x00", "\xff\x00\x00\x05X\x00\x00\x00\x00"} {
		if _, err := f.Read([]byte(bad)); !errors.Is(err, errFrame) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
