package embedded

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// checkFiles looks at the directory before the database does, for what the
// database would take for a new directory or for the end of a log. It reports
// to log what may be either damage or the trace of a crash.
func checkFiles(fs vfs.FS, dir string, log *slog.Logger) error {
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	desc, err := pebble.Peek(dir, fs)
	if err != nil {
		return err
	}
	slices.Sort(names)
	var last position
	for _, name := range names {
		number, isLog := strings.CutSuffix(name, ".log")
		if !desc.Exists && strings.HasSuffix(name, ".sst") {
			return fmt.Errorf("%w: it holds data but no manifest", errDamaged)
		}
		n, err := strconv.ParseUint(number, 10, 64)
		if !isLog || err != nil {
			continue
		}
		path := filepath.Join(dir, name)
		rest, err := checkLog(fs, path, uint32(n), &last)
		if err != nil {
			return fmt.Errorf("%w: %s: %w", errDamaged, name, err)
		}
		if rest.bytes > 0 {
			log.Warn("what follows the last whole batch of a log file is left out: a crash cut it short, or it is damaged",
				"file", path, "offset", rest.offset, "bytes", rest.bytes)
		}
	}
	return nil
}

// A batch begins with a mark, which the database keeps in the log file and
// nowhere else:
//
//	12 bytes of the database: batch header
//	 1 byte: log data
//	 1 byte: length of the mark
//	 4 bytes markMagic
//	 8 bytes name of the run of the store that wrote it
//	 8 bytes number of the batch in that run
//	 8 bytes number of the last batch known to be synced when this one was written
const (
	markMagic  = "mark"
	markLen    = len(markMagic) + 24
	markOffset = 14
	markEnd    = markOffset + markLen
)

// position is the last batch found to be whole.
type position struct {
	life   [8]byte
	number uint64
}

type mark struct {
	position
	synced uint64
}

func parseMark(record []byte) (m mark, ok bool) {
	if len(record) < markEnd {
		return m, false
	}
	rest, ok := bytes.CutPrefix(record[markOffset:markEnd], []byte(markMagic))
	if !ok {
		return m, false
	}
	copy(m.life[:], rest)
	m.number = binary.BigEndian.Uint64(rest[8:])
	m.synced = binary.BigEndian.Uint64(rest[16:])
	return m, true
}

// A log file is made of blocks, a block of chunks, and a record, which is one
// batch, of one or more chunks that follow one another:
//
//	4 bytes checksum of what follows, CRC-32C, rotated and offset
//	2 bytes length of the payload
//	1 byte  kind
//	4 bytes number of the file, modulo 2³²
//	8 bytes offset up to which the file is known to be synced
//	payload
//
// The first log file of a new directory is written before the database is of
// the version that knows the offset. Its chunks lack it and are of kinds 5 to 8.
const (
	logBlock       = 32 << 10
	chunkHeader    = 19
	oldChunkHeader = 11

	oldChunkFull = 5
	chunkFull    = 9
	chunkFirst   = 10
	chunkMiddle  = 11
	chunkLast    = 12
)

// checkLog reads a log file to where the database will stop and take it for
// the end: at the first chunk that is not whole. That is what a crash leaves
// of a batch that was never acknowledged. It is damage when a batch further on
// tells that one which is missing now had been synced; otherwise checkLog
// returns what follows the last whole batch.
func checkLog(fs vfs.FS, path string, file uint32, last *position) (tail, error) {
	f, err := fs.Open(path)
	if err != nil {
		return tail{}, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(f)
	if err != nil {
		return tail{}, err
	}
	var (
		head    []byte // of the record whose first chunk was read, as much as holds its mark
		pending mark   // of that record
		have    bool   // it has one
		end     int    // behind the last whole record
		broken  bool   // replay ends here; look for what comes later
		more    bool   // something does
		whole   = *last
		table   = crc32.MakeTable(crc32.Castagnoli)
	)
	for start := 0; start < len(data); start += logBlock {
		next := min(start+logBlock, len(data))
		at := start
		for at+chunkHeader <= next {
			kind, payload, size, ok := chunk(data[at:next], file, table)
			if !ok {
				broken, head, have = true, nil, false
				at++
				continue
			}
			at += size
			if kind == chunkFull || kind == chunkFirst {
				head, have = make([]byte, 0, markEnd), false
			}
			if missing := cap(head) - len(head); missing > 0 {
				head = append(head, payload[:min(missing, len(payload))]...)
				pending, have = parseMark(head)
			}
			if broken {
				more = true
				if have && pending.after(whole) {
					return tail{}, fmt.Errorf("batch %d, which was on disk when batch %d was written, is not whole", whole.number+1, pending.number)
				}
				continue
			}
			if kind == chunkFull || kind == chunkLast {
				end = at
				if have {
					whole, have = pending.position, false
				}
			}
		}
		broken = broken || !isPadding(data[at:next])
	}
	*last = whole
	return tailOf(data, end, file, whole, more), nil
}

// isPadding reports whether the database goes on behind the end of a block
// that has no room for a chunk.
func isPadding(b []byte) bool {
	switch {
	case len(b) < 7: // less than any chunk of its older forms
		return true
	case len(b) < 11:
		b = b[:7]
	}
	return len(bytes.Trim(b, "\x00")) == 0
}

// after reports that a batch later than whole had been synced when m was written.
func (m mark) after(whole position) bool {
	if m.life != whole.life {
		return m.synced > 0
	}
	return m.synced > whole.number
}

// chunk takes one chunk from the front of a block. It returns its kind, one of
// the newer form, its payload, and its whole length.
func chunk(block []byte, file uint32, table *crc32.Table) (kind byte, payload []byte, size int, ok bool) {
	kind = block[6]
	header := chunkHeader
	if kind >= oldChunkFull && kind < chunkFull {
		kind, header = kind-oldChunkFull+chunkFull, oldChunkHeader
	}
	size = header + int(binary.LittleEndian.Uint16(block[4:]))
	if kind < chunkFull || kind > chunkLast || size > len(block) || binary.LittleEndian.Uint32(block[7:]) != file {
		return 0, nil, 0, false
	}
	sum := crc32.Checksum(block[6:size], table)
	if (sum>>15|sum<<17)+0xa282ead8 != binary.LittleEndian.Uint32(block) {
		return 0, nil, 0, false
	}
	return kind, block[header:size], size, true
}
