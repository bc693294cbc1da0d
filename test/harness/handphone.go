package harness

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/test/audio"
)

// HandPhone is a phone that takes one call over UDP and whose SIP a test writes by hand. Its sound is PCMU, or what Speak
// says, in RTP or in SRTP, by libraries and not by the gateway's own code: a tone on and on, at -12 dBFS, as long as Talk says.
type HandPhone struct {
	Addr string // of its SIP

	tb     testing.TB
	sip    *net.UDPConn
	rtp    *net.UDPConn
	from   *net.UDPAddr // who sent the last message
	seen   map[string]bool
	invite string // that made the call
	seq    int

	mu       sync.Mutex
	codec    handCodec
	payload  uint8 // the payload type that it wants to get, and to send
	sendAs   uint8 // the one that it sends
	to       netip.AddrPort
	hz       float64    // 0: nothing is sent
	last     rtp.Header // of what was sent
	seal     *srtp.Context
	open     []*srtp.Context // the newest first
	ssrc     uint32          // of what comes
	heard    []int16
	loudAt   time.Time     // of the first packet with sound since Forget
	marked   chan struct{} // closed when the packet of ForgetSent is here
	refused  int           // packets that no key opens
	keys     media.KeyReader
	pressed  string
	events   []Event
	done     chan struct{}
	finished sync.WaitGroup
}

// Event is a telephone-event packet as it came (RFC 4733 §2.3).
type Event struct {
	Marker    bool
	Timestamp uint32
	Code      byte
	End       bool
	Duration  time.Duration // at 8 kHz
}

// NewHandPhone opens a phone that lives until the test ends.
func NewHandPhone(tb testing.TB) *HandPhone {
	tb.Helper()
	listen := func() *net.UDPConn {
		c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		require.NoError(tb, err)
		return c
	}
	p := &HandPhone{tb: tb, sip: listen(), rtp: listen(), seen: make(map[string]bool), codec: newHandCodec(tb, "PCMU"), done: make(chan struct{})}
	p.Addr = p.sip.LocalAddr().String()
	p.finished.Go(p.talk)
	p.finished.Go(p.listen)
	tb.Cleanup(func() {
		close(p.done)
		_ = p.sip.Close()
		_ = p.rtp.Close()
		p.finished.Wait()
	})
	return p
}

// Await returns the next message that begins so, and none twice.
func (p *HandPhone) Await(prefix string) string {
	p.tb.Helper()
	buf := make([]byte, 65536)
	for {
		require.NoError(p.tb, p.sip.SetReadDeadline(time.Now().Add(Patience)))
		n, from, err := p.sip.ReadFromUDP(buf)
		require.NoError(p.tb, err, "no %q came", prefix)
		text := string(buf[:n])
		if id := strings.Fields(text)[0] + SIPHeader(text, "Via") + SIPHeader(text, "CSeq"); strings.HasPrefix(text, prefix) && !p.seen[id] {
			p.seen[id], p.from = true, from
			return text
		}
	}
}

// Invited returns the INVITE of the call.
func (p *HandPhone) Invited() string {
	p.tb.Helper()
	p.invite = p.Await("INVITE ")
	return p.invite
}

// Respond answers a request.
func (p *HandPhone) Respond(request, status, body string) {
	p.tb.Helper()
	to := SIPHeader(request, "To")
	if !strings.Contains(to, ";tag=") {
		to += ";tag=phone"
	}
	p.write(fmt.Sprintf("SIP/2.0 %s\r\nVia: %s\r\nFrom: %s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %s\r\n",
		status, SIPHeader(request, "Via"), SIPHeader(request, "From"), to, SIPHeader(request, "Call-ID"), SIPHeader(request, "CSeq")), body)
}

// Answer takes an INVITE with a 200, and returns when its ACK is here.
func (p *HandPhone) Answer(invite, body string) {
	p.tb.Helper()
	p.Respond(invite, "200 OK", body)
	p.Await("ACK ")
}

// Reoffer sends an INVITE within the call, and returns the SDP of the answer that it acknowledges.
func (p *HandPhone) Reoffer(body string) string {
	p.tb.Helper()
	p.seq++
	p.request("INVITE", body)
	answer := p.Await("SIP/2.0 200 ")
	p.request("ACK", "")
	return answer
}

