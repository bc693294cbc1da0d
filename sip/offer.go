package sip

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pion/sdp/v3"

	"tandem/media"
	"tandem/trunks"
)

// What we offer and accept (RFC 3264): one audio stream, and RFC 4733 telephone-event beside it.
const (
	plainProfile  = "RTP/AVP"
	secureProfile = "RTP/SAVP"
	ownPacketTime = 20 * time.Millisecond
	ownEventType  = 101 // payload type of telephone-event in our offers
	ownOpusType   = 107 // and of Opus

	maxDescription = 16 << 10 // bytes of SDP that are read
	maxStreams     = 16       // m-lines that are read
)

// errNothingCommon means that a description is well formed but has no stream that we can take: 488, not 400.
var errNothingCommon = errors.New("no stream in it that can be taken")

// errGlare means that an offer of ours waits for its answer: 491 (RFC 3261 §14.2, RFC 3311 §5.2).
var errGlare = errors.New("an offer of this end is not answered yet")

// errOwnSDP means that we were about to send what nobody could read: 500.
var errOwnSDP = errors.New("our own SDP is wrong")

// errNoOffer means that an answer came to no offer of ours.
var errNoOffer = errors.New("no offer was made")

// terms is what may be negotiated with one trunk.
type terms struct {
	codecs []media.Speech // in the order of preference; never empty
	srtp   string         // trunks.SRTPOff, SRTPOptional or SRTPRequired
	info   bool           // keys travel as SIP INFO: telephone-event is not offered
	inBand bool           // keys are listened for in the sound
}

// termsOf returns the terms of a trunk; nil, a caller of no trunk, has them all in plain RTP.
func termsOf(t *trunk) terms {
	if t == nil {
		return terms{codecs: codecsOf(nil), srtp: trunks.SRTPOff}
	}
	return terms{codecs: codecsOf(t.Codecs), srtp: t.SRTP, info: t.DTMF == trunks.DTMFInfo, inBand: t.DTMFInBand}
}

// offerState is where a negotiation stands (RFC 3264 §4). An offer of the far end is answered within answer, so that it
// is never left open.
type offerState int

// The states.
const (
	stable offerState = iota
	offered
)

// description is our side of the offer/answer exchange of one call. It is pure, and belongs to the call's goroutine.
// Whatever returns an error leaves what is agreed as it was.
type description struct {
	terms   terms
	session uint64 // o= session id, constant
	version uint64 // o= version, one more in each description that differs from the one before (RFC 3264 §8)
	sent    string // the last description, taken or refused, without its o= line
	local   netip.AddrPort

	insisted bool // the first offer says RTP/SAVP though the trunk takes plain RTP too

	state  offerState
	before *standing // what a refused offer falls back to
	standing
}

// standing is what was agreed, and what our next description says. Its maps and slices are replaced, never changed.
type standing struct {
	index   int                    // which m-line is the audio stream
	lines   []streamLine           // what the m-lines are, since their number and order never change (RFC 3264 §8)
	profile string                 // of our m-line
	types   map[media.Speech]uint8 // under which payload type we name each codec
	comfort bool                   // they have comfort noise
	event   int                    // payload type of telephone-event in our descriptions
	rate    int                    // its clock in Hz
	taken   map[uint8]string       // what a payload type means in this session (RFC 3264 §8.3.2)
	packet  time.Duration          // the packet time that we ask for
	cryptos []crypto               // our keys in the last description
	mux     bool                   // RTCP on RTP's port is agreed
	metrics bool                   // RTCP carries VoIP metrics, since the far end wants them
	hold    bool                   // we keep the far end waiting
	farHold bool                   // it keeps us waiting
	said    string                 // the direction of our last description
	agreed  media.PortMedia        // the last agreement
	up      bool                   // there is one
	mine    bool                   // the last offer was ours
	text    string                 // our last description without its o= line
}

