//go:build unix

package graph

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

const freezeChild = "ALLSPARK_TEST_FREEZE_CHILD"

// A real process that is stopped for longer than half a lease notices it.
func TestSIGSTOP(t *testing.T) {
	if os.Getenv(freezeChild) != "" {
		freezeMain(t)
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestSIGSTOP$")
	cmd.Env = append(os.Environ(), freezeChild+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	lines := bufio.NewScanner(out)
	expect := func(word string) string {
		t.Helper()
		for lines.Scan() {
			if rest, ok := strings.CutPrefix(lines.Text(), word+" "); ok {
				return rest
			}
		}
		t.Fatalf("the child did not say %q", word)
		return ""
	}
	boot := expect("ready")
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	<-time.After(2 * time.Second) // no waiting for something: this is the freeze
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	expect("frozen")
	if now := expect("boot"); now == boot {
		t.Error("no new boot id")
	}
}

func freezeMain(t *testing.T) {
	c := testConfig("a", newMemStore(), newMemNet().host())
	c.Lease = 2 * time.Second
	frozen := make(chan struct{}, 1)
	c.OnFrozen = func() { signal(frozen) }
	g, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	go func() { _ = g.Run(t.Context()) }()
	boot := g.Boot()
	look := time.Tick(10 * time.Millisecond)
	for g.Stats().Renewals == 0 { // Run has begun
		<-look
	}
	fmt.Println("ready", boot)
	<-frozen
	fmt.Println("frozen .")
	for g.Boot() == boot {
		<-look
	}
	fmt.Println("boot", g.Boot())
}
