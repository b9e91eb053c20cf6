package sctp

import (
	"encoding/binary"
	"net"
)

// SCTPListener takes associations of a port.
type SCTPListener struct {
	sockets  []*net.IPConn
	port     uint16
	accepted chan *SCTPConn
	failed   chan error
}

// ListenSCTP listens on a port of an address, or of all of both families.
func ListenSCTP(_ string, at *SCTPAddr) (*SCTPListener, error) {
	l := &SCTPListener{port: uint16(at.Port), accepted: make(chan *SCTPConn, 64), failed: make(chan error, 2)}
	addresses := []net.IP{net.IPv4zero, net.IPv6unspecified}
	// agnhost says 0.0.0.0 and means everybody: the kernel's SCTP listens on both families then.
	if len(at.IPAddrs) > 0 && !at.IPAddrs[0].IP.IsUnspecified() {
		addresses = []net.IP{at.IPAddrs[0].IP}
	}
	for _, address := range addresses {
		socket, err := listen(address)
		if err != nil {
			l.Close()
			return nil, err
		}
		l.sockets = append(l.sockets, socket)
		go l.serve(socket)
	}
	return l, nil
}

// Each socket has its own associations: a peer has one address.
func (l *SCTPListener) serve(socket *net.IPConn) {
	type peer struct {
		address string
		port    uint16
	}
	known := map[peer]*SCTPConn{}
	l.failed <- read(socket, func(from *net.IPAddr, p packet) {
		if p.destination != l.port {
			return
		}
		who := peer{from.String(), p.source}
		c := known[who]
		if p.chunks[0].kind == initiation {
			tag, sequence, _, ok := readInitiation(p.chunks[0].value)
			if !ok {
				return
			}
			// A peer that begins once more has forgotten what there was, save where the first answer was lost.
			if c == nil || c.peerTag != tag {
				c = newConn(socket, from, l.port, p.source)
				c.peerTag, c.received = tag, sequence-1
				known[who] = c
			}
			cookie := binary.BigEndian.AppendUint32(nil, c.tag)
			_ = c.send(tag, chunk{kind: initiationAck, value: initiationValue(c.tag, c.sent+1, cookie)})
			return
		}
		if c == nil {
			return
		}
		c.mutex.Lock()
		before := c.open
		c.mutex.Unlock()
		c.take(p)
		if !before && c.open {
			l.accepted <- c
		}
	})
}

// AcceptSCTP waits for the next association.
func (l *SCTPListener) AcceptSCTP() (*SCTPConn, error) {
	select {
	case c := <-l.accepted:
		return c, nil
	case err := <-l.failed:
		return nil, err
	}
}

// Close ends it; the associations stay.
func (l *SCTPListener) Close() error {
	for _, socket := range l.sockets {
		socket.Close()
	}
	return nil
}

func listen(address net.IP) (*net.IPConn, error) {
	network := "ip6:132"
	if address.To4() != nil {
		network = "ip4:132"
	}
	// Whatever its address: a client hears from its peer only.
	return net.ListenIP(network, nil)
}

// Hands on what a socket receives, until it fails.
func read(socket *net.IPConn, take func(*net.IPAddr, packet)) error {
	buffer := make([]byte, 1<<16)
	for {
		length, from, err := socket.ReadFromIP(buffer)
		if err != nil {
			return err
		}
		if p, ok := decode(buffer[:length]); ok {
			take(from, p)
		}
	}
}
