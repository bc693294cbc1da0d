package sfu

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/pion/sdp/v3"
	"github.com/pion/srtp/v3"
	"github.com/pion/webrtc/v4"

	"tandem/errs"
	"tandem/media"
)

const maxAlias = 256 // bytes

// publisher is what a device sends: the connection that the device offers, and the sources that come of it. It belongs
// to the device's goroutine.
type publisher struct {
	d           *Device
	peer        *peer
	fingerprint string                                                 // of the device's end
	lanes       map[string]*inbound                                    // by mid, for the life of the connection
	offered     map[*webrtc.RTPTransceiver][]webrtc.RTPCodecParameters // of sound, that we know
	planned     []plan                                                 // what the last answer agreed, in its order
	live        map[string]*published
}

// plan is one stream of an offer that may be published.
type plan struct {
	stream, alias string
	lanes         []*inbound
}

// published is a plan that became a source.
type published struct {
	source *media.Source
	alias  string
	tracks []publishedTrack
}

type publishedTrack struct {
	lane        *inbound
	id          string
	payloadType uint8
}

// offer answers an offer and publishes what it holds, without waiting for packets: a muted track may send none.
func (p *publisher) offer(ctx context.Context, params offerParams) (offerResult, error) {
	want, err := readDescription(offerField, params.SDPOffer)
	if err != nil {
		return offerResult{}, err
	}
	for msid, m := range params.MediaMetadata.MediaStreams {
		if len(m.Alias) > maxAlias {
			return offerResult{}, errs.New(errs.Invalid, "mediaMetadata.mediaStreams.%s.alias: longer than %d bytes", msid[:min(len(msid), maxToken)], maxAlias)
		}
	}
	if p.peer != nil && p.fingerprint != want.fingerprint {
		p.reset() // the device began anew
	}
	answer, err := p.negotiate(ctx, want)
	if err != nil {
		p.reset()
		return offerResult{}, err
	}
	p.fingerprint = want.fingerprint
	p.plan(want, answer, params.MediaMetadata)
	p.settle()
	if answer, err = p.narrowLines(answer); err != nil {
		p.reset()
		return offerResult{}, err
	}
	return offerResult{SDPAnswer: answer, EndpointID: p.d.endpoint + "-publish", StreamMetadata: p.metadata(want, params.MediaMetadata)}, nil
}

func (p *publisher) negotiate(ctx context.Context, want description) (string, error) {
	if p.peer == nil {
		if err := p.open(); err != nil {
			return "", err
		}
	}
	pc := p.peer.pc
	steered, err := steer(want, p.directions(want))
	if err != nil {
		return "", err
	}
	if err := pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: steered}); err != nil {
		return "", errs.Wrap(err, errs.Invalid, "sdpOffer: cannot be used: %s", err.Error())
	}
	for _, t := range pc.GetTransceivers() {
		i := slices.IndexFunc(want.sections, func(s section) bool { return s.mid == t.Mid() })
		if i < 0 || (p.d.mayPublish(want.sections[i]) && !p.permit(t)) {
			if err := t.Stop(); err != nil { // answered inactive: a rejected line could not carry the others
				return "", errs.Wrap(err, errs.Internal, "stop a track")
			}
		}
	}
	sd, err := pc.CreateAnswer(nil)
	if err != nil {
		return "", errs.Wrap(err, errs.Invalid, "sdpOffer: cannot be answered: %s", err.Error())
	}
	answer, err := p.peer.describe(ctx, sd)
	if err != nil {
		return "", errs.Wrap(err, errs.Internal, "answer")
	}
	return reject(answer, want)
}

// directions are what Pion is told of an offer's m-lines, in their order; empty for data. It answers inactive to every line
// that publishes nothing. One that it knows is shown as recvonly, which ends what it received there. Inactive would do the
// same, but the second time it closes for good what the line's next track would be received with (pion/webrtc#2226): that
// track would be heard or not, by chance.
func (p *publisher) directions(offer description) []string {
	known := make(map[string]bool)
	for _, t := range p.peer.pc.GetTransceivers() {
		known[t.Mid()] = true
	}
	all := make([]string, 0, len(offer.sections))
	for _, s := range offer.sections {
		direction := sdp.AttrKeyInactive
		switch {
		case s.kind == 0:
			direction = ""
		case p.d.mayPublish(s):
			direction = sdp.AttrKeySendOnly // whatever it takes: nothing is sent there
		case known[s.mid]:
			direction = sdp.AttrKeyRecvOnly
		}
		all = append(all, direction)
	}
	return all
}