// newDescription starts a negotiation.
func newDescription(session uint64, local netip.AddrPort, t terms) *description {
	d := &description{session: session, version: session, local: local, terms: t}
	d.profile, d.packet, d.event, d.rate = plainProfile, ownPacketTime, ownEventType, 8000
	if t.srtp == trunks.SRTPRequired {
		d.profile = secureProfile
	}
	d.types = map[media.Speech]uint8{
		media.PCMU: uint8(media.PCMU), media.PCMA: uint8(media.PCMA), media.G722: uint8(media.G722), media.Opus: ownOpusType,
	}
	return d
}

// clone returns a negotiation that goes on by itself from here: one INVITE may be answered by several phones.
func (d *description) clone() *description {
	c := *d
	return &c
}

// codecsOf reads a trunk's codecs: all when it names none.
func codecsOf(names []string) []media.Speech {
	var codecs []media.Speech
	for _, name := range names {
		for _, codec := range media.Speeches() {
			if strings.EqualFold(name, codec.String()) && !slices.Contains(codecs, codec) {
				codecs = append(codecs, codec)
			}
		}
	}
	if len(codecs) == 0 {
		return media.Speeches()
	}
	return codecs
}

// encodingOf is what a=rtpmap says of a codec.
func encodingOf(s media.Speech) string {
	if s == media.Opus {
		return "opus/48000/2" // RFC 7587 §7
	}
	return s.String() + "/8000"
}

// isEncoding says whether an a=rtpmap is that of a codec, with or without the number of channels that it has anyway.
func isEncoding(s media.Speech, encoding string) bool {
	if strings.EqualFold(encoding, encodingOf(s)) {
		return true
	}
	return s != media.Opus && strings.EqualFold(encoding, encodingOf(s)+"/1")
}

// voipMetrics is what a=rtcp-xr names the block of RFC 3611 §4.7 (§5.1).
const voipMetrics = "voip-metrics"

// comfortType is the payload type of comfort noise at 8 kHz (RFC 3389 §4).
const comfortType = 13

// offer returns an offer of all that we have. It is to be answered (accept) or given up (refused).
func (d *description) offer() ([]byte, error) {
	next, err := d.propose()
	if err != nil {
		return nil, err
	}
	next.cryptos = nil
	if d.terms.srtp != trunks.SRTPOff && d.terms.srtp != "" {
		if next.cryptos, err = newCryptos(); err != nil {
			return nil, err
		}
		if !d.up && d.terms.srtp == trunks.SRTPOptional && !d.insisted {
			next.profile = plainProfile // whoever knows no SDES passes a=crypto over (RFC 4568 §5.1.2)
		}
	}
	event := next.freeEvent(d.terms)
	if event >= 0 {
		next.event = event
	}
	next.comfort = false // we make no pauses of our own: whoever offers them gets them
	return d.send(next, next.free(d.codecsFirst()), event, d.wished())
}

// holding returns an offer that changes nothing but who hears whom (RFC 3264 §8.4): on keeps the far end waiting.
func (d *description) holding(on bool) ([]byte, error) {
	next, err := d.propose()
	if err != nil {
		return nil, err
	}
	next.hold = on
	next.cryptos = slices.DeleteFunc(slices.Clone(d.cryptos), func(c crypto) bool { return !c.key.Equal(d.agreed.Outbound) })
	event := -1
	if d.agreed.EventType >= 0 {
		event = d.event
	}
	direction := "sendrecv"
	switch {
	case on && d.farHold:
		direction = "inactive"
	case on:
		direction = "sendonly"
	}
	return d.send(next, []media.Speech{d.agreed.Speech}, event, direction)
}

// refresh returns the last description again, as it was: an offer that changes nothing (RFC 4028 §7.4).
func (d *description) refresh() ([]byte, error) {
	next, err := d.propose()
	if err != nil {
		return nil, err
	}
	next.mine = true
	d.began(next)
	return d.stamp(next.text), nil
}

// propose checks that an offer may be made now.
func (d *description) propose() (standing, error) {
	if d.state != stable {
		return standing{}, errGlare
	}
	return d.standing, nil
}

// send renders and checks an offer, and waits for its answer from then on.
func (d *description) send(next standing, codecs []media.Speech, event int, direction string) ([]byte, error) {
	next.said, next.mine = direction, true
	if err := d.write(&next, codecs, event); err != nil {
		return nil, err
	}
	d.began(next)
	return d.stamp(next.text), nil
}

