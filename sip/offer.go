package sip

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
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

// errOtherFamily is the errNothingCommon of a stream whose address is of another IP family than ours.
var errOtherFamily = fmt.Errorf("%w: another IP family", errNothingCommon)

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
	next.comfort = next.freeComfort(d.terms)
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

// freeComfort says whether an offer has comfort noise: Opus has its own, and its payload type may mean something else in
// this session.
func (s *standing) freeComfort(t terms) bool {
	meaning, taken := s.taken[comfortType]
	return !slices.Equal(t.codecs, []media.Speech{media.Opus}) && (!taken || strings.EqualFold(meaning, comfortEncoding))
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
	read, err := readOffer(offer)
	if err != nil {
		return nil, media.PortMedia{}, err
	}
	return d.answerTo(read)
}

// answerTo is answer for an offer that was read already, in a stable state.
func (d *description) answerTo(offer theirOffer) ([]byte, media.PortMedia, error) {
	lines := offer.lines
	p, err := d.pick(offer.parsed, lines, false)
	if err != nil {
		return nil, media.PortMedia{}, err
	}
	next := d.standing
	next.learn(offer.parsed)
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

// theirOffer is an offer that was read.
type theirOffer struct {
	parsed *sdp.SessionDescription
	lines  []streamLine
}

func readOffer(body []byte) (o theirOffer, err error) {
	o.parsed, o.lines, err = parseDescription(body)
	return o, err
}

// takes says whether an offer can be answered, with the error that answerTo would return, and answers nothing.
func (d *description) takes(offer theirOffer) error {
	_, err := d.pick(offer.parsed, offer.lines, false)
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
	next.mux, next.comfort = p.agreed.RTCPMux, p.agreed.ComfortType != 0
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