func (p *publisher) open() error {
	d := p.d
	var opened *peer
	opened, err := newPeer(d.server.engine.publishing, func(s webrtc.PeerConnectionState) {
		if s == webrtc.PeerConnectionStateClosed {
			d.post(func() { p.closedByDevice(opened) })
		}
	})
	if err != nil {
		return errs.Wrap(err, errs.Internal, "publishing connection")
	}
	opened.pc.OnTrack(func(remote *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) {
		d.post(func() { p.arrived(opened, remote, receiver) })
	})
	opened.pc.SCTP().Transport().ICETransport().OnSelectedCandidatePairChange(func(pair *webrtc.ICECandidatePair) {
		d.post(func() { p.moved(opened, pair) })
	})
	p.peer, p.lanes = opened, make(map[string]*inbound)
	p.offered = make(map[*webrtc.RTPTransceiver][]webrtc.RTPCodecParameters)
	return nil
}

// plan notes what the answer to an offer agreed.
func (p *publisher) plan(want description, answer string, m mediaMetadata) {
	codecs := agreedCodecs(answer)
	p.planned = nil
	used := make(map[*inbound]bool)
	for _, s := range want.sections {
		if !p.d.mayPublish(s) {
			continue
		}
		lane := p.lanes[s.mid]
		if lane == nil {
			lane = newInbound(s.mid, s.kind)
			p.lanes[s.mid] = lane
		}
		permitted := slices.DeleteFunc(codecs[s.mid], func(a agreed) bool { return !p.d.mayCome(a.codec.MimeType) })
		if !lane.agree(permitted) {
			continue
		}
		lane.id, lane.levelID = s.track, p.levelID(s.mid)
		used[lane] = true
		i := slices.IndexFunc(p.planned, func(q plan) bool { return q.stream == s.stream })
		if i < 0 {
			i = len(p.planned)
			p.planned = append(p.planned, plan{stream: s.stream, alias: m.MediaStreams[s.stream].Alias})
		}
		p.planned[i].lanes = append(p.planned[i].lanes, lane)
	}
	maps.DeleteFunc(p.lanes, func(_ string, lane *inbound) bool {
		if !used[lane] {
			lane.target.Store(nil)
		}
		return !used[lane]
	})
}

// levelID is the header extension in which the sound of an m-line tells its loudness; 0: there is none.
func (p *publisher) levelID(mid string) uint8 {
	for _, t := range p.peer.pc.GetTransceivers() {
		if t.Mid() != mid || t.Kind() != webrtc.RTPCodecTypeAudio || t.Receiver() == nil {
			continue
		}
		for _, e := range t.Receiver().GetParameters().HeaderExtensions {
			if e.URI == sdp.AudioLevelURI {
				return uint8(e.ID)
			}
		}
	}
	return 0
}

// voices lists the streams that are published and have sound.
func (p *publisher) voices() (streams []string) {
	for _, q := range p.planned {
		if slices.ContainsFunc(q.lanes, func(l *inbound) bool { return l.kind == media.Audio }) {
			streams = append(streams, q.stream)
		}
	}
	return streams
}

// settle publishes what is planned and takes back what is not any more. A source never changes: a stream with other
// tracks or codecs is published anew.
func (p *publisher) settle() {
	next := make(map[string]*published, len(p.planned))
	for _, q := range p.planned {
		tracks := make([]publishedTrack, 0, len(q.lanes))
		for _, lane := range q.lanes {
			tracks = append(tracks, publishedTrack{lane, lane.id, lane.current.payloadType})
		}
		old := p.live[q.stream]
		if old != nil && old.alias == q.alias && slices.Equal(old.tracks, tracks) {
			next[q.stream] = old
			continue
		}
		next[q.stream] = &published{alias: q.alias, tracks: tracks}
	}
	for stream, old := range p.live {
		if next[stream] != old {
			p.d.membership.Unpublish(old.source)
		}
	}
	p.live = next
	for _, q := range p.planned {
		if n := next[q.stream]; n.source == nil {
			n.source = &media.Source{Participant: p.d.participant.ID, Stream: q.stream, Alias: q.alias}
			for _, lane := range q.lanes {
				n.source.Tracks = append(n.source.Tracks, lane.aim(n.source, func(t *media.Track, narrow bool) {
					p.d.post(func() { p.heard(lane, t, narrow) })
				}))
			}
			p.d.membership.Publish(n.source)
		}
	}
}

