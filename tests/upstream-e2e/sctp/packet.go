package sctp

import (
	"encoding/binary"
	"hash/crc32"
)

// Types of chunks (RFC 9260, section 3.2).
const (
	data             = 0
	initiation       = 1
	initiationAck    = 2
	sack             = 3
	abort            = 6
	shutdown         = 7
	shutdownAck      = 8
	cookieEcho       = 10
	cookieAck        = 11
	shutdownComplete = 14
)

// The parameter of an INIT ACK that a COOKIE ECHO brings back.
const stateCookie = 7

// A DATA chunk that is a whole message.
const wholeMessage = 3

const (
	commonHeader = 12
	chunkHeader  = 4
	// A window that no test fills.
	window = 1 << 16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type chunk struct {
	kind, flags byte
	value       []byte
}

type packet struct {
	source, destination uint16
	tag                 uint32
	chunks              []chunk
}

// What goes over the wire behind the IP header, with its checksum.
func (p packet) encode() []byte {
	out := binary.BigEndian.AppendUint16(nil, p.source)
	out = binary.BigEndian.AppendUint16(out, p.destination)
	out = binary.BigEndian.AppendUint32(out, p.tag)
	out = append(out, 0, 0, 0, 0)
	for _, c := range p.chunks {
		out = append(out, c.kind, c.flags)
		out = binary.BigEndian.AppendUint16(out, uint16(chunkHeader+len(c.value)))
		out = append(out, c.value...)
		for len(out)%4 != 0 {
			out = append(out, 0)
		}
	}
	// The one number that SCTP has in the other order of bytes.
	binary.LittleEndian.PutUint32(out[8:], crc32.Checksum(out, castagnoli))
	return out
}

// The kernel checks no checksum on behalf of a raw socket.
func decode(in []byte) (packet, bool) {
	if len(in) < commonHeader {
		return packet{}, false
	}
	sum := binary.LittleEndian.Uint32(in[8:])
	zeroed := append([]byte(nil), in...)
	clear(zeroed[8:commonHeader])
	if crc32.Checksum(zeroed, castagnoli) != sum {
		return packet{}, false
	}
	p := packet{
		source:      binary.BigEndian.Uint16(in),
		destination: binary.BigEndian.Uint16(in[2:]),
		tag:         binary.BigEndian.Uint32(in[4:]),
	}
	for rest := in[commonHeader:]; len(rest) >= chunkHeader; {
		length := int(binary.BigEndian.Uint16(rest[2:]))
		if length < chunkHeader || length > len(rest) {
			return packet{}, false
		}
		p.chunks = append(p.chunks, chunk{rest[0], rest[1], append([]byte(nil), rest[chunkHeader:length]...)})
		rest = rest[min((length+3)/4*4, len(rest)):]
	}
	return p, len(p.chunks) > 0
}

// The value of an INIT or INIT ACK, of one stream in each direction.
func initiationValue(tag, sequence uint32, cookie []byte) []byte {
	value := binary.BigEndian.AppendUint32(nil, tag)
	value = binary.BigEndian.AppendUint32(value, window)
	value = append(value, 0, 1, 0, 1)
	value = binary.BigEndian.AppendUint32(value, sequence)
	if cookie != nil {
		value = binary.BigEndian.AppendUint16(value, stateCookie)
		value = binary.BigEndian.AppendUint16(value, uint16(chunkHeader+len(cookie)))
		value = append(value, cookie...)
	}
	return value
}

// The tag, the first sequence number, and, if there is one, the cookie.
func readInitiation(value []byte) (tag, sequence uint32, cookie []byte, ok bool) {
	if len(value) < 16 {
		return 0, 0, nil, false
	}
	for rest := value[16:]; len(rest) >= chunkHeader; {
		length := int(binary.BigEndian.Uint16(rest[2:]))
		if length < chunkHeader || length > len(rest) {
			break
		}
		if binary.BigEndian.Uint16(rest) == stateCookie {
			cookie = rest[chunkHeader:length]
		}
		rest = rest[min((length+3)/4*4, len(rest)):]
	}
	return binary.BigEndian.Uint32(value), binary.BigEndian.Uint32(value[12:]), cookie, true
}

func dataValue(sequence uint32, stream uint16, message []byte) []byte {
	value := binary.BigEndian.AppendUint32(nil, sequence)
	value = append(value, 0, 0)
	value = binary.BigEndian.AppendUint16(value, stream)
	return append(append(value, 0, 0, 0, 0), message...)
}

func sackValue(sequence uint32) []byte {
	value := binary.BigEndian.AppendUint32(nil, sequence)
	value = binary.BigEndian.AppendUint32(value, window)
	return append(value, 0, 0, 0, 0)
}
