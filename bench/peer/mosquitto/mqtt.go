package mosquitto

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Control packet types of MQTT 3.1.1 (section 2.2.1), in the high half of the
// first byte.
const (
	typeConnect   = 1 << 4
	typeConnAck   = 2 << 4
	typePublish   = 3 << 4
	typePubAck    = 4 << 4
	typeSubscribe = 8<<4 | 2 // with the flags that section 3.8.1 wants
	typeSubAck    = 9 << 4
	typePingReq   = 12 << 4
	typePingResp  = 13 << 4
)

// Flags of PUBLISH (section 3.3.1).
const (
	flagQoS1 = 1 << 1
	maskQoS  = 3 << 1
)

var errProtocol = errors.New("mosquitto: not MQTT 3.1.1")

// appendLength appends a remaining length (section 2.2.3).
func appendLength(b []byte, n int) []byte {
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// appendConnect appends CONNECT (section 3.1).
func appendConnect(b []byte, id string, clean bool, keepAlive uint16) []byte {
	b = appendLength(append(b, typeConnect), 2+4+1+1+2+2+len(id))
	b = append(appendString(b, "MQTT"), 4) // protocol level
	flags := byte(0)
	if clean {
		flags = 1 << 1
	}
	b = binary.BigEndian.AppendUint16(append(b, flags), keepAlive)
	return appendString(b, id)
}

// appendSubscribe appends SUBSCRIBE for QoS 1 at most (section 3.8).
func appendSubscribe(b []byte, id uint16, filters []string) []byte {
	size := 2
	for _, f := range filters {
		size += 2 + len(f) + 1
	}
	b = binary.BigEndian.AppendUint16(appendLength(append(b, typeSubscribe), size), id)
	for _, f := range filters {
		b = append(appendString(b, f), 1)
	}
	return b
}

// appendPublish appends PUBLISH (section 3.3), with QoS 1 if id is not 0.
func appendPublish(b []byte, prefix, topic string, id uint16, body []byte) []byte {
	size := 2 + len(prefix) + len(topic) + len(body)
	first := byte(typePublish)
	if id != 0 {
		first |= flagQoS1
		size += 2
	}
	b = appendLength(append(b, first), size)
	b = binary.BigEndian.AppendUint16(b, uint16(len(prefix)+len(topic)))
	b = append(append(b, prefix...), topic...)
	if id != 0 {
		b = binary.BigEndian.AppendUint16(b, id)
	}
	return append(b, body...)
}

// appendPubAck appends PUBACK (section 3.4).
func appendPubAck(b []byte, id uint16) []byte {
	return binary.BigEndian.AppendUint16(append(b, typePubAck, 2), id)
}

// packet is one control packet; it points into what was parsed.
type packet struct {
	kind byte   // the type, without flags
	id   uint16 // of PUBLISH with QoS 1, PUBACK and SUBACK
	code byte   // of CONNACK and the worst of SUBACK; not 0 and, in SUBACK, above 2: refused
	body []byte // of PUBLISH
}

// parse handles all whole packets at the beginning of in.
func parse(in []byte, handle func(packet) error) (used int, err error) {
	for {
		first, content, size, err := split(in[used:])
		if err != nil || size == 0 {
			return used, err
		}
		p, err := read(first, content)
		if err != nil {
			return used, err
		}
		if err := handle(p); err != nil {
			return used, err
		}
		used += size
	}
}

// split returns the packet at the beginning of in; size 0: it is not all there.
func split(in []byte) (first byte, content []byte, size int, err error) {
	const most = 4 // bytes of a remaining length
	length := 0
	for i := 1; i < len(in); i++ {
		if i > most {
			return 0, nil, 0, errProtocol
		}
		length |= int(in[i]&0x7F) << (7 * (i - 1))
		if in[i] < 0x80 {
			if size = i + 1 + length; len(in) < size {
				return 0, nil, 0, nil
			}
			return in[0], in[i+1 : size], size, nil
		}
	}
	return 0, nil, 0, nil
}

func read(first byte, content []byte) (p packet, err error) {
	p.kind = first & 0xF0
	if p.kind == typePingResp {
		return p, nil
	}
	if len(content) < 2 {
		return p, errProtocol
	}
	number := binary.BigEndian.Uint16(content)
	switch p.kind {
	case typeConnAck:
		p.code = content[1]
	case typePubAck:
		p.id = number
	case typeSubAck:
		p.id = number
		for _, code := range content[2:] {
			p.code = max(p.code, code)
		}
	case typePublish:
		rest := content[2:]
		if len(rest) < int(number) {
			return p, errProtocol
		}
		rest = rest[number:] // behind the topic
		if first&maskQoS != 0 {
			if len(rest) < 2 {
				return p, errProtocol
			}
			p.id, rest = binary.BigEndian.Uint16(rest), rest[2:]
		}
		p.body = rest
	default:
		return p, fmt.Errorf("%w: a packet of type %d", errProtocol, p.kind>>4)
	}
	return p, nil
}
