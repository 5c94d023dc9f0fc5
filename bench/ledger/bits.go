package ledger

import mathbits "math/bits"

// Bits is a set of small numbers that are not negative. Most streams are short,
// and need no memory but this.
type Bits struct {
	first uint64 // 0 to 63
	rest  []uint64
}

// word returns the word that n stands in.
func (b *Bits) word(n int) *uint64 {
	k := n / 64
	if k == 0 {
		return &b.first
	}
	for len(b.rest) < k {
		b.rest = append(b.rest, 0)
	}
	return &b.rest[k-1]
}

// Set adds n and reports whether it was not in the set.
func (b *Bits) Set(n int) bool {
	word, mask := b.word(n), uint64(1)<<(n%64)
	had := *word&mask != 0
	*word |= mask
	return !had
}

// without returns how many numbers of b are not in other.
func (b *Bits) without(other *Bits) (n int) {
	n = mathbits.OnesCount64(b.first &^ other.first)
	for i, word := range b.rest {
		if i < len(other.rest) {
			word &^= other.rest[i]
		}
		n += mathbits.OnesCount64(word)
	}
	return n
}
