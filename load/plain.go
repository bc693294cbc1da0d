package load

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
)

// plainGateway carries calls between a phone and an end that speaks Opus over SRTP with keys from the SDP (RFC 4568): a
// rival, or the floor.
type plainGateway interface {
	// call connects the two: it tells both where to send, and returns what the second receives with.
	call(ctx context.Context, number int, p *phone, far *srtpEnd) (in *srtp.Context, err error)
}

// The profile of all SRTP here: what browsers prefer, and the cheapest.
const (
	srtpProfile = srtp.ProtectionProfileAeadAes128Gcm
	srtpSuite   = "AEAD_AES_128_GCM" // RFC 7714 §14.2
	srtpKeyLen  = 16
	srtpSaltLen = 12
)

// newSRTP makes one direction's context of a master key and salt.
func newSRTP(secret []byte) (*srtp.Context, error) {
	if len(secret) != srtpKeyLen+srtpSaltLen {
		return nil, fmt.Errorf("load: SRTP key of %d bytes: want %d", len(secret), srtpKeyLen+srtpSaltLen)
	}
	c, err := srtp.CreateContext(secret[:srtpKeyLen], secret[srtpKeyLen:], srtpProfile)
	if err != nil {
		return nil, fmt.Errorf("load: SRTP: %w", err)
	}
	return c, nil
}

// srtpEnd is the Opus end of a plain call.
type srtpEnd struct {
	conn        *ear
	secret      []byte // what it sends with
	start       time.Time
	flow        *flow // what it hears; filled by read
	heard       atomic.Int64
	remote      netip.AddrPort
	payloadType uint8

	out    *srtp.Context // the pacer's, and all below
	header rtp.Header
	plain  [1500]byte
	sealed [1500]byte
}

func newSRTPEnd(c *pair, start time.Time) (*srtpEnd, error) {
	e := &srtpEnd{
		payloadType: opusPayloadType, secret: make([]byte, srtpKeyLen+srtpSaltLen), start: start, flow: c.toBrowser,
		header: rtp.Header{
			Version: 2, PayloadType: opusPayloadType, SSRC: mathrand.Uint32(),
			SequenceNumber: uint16(mathrand.Uint32() >> 1 & 0x7fff), Timestamp: mathrand.Uint32(),
		},
	}
	_, _ = rand.Read(e.secret) // never fails
	var err error
	if e.out, err = newSRTP(e.secret); err != nil {
		return nil, err
	}
	if e.conn, err = newEar(loopback(), nil); err != nil {
		return nil, err
	}
	return e, nil
}

// read keeps what comes in until the socket is closed.
func (e *srtpEnd) read(in *srtp.Context) {
	var buf, plain [1500]byte
	var packet rtp.Packet
	for {
		n, _, came, err := e.conn.receive(buf[:])
		if err != nil {
			return
		}
		at := came.Sub(e.start)
		opened, err := in.DecryptRTP(plain[:0], buf[:n], nil)
		if err != nil || packet.Unmarshal(opened) != nil || packet.PayloadType != e.payloadType || len(packet.Payload) == 0 {
			continue // RTCP, or no packet of the call
		}
		e.heard.Add(1)
		e.flow.arrived(at, packet.SSRC, packet.Timestamp, packet.SequenceNumber, packet.Payload)
	}
}

// packets is how many were heard.
func (e *srtpEnd) packets() int64 { return e.heard.Load() }

// speak sends the next packet, or only counts it when drop is set. Only the pacer calls it.
func (e *srtpEnd) speak(payload []byte, drop bool) {
	if !drop {
		if n, err := e.header.MarshalTo(e.plain[:]); err == nil {
			n += copy(e.plain[n:], payload)
			if sealed, err := e.out.EncryptRTP(e.sealed[:0], e.plain[:n], nil); err == nil {
				_ = e.conn.send(sealed, e.remote) // a port that is gone shows as loss
			}
		}
	}
	e.header.SequenceNumber++
	e.header.Timestamp += opusStep
}

// sdp answers an offer of Opus over SRTP, of whose keys the one with tag is taken.
func (e *srtpEnd) sdp(tag string, mono bool) string {
	channels := 2
	if mono {
		channels = 1
	}
	host, port, _ := net.SplitHostPort(e.conn.LocalAddr().String())
	return fmt.Sprintf("v=0\r\no=bench 1 1 IN IP4 %s\r\ns=-\r\nc=IN IP4 %s\r\nt=0 0\r\nm=audio %s RTP/SAVP %d\r\n"+
		"a=rtpmap:%d opus/48000/%d\r\na=fmtp:%d minptime=10;useinbandfec=1\r\na=ptime:20\r\na=sendrecv\r\n"+
		"a=crypto:%s %s inline:%s\r\n", host, host, port, e.payloadType, e.payloadType, channels, e.payloadType,
		tag, srtpSuite, base64.StdEncoding.EncodeToString(e.secret))
}

// setUpPlain brings one call up.
func (b *bench) setUpPlain(ctx context.Context, c *pair) error {
	ctx, cancel := context.WithTimeout(ctx, setupLimit)
	defer cancel()
	far, err := newSRTPEnd(c, b.start)
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.ends = append(b.ends, far)
	number := len(b.ends) - 1
	b.mu.Unlock()
	begun := time.Now()
	in, err := b.plain.call(ctx, number, c.phone, far)
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.setups = append(b.setups, time.Since(begun))
	b.mu.Unlock()
	c.far = far
	b.readers.Go(func() { far.read(in) })
	c.live.Store(true)
	return nil
}

// runPlain measures a gateway that has been started as b.child.
func (b *bench) runPlain(ctx context.Context, sounds *sounds) (Result, error) {
	defer b.child.stop()
	if b.rival != nil {
		defer b.rival.close()
	}
	r, err := b.measure(ctx, sounds)
	if err != nil {
		return r, fmt.Errorf("%w\nits log ends with:\n%s", err, b.child.tail())
	}
	return r, nil
}

// pinned begins a command line that runs what follows on the last core, if that is wanted and can be had.
func pinned(wanted bool) []string {
	if !wanted || !canPin() {
		return nil
	}
	return []string{"taskset", "-c", strconv.Itoa(runtime.NumCPU() - 1)}
}

// canPin says whether a gateway can have a core for itself.
func canPin() bool {
	_, err := exec.LookPath("taskset")
	return err == nil && runtime.NumCPU() > 1
}

// pinSelf keeps this process, and what it starts unpinned, off the last core.
func pinSelf(ctx context.Context, pid int) error {
	return runOn(ctx, pid, runtime.NumCPU()-2)
}

// unpinSelf gives it all cores back.
func unpinSelf(ctx context.Context, pid int) error {
	return runOn(ctx, pid, runtime.NumCPU()-1)
}

// runOn keeps a process on the cores up to one, if that can be had.
func runOn(ctx context.Context, pid, last int) error {
	if !canPin() {
		return nil
	}
	cores := fmt.Sprintf("0-%d", last)
	if said, err := exec.CommandContext(ctx, "taskset", "-a", "-c", "-p", cores, strconv.Itoa(pid)).CombinedOutput(); err != nil { //nolint:gosec // all numbers
		return fmt.Errorf("load: taskset: %w: %s", err, said)
	}
	return nil
}
