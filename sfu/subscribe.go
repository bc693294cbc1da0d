package sfu

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pion/webrtc/v4"

	"tandem/errs"
	"tandem/media"
)

const maxOffers = 3 // an offer is sent once and repeated twice

// subscriber is what a device receives: the connection that we offer. It belongs to the device's goroutine.
//
// The connection is made with the first stream: a device that hears nobody costs nothing, and the first offer has
// something in it.
type subscriber struct {
	d           *Device
	peer        *peer
	way         *way   // past Pion, as long as there is a peer
	fingerprint string // of the device's end
	wanted      []*wanted
	slots       []*slot
	revision    int
	pending     *pendingOffer
	stale       int // answers to repeated offers that may still come before the next one's
	restart     bool
	told        map[string]streamMetadata // in the last offer
	muted       map[*media.Source]bool    // whose sound is kept back
}

// wanted is a source that the device shall receive.
type wanted struct {
	source *media.Source
	name   string // its msid here; empty: not chosen yet
	keys   *keyListener
}

type slotState int

const (
	idle     slotState = iota // inactive for a revision at least: may be used
	active                    // carries a track, or did until a moment ago
	draining                  // inactive in an offer that is not answered yet
)

// slot is one m-line towards the device.
type slot struct {
	state       slotState
	kind        media.Kind
	transceiver *webrtc.RTPTransceiver
	out         *outbound     // when active
	source      *media.Source // whose track it carries; nil: it is not wanted any more
}

// pendingOffer is the offer that is not answered yet.
type pendingOffer struct {
	message  offerNotification
	sections int
	sent     int // times, on this socket
	tries    int
}

func (s *subscriber) add(src *media.Source) {
	if slices.ContainsFunc(s.wanted, func(w *wanted) bool { return w.source == src }) {
		return
	}
	w := &wanted{source: src, keys: &keyListener{d: s.d, participant: src.Participant}}
	src.AddKeys(w.keys)
	s.wanted = append(s.wanted, w)
}

// remove silences src at once; that its m-lines become inactive can wait for the next offer.
func (s *subscriber) remove(src *media.Source) {
	delete(s.muted, src)
	i := slices.IndexFunc(s.wanted, func(w *wanted) bool { return w.source == src })
	if i < 0 {
		return
	}
	src.RemoveKeys(s.wanted[i].keys)
	s.wanted = slices.Delete(s.wanted, i, i+1)
	for _, sl := range s.slots {
		if sl.source == src {
			sl.out.detach()
			sl.source = nil
		}
	}
}

// mute stops the packets of src's sound, or lets them go on. The device keeps the track: nothing is negotiated.
func (s *subscriber) mute(src *media.Source, muted bool) {
	if muted {
		if s.muted == nil {
			s.muted = make(map[*media.Source]bool)
		}
		s.muted[src] = true
	} else {
		delete(s.muted, src)
	}
	for _, sl := range s.slots {
		if sl.source == src {
			s.hush(sl.out, src)
		}
	}
}

// voices lists what the sources of a participant that have sound are called here; only alone if it is not nil.
func (s *subscriber) voices(participant string, only *media.Source) (names []string) {
	for _, w := range s.wanted {
		if w.source.Participant == participant && w.source.Audio() != nil && (only == nil || only == w.source) {
			s.choose(w)
			names = append(names, w.name)
		}
	}
	return names
}

// hush brings one track to what mute said of its source.
func (s *subscriber) hush(out *outbound, src *media.Source) {
	out.setMuted(out.kind == media.Audio && s.muted[src])
}

// negotiate makes an offer of all that has changed, unless one is outstanding or there is nobody to send it to.
func (s *subscriber) negotiate(ctx context.Context) error {
	if s.pending != nil || s.d.sock == nil || (s.peer == nil && len(s.wanted) == 0) {
		return nil
	}
	if s.peer == nil {
		if err := s.openPeer(); err != nil {
			return err
		}
	}
	changed, err := s.reconcile()
	if err != nil {
		return err
	}
	metadata := s.metadata()
	if !changed && !s.restart && maps.EqualFunc(metadata, s.told, sameMetadata) {
		return nil
	}
	sd, err := s.peer.pc.CreateOffer(&webrtc.OfferOptions{ICERestart: s.restart})
	if err != nil {
		return fmt.Errorf("create offer: %w", err)
	}
	text, err := s.peer.describe(ctx, sd)
	if err != nil {
		return fmt.Errorf("offer: %w", err)
	}
	s.restart, s.told = false, metadata
	s.pending = &pendingOffer{
		message:  offerNotification{SDPOffer: text, EndpointID: s.d.endpoint + "-subscribe", StreamMetadata: metadata},
		sections: strings.Count(text, "\nm="),
	}
	s.send()
	return nil
}