// Bye hangs up, and returns when that was taken.
func (p *HandPhone) Bye() {
	p.tb.Helper()
	p.seq++
	p.request("BYE", "")
	p.Await("SIP/2.0 200 ")
}

// Info presses a key by SIP INFO, and returns when it was taken.
func (p *HandPhone) Info(digit byte) {
	p.tb.Helper()
	p.seq++
	p.request("INFO", fmt.Sprintf("Signal=%c\r\nDuration=160\r\n", digit), "Content-Type: application/dtmf-relay")
	p.Await("SIP/2.0 200 ")
}

func (p *HandPhone) request(method, body string, headers ...string) {
	p.tb.Helper()
	target := strings.Trim(SIPHeader(p.invite, "Contact"), "<>")
	p.write(fmt.Sprintf("%s %s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK%d%s;rport\r\nFrom: %s;tag=phone\r\nTo: %s\r\nCall-ID: %s\r\n"+
		"CSeq: %d %s\r\nMax-Forwards: 70\r\n", method, target, p.Addr, p.seq, strings.ToLower(method), SIPHeader(p.invite, "To"),
		SIPHeader(p.invite, "From"), SIPHeader(p.invite, "Call-ID"), p.seq, method)+lines(headers), body)
}

func lines(headers []string) string {
	if len(headers) == 0 {
		return ""
	}
	return strings.Join(headers, "\r\n") + "\r\n"
}

func (p *HandPhone) write(head, body string) {
	p.tb.Helper()
	head += "Contact: <sip:phone@" + p.Addr + ">\r\n"
	if body != "" && !strings.Contains(head, "\nContent-Type:") {
		head += "Content-Type: application/sdp\r\n"
	}
	_, err := p.sip.WriteToUDP([]byte(head+"Content-Length: "+strconv.Itoa(len(body))+"\r\n\r\n"+body), p.from)
	require.NoError(p.tb, err)
}

// SDP describes the phone's sound: RTP/AVP, or RTP/SAVP when there is a key, with telephone-event if wanted.
func (p *HandPhone) SDP(direction string, events bool, tag int, key *media.SRTPKey) string {
	_, port, _ := net.SplitHostPort(p.rtp.LocalAddr().String())
	p.mu.Lock()
	defer p.mu.Unlock()
	profile, formats := "RTP/AVP", strconv.Itoa(int(p.payload))
	more := fmt.Sprintf("a=rtpmap:%s %s\r\n", formats, p.codec.encoding)
	if p.codec.format != "" {
		more += fmt.Sprintf("a=fmtp:%s %s\r\n", formats, p.codec.format)
	}
	if events {
		formats += " 101"
		more += "a=rtpmap:101 telephone-event/8000\r\n"
	}
	if key != nil {
		profile = "RTP/SAVP"
		more += fmt.Sprintf("a=crypto:%d %s inline:%s\r\n", tag, key.Suite, base64.StdEncoding.EncodeToString(key.Key))
	}
	return fmt.Sprintf("v=0\r\no=phone 1 %d IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio %s %s %s\r\n%sa=%s\r\n",
		time.Now().UnixNano(), port, profile, formats, more, direction)
}

// Speak changes its codec: PCMU, G722 or opus. It is described by payload, and sent by sendAs: in an answer the one is what the
// phone wants to get, and the other what it was offered (RFC 3264 §6.1).
func (p *HandPhone) Speak(codec string, payload, sendAs uint8) {
	p.tb.Helper()
	made := newHandCodec(p.tb, codec)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.codec, p.payload, p.sendAs, p.heard = made, payload, sendAs, nil
}

// SoundRate is the rate of what it says and hears, in Hz.
func (p *HandPhone) SoundRate() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.codec.rate
}

