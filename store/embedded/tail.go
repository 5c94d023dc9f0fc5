package embedded

import (
	"bytes"
	"encoding/binary"
)

// tail is what follows the last whole batch of a log file and was not meant
// to be there.
type tail struct{ offset, bytes int }

// tailOf looks at what follows end, where the last whole batch of a log file
// ends. These belong there and make no tail:
//
//   - zeros, which is room set aside;
//   - the trailer with which the database closes a log file;
//   - what is left of older log files, since the database writes new ones over
//     them. That always ends with the trailer of one of them.
//
// In a file written over an older one, a damaged or unfinished batch shows by
// its header or by its mark, or by chunks further on (more). The end of it
// does not show, so its tail reaches to the end of what is left.
func tailOf(data []byte, end int, file uint32, whole position, more bool) tail {
	if room := logBlock - end%logBlock; room < chunkHeader {
		end += room // chunks do not begin here
	}
	if end >= len(data) {
		return tail{}
	}
	rest := data[end:]
	size := len(bytes.TrimRight(rest, "\x00"))
	if size == 0 || trailer(rest) == file+1 {
		return tail{}
	}
	if !more && !begun(rest, file, whole) && endsOlder(rest, size, file) {
		return tail{}
	}
	return tail{end, size}
}

// begun reports whether a batch of this file was written here, whole or not.
func begun(rest []byte, file uint32, whole position) bool {
	if len(rest) < chunkHeader {
		return false
	}
	if kind := rest[6]; kind >= chunkFull && kind <= chunkLast && binary.LittleEndian.Uint32(rest[7:]) == file {
		return true
	}
	m, ok := parseMark(rest[chunkHeader:])
	return ok && (m.life != whole.life || m.number > whole.number)
}

// A trailer closes a log file. It is a header of an older form:
//
//	4 bytes zero
//	2 bytes zero
//	1 byte  kind
//	4 bytes number of the file, plus one
const (
	trailerLen  = 11
	trailerKind = 5
)

// trailer returns the number in the trailer at the front of b, or 0.
func trailer(b []byte) uint32 {
	if len(b) < trailerLen || !bytes.Equal(b[:7], []byte{6: trailerKind}) {
		return 0
	}
	return binary.LittleEndian.Uint32(b[7:])
}

// endsOlder reports whether the last size bytes of rest that are not zero end
// with the trailer of a log file older than this one.
func endsOlder(rest []byte, size int, file uint32) bool {
	// The number in the trailer has up to three zeros at its end.
	for at := max(size-trailerLen, 0); at < size-7; at++ {
		if n := trailer(rest[at:]); n > 0 && n <= file {
			return true
		}
	}
	return false
}
