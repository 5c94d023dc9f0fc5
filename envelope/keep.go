package envelope

// keeper copies what an envelope keeps of its frame into one buffer: what its
// Body consists of from the front, its ids from the back. They cannot meet,
// because each byte kept is one of the frame's.
type keeper struct {
	size int    // of the frame
	body []byte // a part of the buffer
	free []byte // the buffer up to the last id
}

const (
	// keepTogether is the largest frame, in bytes, whose ids are kept beside its
	// body: whoever remembers an id for long keeps the whole buffer with it.
	keepTogether = 512
	// shortFrame is the largest frame, in bytes, that is kept beside its envelope:
	// as most are that people type or games send. With it a parcel has 448 bytes,
	// one of the sizes that the allocator knows.
	shortFrame = 232
)

// parcel is an envelope and room for what it keeps of a short frame.
type parcel struct {
	Envelope
	room [shortFrame]byte
}

// newParcel returns an envelope for a frame of that size, and its keeper.
func newParcel(size int) (*Envelope, keeper) {
	if size > shortFrame {
		return new(Envelope), keeper{size: size}
	}
	p := new(parcel)
	return &p.Envelope, keeper{size: size, free: p.room[:size]}
}

func (k *keeper) buffer() []byte {
	if k.free == nil {
		k.free = make([]byte, k.size)
	}
	return k.free
}

// member keeps a member of the body.
func (k *keeper) member(name, value []byte) {
	body := k.body
	if body == nil {
		body = k.buffer()[:0]
	} else {
		body = append(body, ',')
	}
	k.body = append(append(append(body, name...), ':'), value...)
}

func (k *keeper) string(s []byte) string {
	if k.size > keepTogether {
		return string(s)
	}
	at := len(k.buffer()) - len(s)
	kept := k.free[at:]
	copy(kept, s)
	k.free = k.free[:at]
	return view(kept)
}

// id keeps an id. It never needs escaping, so the bytes between the quotes are it.
func (k *keeper) id(name string, value []byte) (string, error) {
	if value[0] == '"' {
		if id := value[1 : len(value)-1]; ValidID(view(id)) {
			return k.string(id), nil
		}
	}
	return "", Errorf(BadRequest, "%q must be a string of 1 to %d characters of A-Z a-z 0-9 _ . : @ -", name, MaxIDLen)
}

// node keeps the id of a device, or an alias.
func (k *keeper) node(name string, value []byte) (string, error) {
	if value[0] == '"' {
		if id := value[1 : len(value)-1]; ValidNode(view(id)) {
			return k.string(id), nil
		}
	}
	return k.id(name, value)
}