// Agree takes what a message's SDP says of the gateway's sound; ours is the phone's own key. With a suite, the gateway's
// key is that of its first a=crypto line of the suite, whose tag is returned.
func (p *HandPhone) Agree(message, suite string) (tag int, theirs *media.SRTPKey) {
	p.tb.Helper()
	var port uint16
	for line := range strings.SplitSeq(message, "\r\n") {
		fields := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "m=audio ") && len(fields) > 1:
			n, err := strconv.ParseUint(fields[1], 10, 16)
			require.NoError(p.tb, err)
			port = uint16(n)
		case suite != "" && theirs == nil && strings.HasPrefix(line, "a=crypto:") && len(fields) > 2 && fields[1] == suite:
			n, err := strconv.Atoi(strings.TrimPrefix(fields[0], "a=crypto:"))
			require.NoError(p.tb, err)
			raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(fields[2], "inline:"))
			require.NoError(p.tb, err)
			tag, theirs = n, &media.SRTPKey{Suite: suite, Key: raw}
		}
	}
	require.NotZero(p.tb, port, "no m=audio in %s", message)
	require.Equal(p.tb, suite != "", theirs != nil, "no %q key in %s", suite, message)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.to = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
	return tag, theirs
}

// Secure changes the keys of what the phone sends and gets; nil leaves that one as it is. Rollover counters go on.
func (p *HandPhone) Secure(out, in *media.SRTPKey) {
	p.tb.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if out != nil {
		p.seal = newContext(p.tb, out)
	}
	if in != nil {
		opened := newContext(p.tb, in)
		if len(p.open) > 0 {
			if roc, ok := p.open[0].ROC(p.ssrc); ok {
				opened.SetROC(p.ssrc, roc)
			}
		}
		p.open = slices.Insert(p.open, 0, opened)
	}
}

// DropOldKeys lets the phone take nothing any more that comes under another key than the newest.
func (p *HandPhone) DropOldKeys() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open, p.refused = p.open[:1], 0
}

func newContext(tb testing.TB, key *media.SRTPKey) *srtp.Context {
	tb.Helper()
	profile := map[string]srtp.ProtectionProfile{
		media.AESCM128HMACSHA180: srtp.ProtectionProfileAes128CmHmacSha1_80,
		media.AESCM128HMACSHA132: srtp.ProtectionProfileAes128CmHmacSha1_32,
		media.AEADAES128GCM:      srtp.ProtectionProfileAeadAes128Gcm,
		media.AEADAES256GCM:      srtp.ProtectionProfileAeadAes256Gcm,
	}[key.Suite]
	n, err := profile.KeyLen()
	require.NoError(tb, err)
	c, err := srtp.CreateContext(key.Key[:n], key.Key[n:], profile, srtp.SRTPReplayProtection(64))
	require.NoError(tb, err)
	return c
}

// Talk sends a tone from now on; 0: nothing.
func (p *HandPhone) Talk(hz float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hz = hz
}

// Forge sends so many packets that look like the phone's own and are not authentic.
func (p *HandPhone) Forge(n int) {
	p.tb.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for range n {
		raw, err := (&rtp.Packet{Header: p.last, Payload: make([]byte, 176)}).Marshal()
		require.NoError(p.tb, err)
		_, err = p.rtp.WriteToUDPAddrPort(raw, p.to)
		require.NoError(p.tb, err)
	}
}

// talk sends packets on absolute deadlines.
func (p *HandPhone) talk() {
	header := rtp.Header{Version: 2, SSRC: rand.Uint32(), SequenceNumber: uint16(rand.Uint32()), Timestamp: rand.Uint32()}
	n := 0
	due := time.Now()
	for {
		select {
		case <-p.done:
			return
		case <-time.After(time.Until(due)):
		}
		due = due.Add(step)
		p.mu.Lock()
		to, hz, seal, codec := p.to, p.hz, p.seal, p.codec
		header.Timestamp += uint32(codec.clock / 50)
		header.PayloadType = p.sendAs
		pcm := make([]int16, codec.rate/50)
		if hz == 0 || !to.IsValid() {
			p.mu.Unlock()
			n += len(pcm)
			continue
		}
		for i := range pcm {
			pcm[i] = int16(math.Round(32767 * 0.25 * math.Sin(2*math.Pi*hz*float64(n)/float64(codec.rate))))
			n++
		}
		raw, err := (&rtp.Packet{Header: header, Payload: codec.encode(pcm)}).Marshal()
		p.last = header
		if err == nil && seal != nil {
			raw, err = seal.EncryptRTP(nil, raw, nil)
		}
		p.mu.Unlock()
		header.SequenceNumber++
		if err == nil {
			_, _ = p.rtp.WriteToUDPAddrPort(raw, to)
		}
	}
}