// began notes an offer, and what it falls back to.
func (d *description) began(next standing) {
	before := d.standing
	d.before, d.state, d.standing = &before, offered, next
}

// refused gives our offer up: what was agreed before stays (RFC 3261 §14.1).
func (d *description) refused() {
	if d.state == offered && d.before != nil {
		d.standing, d.state = *d.before, stable
	}
}

// insist makes the first offer anew, as RTP/SAVP: a far end that takes nothing else has refused the one with the keys in
// RTP/AVP. False: there is nothing to insist on, or that was done before.
func (d *description) insist() ([]byte, bool, error) {
	if d.up || d.insisted || d.terms.srtp != trunks.SRTPOptional || d.state != offered {
		return nil, false, nil
	}
	d.refused()
	d.insisted, d.profile = true, secureProfile
	offer, err := d.offer()
	return offer, err == nil, err
}

// codecsFirst lists the codecs of an offer, the one in use first.
func (d *description) codecsFirst() []media.Speech {
	if !d.up {
		return d.terms.codecs
	}
	return append([]media.Speech{d.agreed.Speech}, slices.DeleteFunc(slices.Clone(d.terms.codecs), func(s media.Speech) bool { return s == d.agreed.Speech })...)
}

// free leaves out Opus where its payload type means something else in this session.
func (s *standing) free(codecs []media.Speech) []media.Speech {
	meaning, taken := s.taken[s.types[media.Opus]]
	if !taken || isEncoding(media.Opus, meaning) {
		return codecs
	}
	return slices.DeleteFunc(slices.Clone(codecs), func(c media.Speech) bool { return c == media.Opus })
}

// wished is the direction of an offer that lets the far end decide about its own hold.
func (d *description) wished() string {
	if d.hold {
		return "sendonly"
	}
	return "sendrecv"
}

// freeEvent finds a payload type for telephone-event that means nothing else in this session; -1: keys go otherwise.
func (s *standing) freeEvent(t terms) int {
	if t.info {
		return -1
	}
	free := func(n int) bool {
		meaning, ok := s.taken[uint8(n)]
		return !ok || strings.HasPrefix(strings.ToLower(meaning), "telephone-event/")
	}
	for n := s.event; n >= 96; n-- {
		if free(n) {
			return n
		}
	}
	for n := 127; n > s.event; n-- {
		if free(n) {
			return n
		}
	}
	return -1
}

// answer returns our answer to an offer and what both mean for the port. An error that is errNothingCommon asks for a
// 488, errGlare for a 491, any other for a 400.
func (d *description) answer(offer []byte) ([]byte, media.PortMedia, error) {
	if d.state != stable {
		return nil, media.PortMedia{}, errGlare
	}
	parsed, lines, err := parseDescription(offer)
	if err != nil {
		return nil, media.PortMedia{}, err
	}
	p, err := d.pick(parsed, lines, false)
	if err != nil {
		return nil, media.PortMedia{}, err
	}
	next := d.standing
	next.learn(parsed)
	next.index, next.lines, next.profile, next.mux = p.index, lines, lines[p.index].proto, p.agreed.RTCPMux
	next.metrics = p.agreed.Metrics
	next.types = maps.Clone(next.types)
	next.types[p.agreed.Speech], next.comfort = p.agreed.Audio(), p.agreed.ComfortType != 0
	if p.agreed.EventType >= 0 {
		next.event, next.rate = p.agreed.EventType, 8000 // a payload type keeps its meaning
		if p.agreed.EventRate != 0 {
			next.rate = p.agreed.EventRate
		}
	}
	next.packet = packetTimeOf(p.agreed)
	next.cryptos = nil
	if p.agreed.Inbound != nil {
		ours, err := d.keyFor(p)
		if err != nil {
			return nil, media.PortMedia{}, err
		}
		next.cryptos, p.agreed.Outbound = []crypto{ours}, ours.key
	}
	p.agreed.Receive = p.agreed.Receive && !d.hold
	next.said = directionOf(p.agreed)
	next.farHold, next.mine = !p.receives, false
	if err := d.write(&next, []media.Speech{p.agreed.Speech}, p.agreed.EventType); err != nil {
		return nil, media.PortMedia{}, err
	}
	next.agreed, next.up = p.agreed, true
	d.standing = next
	return d.stamp(next.text), p.agreed, nil
}

