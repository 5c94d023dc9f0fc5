package embedded

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// checkFiles looks at the directory before the database does, for what the
// database would take for a new directory or for the end of a log.
func checkFiles(fs vfs.FS, dir string) error {
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
		if err := checkLog(fs, filepath.Join(dir, name), uint32(n), &last); err != nil {
			return fmt.Errorf("%w: %s: %w", errDamaged, name, err)
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
	if len(record) < markOffset+markLen {
		return m, false
	}
	rest, ok := bytes.CutPrefix(record[markOffset:markOffset+markLen], []byte(markMagic))
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
const (
	logBlock    = 32 << 10
	chunkHeader = 19

	chunkFull   = 9
	chunkFirst  = 10
	chunkMiddle = 11
	chunkLast   = 12
)

// checkLog reads a log file to where the database will stop and take it for
// the end: at the first chunk that is not whole. That is what a crash leaves
// of a batch that was never acknowledged. It is damage when a batch further on
// tells that one which is missing now had been synced.
func checkLog(fs vfs.FS, path string, file uint32, last *position) error {
	f, err := fs.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	var (
		pending mark // of the record whose first chunk was read
		have    bool // that record has a mark
		broken  bool
		whole   = *last
		table   = crc32.MakeTable(crc32.Castagnoli)
	)
	for start := 0; start < len(data); start += logBlock {
		block := data[start:min(start+logBlock, len(data))]
		for len(block) >= chunkHeader {
			kind, payload, ok := chunk(block, file, table)
			if !ok {
				broken = true // replay ends here; look for what comes later
				block = block[1:]
				continue
			}
			block = block[chunkHeader+len(payload):]
			if kind == chunkFull || kind == chunkFirst {
				pending, have = parseMark(payload)
			}
			if broken {
				if have && (kind == chunkFull || kind == chunkFirst) && pending.after(whole) {
					return fmt.Errorf("batch %d, which was on disk when batch %d was written, is not whole", whole.number+1, pending.number)
				}
				continue
			}
			if have && (kind == chunkFull || kind == chunkLast) {
				whole, have = pending.position, false
			}
		}
	}
	*last = whole
	return nil
}

// after reports that a batch later than whole had been synced when m was written.
func (m mark) after(whole position) bool {
	if m.life != whole.life {
		return m.synced > 0
	}
	return m.synced > whole.number
}

// chunk takes one chunk from the front of a block.
func chunk(block []byte, file uint32, table *crc32.Table) (kind byte, payload []byte, ok bool) {
	length := int(binary.LittleEndian.Uint16(block[4:]))
	kind = block[6]
	end := chunkHeader + length
	if kind < chunkFull || kind > chunkLast || end > len(block) || binary.LittleEndian.Uint32(block[7:]) != file {
		return 0, nil, false
	}
	sum := crc32.Checksum(block[6:end], table)
	if (sum>>15|sum<<17)+0xa282ead8 != binary.LittleEndian.Uint32(block) {
		return 0, nil, false
	}
	return kind, block[chunkHeader:end], true
}