// listen keeps what comes.
func (p *HandPhone) listen() {
	buf := make([]byte, 2048)
	for {
		n, _, err := p.rtp.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		p.take(buf[:n])
	}
}

func (p *HandPhone) take(raw []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(raw) == 1 && raw[0] == markByte && p.marked != nil {
		close(p.marked)
		p.marked, p.heard, p.loudAt = nil, nil, time.Time{}
		return
	}
	if len(p.open) > 0 {
		var plain []byte
		for _, c := range p.open {
			opened, err := c.DecryptRTP(nil, raw, nil)
			if err == nil {
				plain = opened
				break
			}
		}
		if plain == nil {
			p.refused++
			return
		}
		raw = plain
	}
	var packet rtp.Packet
	if packet.Unmarshal(raw) != nil {
		return
	}
	p.ssrc = packet.SSRC
	switch packet.PayloadType {
	case p.payload:
		pcm := p.codec.decode(packet.Payload)
		p.heard = append(p.heard, pcm...)
		if p.loudAt.IsZero() && audio.Level(pcm) > -40 {
			p.loudAt = time.Now()
		}
	case EventType:
		if len(packet.Payload) >= 4 {
			p.events = append(p.events, Event{
				packet.Marker, packet.Timestamp, packet.Payload[0], packet.Payload[1]&0x80 != 0,
				time.Duration(binary.BigEndian.Uint16(packet.Payload[2:])) * time.Second / Rate,
			})
		}
		for _, k := range p.keys.Packet(nil, packet.Timestamp, packet.Payload, time.Now()) {
			if k.Ended {
				p.pressed += string(rune(k.Digit))
			}
		}
	}
}

// Forget throws away what was heard.
func (p *HandPhone) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard, p.loudAt = nil, time.Time{}
}

// ForgetSent throws away what was heard, with all that was sent to the phone before: a packet of the test's own comes after it.
func (p *HandPhone) ForgetSent() {
	p.tb.Helper()
	marked := make(chan struct{})
	p.mu.Lock()
	p.marked = marked
	p.mu.Unlock()
	mark, err := net.DialUDP("udp", nil, p.rtp.LocalAddr().(*net.UDPAddr)) //nolint:forcetypeassert // it is one
	require.NoError(p.tb, err)
	defer func() { _ = mark.Close() }()
	_, err = mark.Write([]byte{markByte})
	require.NoError(p.tb, err)
	select {
	case <-marked:
	case <-time.After(Patience):
		require.FailNow(p.tb, "the phone reads nothing")
	}
}

// markByte is all that is in the packet of ForgetSent; none of RTP is so short.
const markByte = 0x7f

// Heard is what came since Forget, at SoundRate, packets end to end, and when the first of it with sound did.
func (p *HandPhone) Heard() (samples []int16, loudAt time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.heard), p.loudAt
}

// WaitHeard waits until this long a piece was heard, and returns what was.
func (p *HandPhone) WaitHeard(length time.Duration) []int16 {
	p.tb.Helper()
	want := int(length.Seconds() * float64(p.SoundRate()))
	require.Eventually(p.tb, func() bool {
		heard, _ := p.Heard()
		return len(heard) >= want
	}, Patience, 20*time.Millisecond, "the phone hears too little; %d packets could not be opened", p.Refused())
	heard, _ := p.Heard()
	return heard
}

// WaitLoud waits for the first sound since Forget.
func (p *HandPhone) WaitLoud() time.Time {
	p.tb.Helper()
	require.Eventually(p.tb, func() bool {
		_, at := p.Heard()
		return !at.IsZero()
	}, Patience, time.Millisecond, "the phone hears nothing")
	_, at := p.Heard()
	return at
}

// Refused counts the packets that no key opened.
func (p *HandPhone) Refused() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refused
}

// Pressed are the keys that came as events.
func (p *HandPhone) Pressed() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pressed
}

// Events are the telephone-event packets that came.
func (p *HandPhone) Events() []Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.events)
}

// SIPHeader is the first value of a header.
func SIPHeader(message, name string) string {
	for line := range strings.SplitSeq(message, "\r\n") {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.EqualFold(strings.TrimSpace(key), name) {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
