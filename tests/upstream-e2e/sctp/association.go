// Package sctp is SCTP (RFC 9260) over raw sockets, as far as agnhost calls the module of this name: one message at a time on one
// stream. Upstream's module asks the kernel, and many kernels, of virtual machines above all, have no SCTP; connection tracking,
// Services and policies judge its packets all the same. Here the tests see that they do.
//
// A port that nobody listens on is silent: where the kernel has SCTP it answers with an ABORT. Needs CAP_NET_RAW, as containers have it.
package sctp

import (
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"time"
)

const (
	// How soon something that was not answered is sent again.
	again = time.Second
	// How often.
	attempts = 10
)

// SCTPAddr is an address and a port.
type SCTPAddr struct {
	IPAddrs []net.IPAddr
	Port    int
}

// Network is the protocol's name.
func (a *SCTPAddr) Network() string { return "sctp" }

func (a *SCTPAddr) String() string {
	host := ""
	if len(a.IPAddrs) > 0 {
		host = a.IPAddrs[0].String()
	}
	return net.JoinHostPort(host, strconv.Itoa(a.Port))
}

// ResolveSCTPAddr takes HOST:PORT.
func ResolveSCTPAddr(_, text string) (*SCTPAddr, error) {
	// The same rules as for TCP, and its errors.
	resolved, err := net.ResolveTCPAddr("tcp", text)
	if err != nil {
		return nil, err
	}
	address := &SCTPAddr{Port: resolved.Port}
	if resolved.IP != nil {
		address.IPAddrs = []net.IPAddr{{IP: resolved.IP, Zone: resolved.Zone}}
	}
	return address, nil
}

// SCTPConn is an association.
type SCTPConn struct {
	socket     *net.IPConn
	ownsSocket bool
	peer       *net.IPAddr
	port       uint16
	peerPort   uint16

	mutex    sync.Mutex
	changed  chan struct{}
	tag      uint32
	peerTag  uint32
	cookie   []byte
	open     bool
	over     bool
	sent     uint32
	acked    uint32
	stream   uint16
	received uint32
	messages [][]byte
	deadline time.Time
	failure  error
}

func newConn(socket *net.IPConn, peer *net.IPAddr, port, peerPort uint16) *SCTPConn {
	first := rand.Uint32()
	return &SCTPConn{
		socket: socket, peer: peer, port: port, peerPort: peerPort,
		changed: make(chan struct{}), tag: rand.Uint32N(1<<32-1) + 1, sent: first - 1, acked: first - 1,
	}
}

// DialSCTP begins an association, and waits until it stands.
func DialSCTP(_ string, _, to *SCTPAddr) (*SCTPConn, error) {
	if len(to.IPAddrs) == 0 {
		return nil, errors.New("dial sctp: no address")
	}
	socket, err := listen(to.IPAddrs[0].IP)
	if err != nil {
		return nil, err
	}
	// Of the range that the kernel takes, too.
	port := uint16(32768 + rand.IntN(28232))
	c := newConn(socket, &to.IPAddrs[0], port, uint16(to.Port))
	c.ownsSocket = true
	go read(socket, func(from *net.IPAddr, p packet) {
		if p.destination == c.port && p.source == c.peerPort && from.IP.Equal(c.peer.IP) {
			c.take(p)
		}
	})
	greet := func() error {
		if c.cookie == nil {
			// An INIT has no tag, since its receiver has given none yet.
			return c.send(0, chunk{kind: initiation, value: initiationValue(c.tag, c.sent+1, nil)})
		}
		return c.send(c.peerTag, chunk{kind: cookieEcho, value: c.cookie})
	}
	if err := c.insist(greet, func() bool { return c.open }); err != nil {
		socket.Close()
		return nil, err
	}
	return c, nil
}

// Sends something until a condition holds.
func (c *SCTPConn) insist(send func() error, holds func() bool) error {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	for range attempts {
		if holds() {
			return nil
		}
		if c.failure != nil {
			return c.failure
		}
		if err := send(); err != nil {
			return err
		}
		c.wait(time.Now().Add(again), func() bool { return holds() || c.failure != nil })
	}
	if holds() {
		return nil
	}
	return os.ErrDeadlineExceeded
}