// takes says whether an offer can be answered, with the error that answer would return, and answers nothing.
func (d *description) takes(offer []byte) error {
	parsed, lines, err := parseDescription(offer)
	if err == nil {
		_, err = d.pick(parsed, lines, false)
	}
	return err
}

// keyFor is the key of our answer: the same as before while the far end keeps its own, since then nothing begins anew.
func (d *description) keyFor(p picked) (crypto, error) {
	if d.agreed.Outbound != nil && d.agreed.Inbound.Equal(p.agreed.Inbound) {
		return crypto{p.crypto.tag, d.agreed.Outbound}, nil
	}
	key, err := media.NewSRTPKey(p.agreed.Inbound.Suite)
	return crypto{p.crypto.tag, key}, err
}

// accept reads the far end's answer to our offer. Until the next offer it may come again and say something else, as the
// early answers of a forked call do: the last one counts.
func (d *description) accept(answer []byte) (media.PortMedia, error) {
	if !d.mine {
		return media.PortMedia{}, errNoOffer
	}
	parsed, lines, err := parseDescription(answer)
	if err != nil {
		return media.PortMedia{}, err
	}
	p, err := d.pick(parsed, lines, true)
	if err != nil {
		return media.PortMedia{}, err
	}
	next := d.standing
	next.learn(parsed)
	next.mux = p.agreed.RTCPMux
	next.profile = lines[p.index].proto
	if p.crypto.key != nil {
		i := slices.IndexFunc(d.cryptos, func(c crypto) bool { return c.tag == p.crypto.tag })
		p.agreed.Outbound = d.cryptos[i].key
	}
	if ours := d.types[p.agreed.Speech]; ours != p.agreed.Audio() {
		p.agreed.ComesAs = ours
	}
	if p.agreed.EventType >= 0 && d.event != p.agreed.EventType {
		p.agreed.EventComesAs = uint8(d.event)
	}
	p.agreed.Receive = p.agreed.Receive && (d.said == "sendrecv" || d.said == "recvonly")
	if d.said == "sendrecv" || d.said == "sendonly" {
		next.farHold = !p.receives // it could have listened
	} else {
		p.agreed.Send = false
	}
	next.agreed, next.up = p.agreed, true
	d.standing, d.state = next, stable
	return p.agreed, nil
}

// picked is a stream of the far end that we take.
type picked struct {
	index    int
	agreed   media.PortMedia
	crypto   crypto // its key; nil: plain RTP
	receives bool   // it wants to hear us
}

// pick finds the stream to take: the one in use as long as it can be, then the first that is secure if the trunk wants
// that, then the first.
func (d *description) pick(parsed *sdp.SessionDescription, lines []streamLine, answer bool) (picked, error) {
	var found []picked
	reason := errNothingCommon
	for i, m := range parsed.MediaDescriptions {
		if m.MediaName.Port.Value == 0 {
			continue
		}
		p, err := d.read(parsed, m, lines[i], answer)
		if errors.Is(err, errNothingCommon) {
			reason = err
			continue
		}
		if err != nil {
			return picked{}, err
		}
		p.index = i
		found = append(found, p)
	}
	if len(found) == 0 {
		return picked{}, reason
	}
	best := found[0]
	for _, p := range found {
		switch {
		case d.up && p.index == d.index:
			return p, nil
		case best.crypto.key == nil && p.crypto.key != nil:
			best = p
		}
	}
	return best, nil
}