func sameMetadata(a, b streamMetadata) bool {
	return a.Alias == b.Alias && a.ParticipantID == b.ParticipantID && slices.Equal(a.MediaTypes, b.MediaTypes)
}

func (s *subscriber) openPeer() error {
	d := s.d
	opened, err := newPeer(d.server.engine.subscribing, func(state webrtc.PeerConnectionState) {
		d.post(func() { d.subscribingIs(state) })
	})
	if err != nil {
		return err
	}
	s.peer, s.way = opened, &way{port: d.server.port}
	opened.pc.SCTP().Transport().ICETransport().OnSelectedCandidatePairChange(func(pair *webrtc.ICECandidatePair) {
		d.post(func() { s.way.move(overPort(pair)) })
	})
	return nil
}

// connected lets sound go past Pion, if it can.
func (s *subscriber) connected() {
	if s.way.keys.Load() == nil {
		s.way.keys.Store(secrets(s.peer.pc))
	}
	pair, err := s.peer.pc.SCTP().Transport().ICETransport().GetSelectedCandidatePair()
	if err == nil {
		s.way.move(overPort(pair))
	}
}

// reconcile brings the slots to what is wanted and says whether that needs an offer.
func (s *subscriber) reconcile() (changed bool, err error) {
	type need struct {
		w     *wanted
		track *media.Track
	}
	var needs []need
	for _, w := range s.wanted {
		s.choose(w)
		for _, t := range w.source.Tracks {
			if !s.carries(w, t) && !s.takeOver(w, t) {
				needs = append(needs, need{w, t})
			}
		}
	}
	for _, sl := range s.slots {
		if sl.state == active && sl.source == nil {
			if err := s.peer.pc.RemoveTrack(sl.transceiver.Sender()); err != nil {
				return false, fmt.Errorf("remove track: %w", err)
			}
			sl.state, sl.out, changed = draining, nil, true
		}
	}
	for _, n := range needs {
		if err := s.occupy(n.w, n.track); err != nil {
			return false, err
		}
		changed = true
	}
	return changed, nil
}

// choose gives a source its msid here: the publisher's own, unless another source has it.
func (s *subscriber) choose(w *wanted) {
	taken := func(name string) bool {
		return slices.ContainsFunc(s.wanted, func(o *wanted) bool { return o != w && o.name == name })
	}
	if w.name != "" {
		return
	}
	w.name = w.source.Stream
	for i := 2; taken(w.name); i++ {
		w.name = w.source.Stream + "-" + strconv.Itoa(i)
	}
}

func (s *subscriber) carries(w *wanted, t *media.Track) bool {
	return slices.ContainsFunc(s.slots, func(sl *slot) bool {
		return sl.state == active && sl.source == w.source && sl.out.origin == t.ID && sl.kind == t.Kind
	})
}

// takeOver lets a track go on where the same stream's track before it was, so that a stream that was published anew is
// the same stream to the device.
func (s *subscriber) takeOver(w *wanted, t *media.Track) bool {
	for _, sl := range s.slots {
		if sl.state == active && sl.source == nil && sl.kind == t.Kind &&
			sl.out.stream == w.name && sl.out.origin == t.ID && sl.out.codec == t.Codec && sl.out.plain == s.plain(t) {
			sl.source = w.source
			s.hush(sl.out, w.source)
			sl.out.attach(t)
			return true
		}
	}
	return false
}

