package embedded

// filter is a Bloom filter that grows. What was added it has; of what was not,
// it seems to have about one in two hundred for each of its few layers. It
// takes hashes that are spread well.
type filter struct {
	layers []layer
	room   int // ids that still fit into the last layer
	bytes  int
	max    int // bytes
}

// layer is a filter of fixed size. Each id sets one bit in each word of one
// block, which is one line of the processor's cache: one miss for each look.
type layer []block

type block [8]uint64

const (
	blockBytes  = 64
	blockIDs    = 42       // twelve bits for each
	firstLayer  = 64 << 10 // bytes
	layerGrowth = 4        // each layer is so many times the one before
)

// add reports whether there was room.
func (f *filter) add(hash uint64) bool {
	if f.room == 0 && !f.grow() {
		return false
	}
	f.room--
	b, bits := f.layers[len(f.layers)-1].at(hash)
	for i := range b {
		b[i] |= 1 << (bits & 63)
		bits >>= 6
	}
	return true
}

func (f *filter) grow() bool {
	size := firstLayer
	if n := len(f.layers); n > 0 {
		size = len(f.layers[n-1]) * blockBytes * layerGrowth
	}
	if size = min(size, f.max-f.bytes); size < blockBytes {
		return false
	}
	l := make(layer, size/blockBytes)
	f.layers, f.room, f.bytes = append(f.layers, l), len(l)*blockIDs, f.bytes+len(l)*blockBytes
	return true
}

// has reports false only for what was never added.
func (f *filter) has(hash uint64) bool {
	for _, l := range f.layers {
		if l.has(hash) {
			return true
		}
	}
	return false
}

func (l layer) has(hash uint64) bool {
	b, bits := l.at(hash)
	for i := range b {
		if b[i]>>(bits&63)&1 == 0 {
			return false
		}
		bits >>= 6
	}
	return true
}

// at returns the block of an id and the places in it, six bits for each word.
func (l layer) at(hash uint64) (*block, uint64) {
	// The upper half chooses the block. The product's upper bits, which
	// choose the places, depend on the lower half too.
	return &l[hash>>32*uint64(len(l))>>32], hash * 0x9e3779b97f4a7c15 >> 16
}