// read says what a stream of the far end means for the port. The error is errNothingCommon when it cannot be taken.
func (d *description) read(parsed *sdp.SessionDescription, m *sdp.MediaDescription, line streamLine, answer bool) (picked, error) {
	codec, payload, ok := d.commonCodec(m)
	if !ok {
		return picked{}, fmt.Errorf("%w: no codec of the trunk's", errNothingCommon)
	}
	p := picked{agreed: media.PortMedia{Speech: codec, EventType: -1, InBand: d.terms.inBand, KeysByInfo: d.terms.info}}
	if payload != uint8(codec) {
		p.agreed.PayloadType = payload
	}
	if codec != media.Opus && slices.Contains(m.MediaName.Formats, strconv.Itoa(comfortType)) {
		p.agreed.ComfortType = comfortType
	}
	if !d.terms.info {
		p.agreed.EventType, p.agreed.EventRate = eventType(m)
	}
	if err := d.readKeys(m, line, answer, &p); err != nil {
		return picked{}, err
	}
	if err := readAddresses(parsed, m, &p.agreed); err != nil {
		return picked{}, err
	}
	if r := p.agreed.Remote; r.IsValid() && d.local.Addr().Unmap().Is4() != r.Addr().Is4() {
		return picked{}, fmt.Errorf("%w: its address is of the other IP family", errNothingCommon)
	}
	if _, ok := m.Attribute("rtcp-mux"); ok && (!answer || d.mux) {
		p.agreed.RTCPMux = true
	}
	if metrics, ok := m.Attribute("rtcp-xr"); ok && slices.Contains(strings.Fields(metrics), voipMetrics) {
		p.agreed.Metrics = true
	}
	readDirection(parsed, m, &p.agreed)
	p.receives = p.agreed.Send
	readPacketTime(m, &p.agreed)
	return p, nil
}

// readKeys decides between SRTP and plain RTP (RFC 4568 §5.1.2, §7.1).
func (d *description) readKeys(m *sdp.MediaDescription, line streamLine, answer bool, p *picked) error {
	var proposals []crypto
	if d.terms.srtp == trunks.SRTPOptional || d.terms.srtp == trunks.SRTPRequired {
		var values []string
		for _, a := range m.Attributes {
			if a.Key == "crypto" {
				values = append(values, a.Value)
			}
		}
		proposals = cryptosOf(values)
	}
	for _, c := range proposals {
		if answer && !slices.ContainsFunc(d.cryptos, func(o crypto) bool { return o.tag == c.tag && o.key.Suite == c.key.Suite }) {
			continue // an answer chooses among what we proposed
		}
		p.crypto, p.agreed.Inbound = c, c.key
		return nil
	}
	if line.secure() {
		return fmt.Errorf("%w: no SRTP key that this trunk lets us use", errNothingCommon)
	}
	if d.terms.srtp == trunks.SRTPRequired {
		return fmt.Errorf("%w: the trunk takes SRTP only", errNothingCommon)
	}
	return nil
}

// commonCodec returns the far end's first choice among ours, and its payload type. Static payload types need no rtpmap;
// one that contradicts RFC 3551 makes the format another codec.
func (d *description) commonCodec(m *sdp.MediaDescription) (media.Speech, uint8, bool) {
	for _, format := range m.MediaName.Formats {
		payload, err := strconv.ParseUint(format, 10, 7)
		if err != nil {
			continue
		}
		encoding, mapped := rtpmap(m, format)
		for _, codec := range d.terms.codecs {
			static := codec != media.Opus && uint8(payload) == uint8(codec)
			if mapped && isEncoding(codec, encoding) && (static || payload >= 96) || !mapped && static {
				return codec, uint8(payload), true
			}
		}
	}
	return 0, 0, false
}

// learn notes what the payload types of a description mean.
func (s *standing) learn(parsed *sdp.SessionDescription) {
	taken := maps.Clone(s.taken)
	if taken == nil {
		taken = make(map[uint8]string)
	}
	for _, m := range parsed.MediaDescriptions {
		for _, format := range m.MediaName.Formats {
			n, err := strconv.ParseUint(format, 10, 7)
			encoding, ok := rtpmap(m, format)
			if err == nil && ok {
				taken[uint8(n)] = encoding
			}
		}
	}
	s.taken = taken
}

// directionOf is what we say in an answer.
func directionOf(agreed media.PortMedia) string {
	switch {
	case agreed.Send && agreed.Receive:
		return "sendrecv"
	case agreed.Send:
		return "sendonly"
	case agreed.Receive:
		return "recvonly"
	}
	return "inactive"
}