// metadata lists every stream of the offer; the kinds are those that may be published.
func (p *publisher) metadata(want description, m mediaMetadata) map[string]streamMetadata {
	all := make(map[string]streamMetadata)
	for _, s := range want.sections {
		if !s.sends {
			continue
		}
		e, ok := all[s.stream]
		if !ok {
			e = streamMetadata{
				EndpointID: s.stream, MediaTypes: []string{}, Alias: m.MediaStreams[s.stream].Alias, ParticipantID: p.d.participant.ID,
			}
		}
		if p.d.mayPublish(s) {
			e.MediaTypes = appendMediaType(e.MediaTypes, s.kind)
		}
		all[s.stream] = e
	}
	return all
}

func appendMediaType(types []string, kind media.Kind) []string {
	t := strings.ToUpper(kind.String())
	if slices.Contains(types, t) {
		return types
	}
	return append(types, t)
}

// arrived starts to read a track whose first packet came.
func (p *publisher) arrived(from *peer, remote *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) {
	if from != p.peer {
		return
	}
	t := receiver.RTPTransceiver()
	if t == nil {
		return
	}
	lane := p.lanes[t.Mid()]
	if lane == nil {
		return
	}
	r := &trackReader{
		d: p.d, lane: lane, remote: remote, receiver: receiver, pc: from.pc, after: lane.reading, asked: -1, copied: -1, done: make(chan struct{}),
		reports: reports{ours: rand.Uint32(), came: media.NewReception(int64(lane.current.codec.ClockRate))},
	}
	if lane.kind == media.Audio {
		r.inlet, r.secret = p.inlet(remote)
	}
	lane.reading, lane.inlet = r.done, r.inlet
	p.d.attend(r.run)
	p.d.attend(r.listen)
	if lane.frames != nil {
		p.d.attend(func() { lane.frames.run(r.done, p.d.server.cfg.KeyframePause, r.askForKeyframe) })
	}
}

// inlet takes the packets of a stream at the port, if they come there and can be decrypted.
func (p *publisher) inlet(remote *webrtc.TrackRemote) (*inlet, *srtp.Context) {
	pair, err := p.peer.pc.SCTP().Transport().ICETransport().GetSelectedCandidatePair()
	if err != nil || !overPort(pair).IsValid() {
		return nil, nil
	}
	keys := secrets(p.peer.pc)
	if keys == nil {
		return nil, nil
	}
	secret := decryption(keys)
	if secret == nil {
		return nil, nil
	}
	return p.d.server.port.inlets.open(overPort(pair), uint32(remote.SSRC())), secret
}

// moved lets the packets be taken where they come from now.
func (p *publisher) moved(which *peer, pair *webrtc.ICECandidatePair) {
	if which != p.peer {
		return
	}
	for _, lane := range p.lanes {
		if lane.inlet != nil {
			lane.inlet.move(overPort(pair))
		}
	}
}

// switched publishes a stream anew whose packets come in another agreed codec.
func (p *publisher) switched(lane *inbound, payloadType uint8) {
	if p.lanes[lane.mid] == lane && lane.use(payloadType) {
		p.settle()
		p.askForOffer()
	}
}

// closedByDevice ends what came over a connection that the device closed.
func (p *publisher) closedByDevice(which *peer) {
	if which == p.peer {
		p.reset()
	}
}

// reset takes everything back and closes the connection.
func (p *publisher) reset() {
	for _, lane := range p.lanes {
		lane.target.Store(nil)
	}
	p.planned, p.lanes, p.offered = nil, nil, nil
	p.settle()
	p.peer.close()
	p.peer = nil
}
