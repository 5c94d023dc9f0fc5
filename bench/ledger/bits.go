package ledger

import mathbits "math/bits"

// Bits is a set of small numbers that are not negative.
type Bits []uint64

// Set adds n and reports whether it was not in the set.
func (b *Bits) Set(n int) bool {
	for len(*b) <= n/64 {
		*b = append(*b, 0)
	}
	mask := uint64(1) << (n % 64)
	had := (*b)[n/64]&mask != 0
	(*b)[n/64] |= mask
	return !had
}

// without returns how many numbers of b are not in other.
func (b *Bits) without(other *Bits) (n int) {
	for i, word := range *b {
		if i < len(*other) {
			word &^= (*other)[i]
		}
		n += mathbits.OnesCount64(word)
	}
	return n
}