// occupy lets an idle slot, or a new one, carry a track.
func (s *subscriber) occupy(w *wanted, t *media.Track) error {
	out := &outbound{stream: w.name, id: s.trackID(w, t), origin: t.ID, kind: t.Kind, codec: t.Codec, plain: s.plain(t), batch: s.d.server.port, tell: s.peer.pc.WriteRTCP}
	if t.Kind == media.Audio {
		out.way = s.way
	}
	i := slices.IndexFunc(s.slots, func(sl *slot) bool { return sl.state == idle && sl.kind == t.Kind })
	var sl *slot
	if i < 0 {
		tr, err := s.peer.pc.AddTransceiverFromTrack(out, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
		if err != nil {
			return fmt.Errorf("add track: %w", err)
		}
		sl = &slot{kind: t.Kind, transceiver: tr}
		s.slots = append(s.slots, sl)
	} else {
		// Pion takes a line that is inactive; a sender made any other way would be one without reports and repetitions.
		sender, err := s.peer.pc.AddTrack(out)
		if err != nil {
			return fmt.Errorf("reuse track: %w", err)
		}
		if sl = s.carrying(sender); sl == nil {
			return errors.New("reuse track: no line is inactive")
		}
	}
	sl.state, sl.out, sl.source = active, out, w.source
	sender := sl.transceiver.Sender()
	s.d.attend(func() { out.feedback(sender) })
	s.hush(out, w.source)
	out.attach(t)
	return nil
}

// carrying finds the slot whose line a sender was given.
func (s *subscriber) carrying(sender *webrtc.RTPSender) *slot {
	for _, sl := range s.slots {
		if sl.transceiver.Sender() == sender {
			return sl
		}
	}
	return nil
}

// plain says whether a track may be sent as it comes.
func (s *subscriber) plain(t *media.Track) bool { return s.d.passthrough && t.Telephone }

// trackID is the publisher's, unless another track has it here.
func (s *subscriber) trackID(w *wanted, t *media.Track) string {
	if slices.ContainsFunc(s.slots, func(sl *slot) bool { return sl.state == active && sl.out.id == t.ID }) {
		return w.name + "-" + t.ID
	}
	return t.ID
}

func (s *subscriber) metadata() map[string]streamMetadata {
	all := make(map[string]streamMetadata, len(s.wanted))
	for _, w := range s.wanted {
		m := streamMetadata{EndpointID: w.name, MediaTypes: []string{}, Alias: w.source.Alias, ParticipantID: w.source.Participant}
		for _, t := range w.source.Tracks {
			m.MediaTypes = appendMediaType(m.MediaTypes, t.Kind)
		}
		all[w.name] = m
	}
	return all
}

// send sends the outstanding offer with the next revision.
func (s *subscriber) send() {
	s.revision++
	s.pending.message.SDPRevision = s.revision
	s.pending.sent++
	s.pending.tries++
	s.d.notify("sdpOffer", s.pending.message)
	s.d.offerTimer.Reset(s.d.server.cfg.OfferTimeout)
}

// unanswered repeats the outstanding offer; false: that was done often enough.
func (s *subscriber) unanswered() bool {
	if s.pending == nil || s.d.sock == nil {
		return true
	}
	if s.pending.tries == maxOffers {
		return false
	}
	s.send()
	return true
}

// resume goes on over a new socket: the answer to an outstanding offer was lost, or the offer was.
func (s *subscriber) resume() {
	s.stale = 0
	if s.pending != nil {
		s.pending.sent, s.pending.tries = 0, 0
		s.send()
	}
}

// answer takes the device's answer to the outstanding offer.
func (s *subscriber) answer(params answerParams) error {
	if s.stale > 0 { // it answers each repetition, in order
		s.stale--
		return nil
	}
	if s.pending == nil {
		return nil
	}
	got, err := readDescription(answerField, params.SDPAnswer)
	if err != nil {
		return err
	}
	if len(got.sections) != s.pending.sections {
		return errs.New(errs.Invalid, "sdpAnswer: has %d media sections, the offer has %d", len(got.sections), s.pending.sections)
	}
	if s.fingerprint != "" && s.fingerprint != got.fingerprint {
		return errBeganAnew
	}
	if err := s.peer.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: got.sdp}); err != nil {
		return errs.Wrap(err, errs.Invalid, "sdpAnswer: cannot be used: %s", err.Error())
	}
	s.fingerprint = got.fingerprint
	s.stale = s.pending.sent - 1
	s.pending = nil
	s.d.offerTimer.Stop()
	codecs := agreedCodecs(got.sdp)
	for _, sl := range s.slots {
		switch sl.state {
		case draining:
			sl.state = idle
		case active:
			sl.out.take(codecs[sl.transceiver.Mid()])
			sl.out.setOpen(got.receives(sl.transceiver.Mid()))
		case idle:
		}
	}
	return nil
}

// refresh asks for a keyframe of everything that the device sees.
func (s *subscriber) refresh() {
	for _, sl := range s.slots {
		if sl.state == active {
			sl.out.requestKeyframe()
		}
	}
}

// close ends the connection and lets go of all sources.
func (s *subscriber) close() {
	for len(s.wanted) > 0 {
		s.remove(s.wanted[0].source)
	}
	s.peer.close()
}