// Lets others in until something holds or it is too late; without a time, for ever.
func (c *SCTPConn) wait(until time.Time, holds func() bool) bool {
	var late <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		late = timer.C
	}
	for !holds() {
		changed := c.changed
		c.mutex.Unlock()
		select {
		case <-changed:
			c.mutex.Lock()
		case <-late:
			c.mutex.Lock()
			return holds()
		}
	}
	return true
}

// Takes what the peer has sent.
func (c *SCTPConn) take(p packet) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if p.tag != c.tag {
		return
	}
	for _, it := range p.chunks {
		switch it.kind {
		case initiationAck:
			tag, sequence, cookie, ok := readInitiation(it.value)
			if ok && cookie != nil && c.cookie == nil {
				c.peerTag, c.received, c.cookie = tag, sequence-1, cookie
				_ = c.send(c.peerTag, chunk{kind: cookieEcho, value: c.cookie})
			}
		case cookieEcho:
			c.open = true
			_ = c.send(c.peerTag, chunk{kind: cookieAck})
		case cookieAck:
			c.open = true
		case data:
			if len(it.value) < 12 {
				continue
			}
			// What comes twice is acknowledged twice; what comes too early is sent again.
			if binary.BigEndian.Uint32(it.value) == c.received+1 {
				c.received++
				c.messages = append(c.messages, it.value[12:])
			}
			_ = c.send(c.peerTag, chunk{kind: sack, value: sackValue(c.received)})
		case sack:
			if len(it.value) >= 4 {
				c.acked = binary.BigEndian.Uint32(it.value)
			}
		case shutdown:
			c.over = true
			_ = c.send(c.peerTag, chunk{kind: shutdownAck})
		case shutdownAck:
			c.over = true
			_ = c.send(c.peerTag, chunk{kind: shutdownComplete})
		case shutdownComplete:
			c.over = true
		case abort:
			c.over, c.failure = true, errors.New("the association was aborted")
		}
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *SCTPConn) send(tag uint32, it chunk) error {
	_, err := c.socket.WriteTo(packet{c.port, c.peerPort, tag, []chunk{it}}.encode(), c.peer)
	return err
}

// Write sends a message, and waits until the peer has it.
func (c *SCTPConn) Write(message []byte) (int, error) {
	c.mutex.Lock()
	c.sent++
	sequence, stream := c.sent, c.stream
	c.stream++
	c.mutex.Unlock()
	send := func() error {
		return c.send(c.peerTag, chunk{data, wholeMessage, dataValue(sequence, stream, message)})
	}
	if err := c.insist(send, func() bool { return c.acked == sequence }); err != nil {
		return 0, err
	}
	return len(message), nil
}

// Read takes the next message.
func (c *SCTPConn) Read(buffer []byte) (int, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if !c.wait(c.deadline, func() bool { return len(c.messages) > 0 || c.over }) {
		return 0, os.ErrDeadlineExceeded
	}
	if len(c.messages) == 0 {
		if c.failure != nil {
			return 0, c.failure
		}
		return 0, io.EOF
	}
	length := copy(buffer, c.messages[0])
	c.messages = c.messages[1:]
	return length, nil
}

// SetReadDeadline is for the next Read.
func (c *SCTPConn) SetReadDeadline(when time.Time) error {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.deadline = when
	return nil
}

// SCTPRemoteAddr is the peer.
func (c *SCTPConn) SCTPRemoteAddr(int) (*SCTPAddr, error) {
	return &SCTPAddr{IPAddrs: []net.IPAddr{*c.peer}, Port: int(c.peerPort)}, nil
}

// Close ends the association.
func (c *SCTPConn) Close() error {
	value := binary.BigEndian.AppendUint32(nil, c.received)
	// Whether the peer has heard of it is its own matter.
	_ = c.insist(func() error { return c.send(c.peerTag, chunk{kind: shutdown, value: value}) }, func() bool { return c.over })
	if c.ownsSocket {
		return c.socket.Close()
	}
	return nil
}