// write renders the description of s and checks it before anybody sends it; every m-line of the far end that is not our
// audio stream is refused with port 0 (RFC 3264 §6).
func (d *description) write(s *standing, codecs []media.Speech, event int) error {
	var b strings.Builder
	fmt.Fprintf(&b, "s=-\r\nc=IN %s %s\r\nt=0 0\r\n", familyOf(d.local.Addr()), d.local.Addr().Unmap())
	for i := range max(len(s.lines), 1) {
		if i == s.index {
			d.writeAudio(&b, s, codecs, event)
			continue
		}
		line := s.lines[i]
		fmt.Fprintf(&b, "m=%s 0 %s %s\r\n", line.media, line.proto, strings.Join(line.formats, " "))
	}
	s.text = b.String()
	if err := d.check(d.head()+s.text, s); err != nil {
		return fmt.Errorf("%w: %w", errOwnSDP, err)
	}
	return nil
}

// stamp numbers a description that is about to be sent: one more than the last unless it is the same.
func (d *description) stamp(text string) []byte {
	if text != d.sent {
		d.sent, d.version = text, d.version+1
	}
	return []byte(d.head() + text)
}

// head is what comes before text.
func (d *description) head() string {
	return fmt.Sprintf("v=0\r\no=tandem %d %d IN %s %s\r\n", d.session, d.version, familyOf(d.local.Addr()), d.local.Addr().Unmap())
}

func familyOf(a netip.Addr) string {
	if a.Unmap().Is6() {
		return "IP6"
	}
	return "IP4"
}

func (d *description) writeAudio(b *strings.Builder, s *standing, codecs []media.Speech, event int) {
	fmt.Fprintf(b, "m=audio %d %s", d.local.Port(), s.profile)
	for _, codec := range codecs {
		fmt.Fprintf(b, " %d", s.types[codec])
	}
	if s.comfort {
		fmt.Fprintf(b, " %d", comfortType)
	}
	if event >= 0 {
		fmt.Fprintf(b, " %d", event)
	}
	b.WriteString("\r\n")
	for _, codec := range codecs {
		fmt.Fprintf(b, "a=rtpmap:%d %s\r\n", s.types[codec], encodingOf(codec))
		if codec == media.Opus {
			fmt.Fprintf(b, "a=fmtp:%d useinbandfec=1\r\n", s.types[codec])
		}
	}
	if s.comfort {
		fmt.Fprintf(b, "a=rtpmap:%d CN/8000\r\n", comfortType)
	}
	if event >= 0 {
		fmt.Fprintf(b, "a=rtpmap:%d telephone-event/%d\r\na=fmtp:%d 0-16\r\n", event, s.rate, event)
	}
	for _, c := range s.cryptos {
		fmt.Fprintf(b, "a=crypto:%s\r\n", c.value())
	}
	fmt.Fprintf(b, "a=ptime:%d\r\n", s.packet.Milliseconds())
	if s.mux {
		b.WriteString("a=rtcp-mux\r\n")
	} else {
		fmt.Fprintf(b, "a=rtcp:%d\r\n", d.local.Port()+1)
	}
	if s.metrics {
		b.WriteString("a=rtcp-xr:" + voipMetrics + "\r\n")
	}
	fmt.Fprintf(b, "a=%s\r\n", s.said)
}

// check reads what we are about to send as the far end will.
func (d *description) check(body string, s *standing) error {
	parsed, lines, err := parseDescription([]byte(body))
	if err != nil {
		return err
	}
	if len(lines) != max(len(s.lines), 1) {
		return fmt.Errorf("%d streams, not %d", len(lines), max(len(s.lines), 1))
	}
	m, line := parsed.MediaDescriptions[s.index], lines[s.index]
	if m.MediaName.Port.Value != int(d.local.Port()) || line.proto != s.profile {
		return errors.New("the audio stream is not at its place")
	}
	seen := make(map[string]bool)
	for _, format := range line.formats {
		if _, ok := rtpmap(m, format); !ok || seen[format] {
			return fmt.Errorf("payload type %s means nothing, or two things", printable(format, 10))
		}
		seen[format] = true
	}
	if line.secure() && len(s.cryptos) == 0 {
		return errors.New("SRTP without a key")
	}
	return nil
}
