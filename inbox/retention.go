package inbox

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// Limits say what is kept of a log. Zero fields mean no limit.
type Limits struct {
	Age     time.Duration // entries older than this go
	Entries uint64        // of the newest
	Bytes   int64         // of the newest
	// Acknowledged is for the logs of devices, which have one reader: what it
	// has acknowledged goes when it is older than this.
	Acknowledged time.Duration
}

// Retention says what is kept of the logs of each kind. Of a kind that is
// absent everything is kept.
type Retention struct {
	Keep map[envelope.Kind]Limits
	// Dedupe is how long after it was accepted repetitions of a message are
	// recognised, also when it has been trimmed by then; 7 days when 0.
	Dedupe time.Duration
}

const dedupe = 7 * 24 * time.Hour

// ParseLimits reads limits as text: "age=720h,entries=10000,bytes=64MiB,acknowledged=24h",
// each part at most once. "" is no limit.
func ParseLimits(text string) (Limits, error) {
	var l Limits
	seen := make(map[string]bool)
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		var err error
		switch name {
		case "age":
			l.Age, err = parsePeriod(value)
		case "acknowledged":
			l.Acknowledged, err = parsePeriod(value)
		case "entries":
			l.Entries, err = strconv.ParseUint(value, 10, 53)
			if err != nil || l.Entries == 0 {
				err = fmt.Errorf("entries: %q is not a number from 1 up", value)
			}
		case "bytes":
			l.Bytes, err = parseBytes(value)
		default:
			err = fmt.Errorf("%q is none of age, entries, bytes and acknowledged", name)
		}
		if err != nil {
			return Limits{}, err
		}
		if seen[name] {
			return Limits{}, fmt.Errorf("%s is given twice", name)
		}
		seen[name] = true
	}
	return l, nil
}

func parsePeriod(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%q is not a period such as 720h", text)
	}
	return d, nil
}

func parseBytes(text string) (int64, error) {
	number, factor := text, int64(1)
	for unit, of := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40} {
		if n, ok := strings.CutSuffix(text, unit); ok {
			number, factor = n, of
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n <= 0 || n > 1<<62/factor {
		return 0, fmt.Errorf("%q is not a size such as 64MiB", text)
	}
	return n * factor, nil
}

// Tidy trims one log as far as its retention says, and returns how many
// entries went. What the log's kind allows to keep, and the head, stay.
func (in *Inbox) Tidy(ctx context.Context, log envelope.Address, r Retention) (uint64, error) {
	x, err := in.Extent(ctx, log)
	if err != nil || x.Head == 0 {
		return 0, err
	}
	floor, err := in.floor(ctx, log, x, r.Keep[log.Kind])
	if err != nil {
		return 0, err
	}
	window := r.Dedupe
	if window == 0 {
		window = dedupe
	}
	if err := in.Trim(ctx, log, floor, time.Now().Add(-window)); err != nil {
		return 0, err
	}
	return floor - x.Floor, nil
}

// floor returns the first entry to keep.
func (in *Inbox) floor(ctx context.Context, log envelope.Address, x Extent, keep Limits) (uint64, error) {
	floor := x.Floor
	if keep.Entries > 0 && x.Head-x.Floor+1 > keep.Entries {
		floor = x.Head - keep.Entries + 1
	}
	if keep.Age > 0 {
		young, err := in.Since(ctx, log, x, time.Now().Add(-keep.Age))
		if err != nil {
			return 0, err
		}
		floor = max(floor, young)
	}
	if keep.Acknowledged > 0 && log.Kind == envelope.KindNode {
		young, err := in.Since(ctx, log, x, time.Now().Add(-keep.Acknowledged))
		if err != nil {
			return 0, err
		}
		handled := uint64(0)
		if young > floor {
			if handled, err = in.handled(ctx, log); err != nil {
				return 0, err
			}
		}
		floor = max(floor, min(young, handled+1))
	}
	if keep.Bytes > 0 && x.Bytes > keep.Bytes {
		fits, err := in.fits(ctx, log, x, keep.Bytes)
		if err != nil {
			return 0, err
		}
		floor = max(floor, fits)
	}
	return min(floor, x.Head), nil
}

// Since returns the first entry within x that was accepted at t or later, or
// the one behind the head. The clocks of several servers have their part in
// the order of a log's times, so it is as exact as they agree.
func (in *Inbox) Since(ctx context.Context, log envelope.Address, x Extent, t time.Time) (uint64, error) {
	low, high := max(x.Floor, 1), x.Head+1 // the answer is in low … high
	for probe := low; low < high; probe = low + (high-low)/2 {
		page, err := in.Read(ctx, log, probe-1, 1, PageBytes)
		switch {
		case err != nil:
			return 0, err
		case len(page) == 0 || page[0].Timestamp >= t.UnixMilli():
			high = probe
		default:
			low = page[0].Seq + 1 // further than probe+1 when it was trimmed meanwhile
		}
	}
	return min(low, x.Head+1), nil
}

// handled returns how far the device has acknowledged its own log, or that of
// an alias of it, which nobody else reads.
func (in *Inbox) handled(ctx context.Context, log envelope.Address) (uint64, error) {
	device := envelope.NodeID(log.ID)
	if _, _, alias := device.Alias(); alias {
		readers, err := in.Readers(ctx, log, 1)
		if err != nil || len(readers) == 0 {
			return 0, err
		}
		device = readers[0].Node
	}
	cursors, err := in.Cursors(ctx, device)
	if err != nil {
		return 0, err
	}
	for _, c := range cursors {
		if c.Log == log {
			return c.Delivered, nil
		}
	}
	return 0, nil
}

// fits returns the first entry from which on a log has at most that many bytes.
// It reads what is to go, once.
func (in *Inbox) fits(ctx context.Context, log envelope.Address, x Extent, most int64) (uint64, error) {
	floor, bytes := x.Floor, x.Bytes
	for bytes > most && floor < x.Head {
		page, err := in.Read(ctx, log, floor-1, PageEntries, PageBytes)
		if err != nil || len(page) == 0 || page[0].Seq != floor {
			return floor, err // or somebody else trims it too: bytes still counts what is gone
		}
		for i := range page {
			if bytes <= most {
				break
			}
			bytes -= Size(&page[i])
			floor = page[i].Seq + 1
		}
	}
	return floor, nil
}
