package embedded

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// childDir names the directory for a copy of the test binary that is to be
// killed while it appends.
const childDir = "ALLSPARK_EMBEDDED_CHILD_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		child(dir)
		return
	}
	os.Exit(m.Run())
}

const childLogs = 4

func childLog(i int) envelope.Address { return envelope.NodeID(fmt.Sprint("log", i)).Address() }

// child appends without end and prints what is acknowledged: the log, the
// seq, and the message. On the way it reads, and prints what it can read, and
// trims.
func child(dir string) {
	s, err := Open(Options{Dir: dir, MemtableBytes: 256 << 10, SegmentBytes: 32 << 10}) // small: many log files and segments
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	run := rand.Uint64()
	lines := make(chan string, 16_384)
	room := make(chan struct{}, 8192) // so that batches can be as large as they get
	trim := func(log int) {
		if err := childTrim(s, childLog(log)); err != nil {
			lines <- fmt.Sprintln("error", err)
		}
	}
	trimming := make(chan struct{}, 1)
	go func() {
		trim(0)
		for n := 1; ; n++ {
			room <- struct{}{}
			log := n % childLogs
			env := &envelope.Envelope{
				ID: fmt.Sprintf("%x.%d", run, n), SrcNode: "child",
				Body: []byte(`"payload":"` + strings.Repeat("x", rand.IntN(400)) + `"`),
			}
			s.Append(childLog(log), env, func(seq uint64, err error) {
				if err != nil {
					lines <- fmt.Sprint("error ", err)
				}
				lines <- fmt.Sprintln(log, seq, env.ID)
				<-room
			})
			if n%300 == 0 {
				select {
				case trimming <- struct{}{}:
					go func() { // appends do not wait for it
						trim(n / 300 % childLogs)
						<-trimming
					}()
				default:
				}
			}
			if n%100 == 0 {
				heads, err := s.Heads(context.Background(), map[envelope.Address]uint64{childLog(log): 0})
				if err != nil || heads[childLog(log)] == 0 {
					continue
				}
				page, err := s.Read(context.Background(), childLog(log), heads[childLog(log)]-1, 10, 1<<20)
				for i := range page {
					lines <- fmt.Sprintln(log, page[i].Seq, page[i].ID)
				}
				if err != nil {
					lines <- fmt.Sprintln("error", err)
				}
			}
		}
	}()
	for line := range lines {
		fmt.Print(line)
	}
}

// childTrim trims a log to its last hundred entries.
func childTrim(s *Store, log envelope.Address) error {
	x, err := s.Extent(context.Background(), log)
	if err != nil {
		return err
	}
	return s.Trim(context.Background(), log, x.Head-min(x.Head, 100), time.UnixMilli(0))
}

func TestKill(t *testing.T) {
	dir := t.TempDir()
	known := make([]map[uint64]string, childLogs) // by log and seq: the id that was acknowledged
	for i := range known {
		known[i] = map[uint64]string{}
	}
	for round := range 6 {
		acknowledged := killChild(t, dir, 500+rand.IntN(3000), known)
		if round%3 == 1 {
			continue // the next one starts from what the kill has left
		}
		s := openIn(t, dir)
		for i := range known {
			checkChildLog(t, s, childLog(i), known[i])
		}
		if x, err := s.Extent(t.Context(), childLog(0)); err != nil || round > 0 && x.Floor == 1 {
			t.Fatalf("nothing was trimmed: %+v, %v", x, err)
		}
		t.Logf("round %d: %d acknowledged", round, acknowledged)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// killChild lets a child print n acknowledgements and kills it.
func killChild(t *testing.T, dir string, n int, known []map[uint64]string) int {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	seen := 0
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err != nil { // what was printed before the kill counts, an unfinished line does not
			break
		}
		f := strings.Fields(line)
		if f[0] == "error" {
			t.Fatal(line)
		}
		log, _ := strconv.Atoi(f[0])
		seq, _ := strconv.ParseUint(f[1], 10, 64)
		if was, ok := known[log][seq]; ok && was != f[2] {
			t.Fatalf("log %d seq %d was %s and is %s", log, seq, was, f[2])
		}
		known[log][seq] = f[2]
		if seen++; seen == n {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait() // it was killed
	if seen < n {
		t.Fatalf("the child ended after %d acknowledgements", seen)
	}
	return seen
}

// checkChildLog fails unless the log has no hole from where it was trimmed and
// holds what is known of it. It notes the rest, which has to be there the next
// time. Of what was trimmed the ids are still known.
func checkChildLog(t *testing.T, s *Store, log envelope.Address, known map[uint64]string) {
	t.Helper()
	x, err := s.Extent(t.Context(), log)
	if err != nil {
		t.Fatal(err)
	}
	for after := x.Floor - 1; after < x.Head; {
		page, err := s.Read(t.Context(), log, after, 1000, 1<<20)
		if err != nil || len(page) == 0 {
			t.Fatalf("%v: %d entries after %d, %v", log, len(page), after, err)
		}
		for i := range page {
			after++
			if page[i].Seq != after {
				t.Fatalf("%v: %d where %d belongs", log, page[i].Seq, after)
			}
			if was, ok := known[after]; ok && was != page[i].ID {
				t.Fatalf("%v: seq %d was acknowledged for %s and holds %s", log, after, was, page[i].ID)
			}
			known[after] = page[i].ID
		}
	}
	for seq, id := range known {
		if found, err := s.Find(t.Context(), log, "child", id); err != nil || found.Seq != seq {
			t.Fatalf("%v: %s was acknowledged as %d, and found is %+v, %v", log, id, seq, found, err)
		}
		other := &envelope.Envelope{ID: id, SrcNode: "child", Body: []byte(`"payload":"other"`)}
		s.Append(log, other, func(_ uint64, err error) {
			if envelope.CodeOf(err) != envelope.Conflict {
				t.Errorf("%v: %s was acknowledged as %d, and another message with its id gets %v", log, id, seq, err)
			}
		})
	}
}
