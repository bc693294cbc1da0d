package transcode

import (
	"sync"
	"sync/atomic"
	"time"

	"tandem/dsp"
	"tandem/media"
)

// phone takes the packets towards a phone. media.Port is one.
type phone interface {
	Send(payloadType uint8, marker bool, ts uint32, payload []byte) bool
	SendKey(payloadType uint8, first bool, ts uint32, at media.KeyTime, payload []byte) bool
	Lose(n int)
}

// downlink makes what a phone hears: one voice as it comes, as long as only one is to be heard; else a mix, on the clock.
// hear and queueKey run on the publishers' goroutines, tick on the clock's; its own lock, under which only that of a mix is
// taken, orders them.
type downlink struct {
	phone    phone
	cfg      Config
	now      func() time.Time
	pressure *atomic.Int32 // Engine's

	mu         sync.Mutex
	closed     bool
	media      media.PortMedia
	coder      coder
	lost       int // percent of what the phone was sent lately, by its reports
	line       timeline
	inputs     []*input // with audio
	picked     *input   // whom the phone hears directly; nil: nobody
	plain      bool     // it gets picked's packets as they are
	mixing     bool     // it hears mix instead
	buffer     buffer   // what it hears directly waits there, if need be
	mix        *mix     // of its inputs and its own voice; nil: they are fewer than two
	own        *feed    // its own voice
	apart      apart
	sharing    sharing
	heard      *dsp.Concealer
	joined     samples
	player     player
	ended      bool // the player's sound was sent to its end
	pause      pause
	made       made
	missed     missing
	dropped    *dropped // the engine's
	delays     delays
	packets    packets
	sendKey    func(digit byte, duration time.Duration) // by SIP INFO; nil: not possible
	keys       media.KeyWriter
	tone       media.ToneWriter
	tonePCM    samples
	dialled    dialled
	key        byte  // being sent
	keyPos     int64 // its timestamp
	keyClock   uint32
	queue      []media.Key // keyQueue; nil until the first
	queued     int
	keysLost   uint64
	suppressed uint64 // frames not heard because a key was being sent
}

// input is one source at a bridge: it takes the source's voice and keys.
type input struct {
	down  *downlink
	src   *media.Source
	feed  *feed        // nil: the source has no audio that we understand
	track *media.Track // feed's
	rate  int          // at which it listens to feed
	codec media.Speech // of track; a phone that speaks the same has the packets as they are

	listens bool // it has feed's frames; under Bridge.mu

	// Under down.mu.
	gone      bool
	muted     bool
	forwarded forwarded
}

// WriteKey queues a key of the source for the phone. It implements media.KeySink.
func (in *input) WriteKey(k media.Key) { in.down.queueKey(in, k) }

// hear takes a frame of the source's voice. It implements listener.
func (in *input) hear(f frame, now time.Time) { in.down.hear(in, f, now) }

// rate is how many samples of what the phone hears make a second.
func (d *downlink) rate() int { return d.media.Speech.Rate() }

// open makes what depends on the codec. It is called once before anything else.
func (d *downlink) open(m media.PortMedia, cfg Config) error {
	d.cfg, d.media = cfg, m
	d.line.out, d.line.rate = d, int64(d.rate())
	d.heard = dsp.NewConcealer(d.rate())
	return d.coder.use(m.Speech, cfg)
}

// update applies a new agreement. True: the phone has to listen anew, at another rate or to packets.
func (d *downlink) update(m media.PortMedia) (anew bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m.Send && !d.media.Send {
		d.line.marked = false // a phone that was on hold may have forgotten our clock
	}
	d.flush()
	return d.agree(m)
}

// agree takes a new agreement over. d.mu is held.
func (d *downlink) agree(m media.PortMedia) (anew bool, err error) {
	if err := d.coder.use(m.Speech, d.cfg); err != nil {
		return false, err
	}
	anew = m.Speech != d.media.Speech
	if m.Speech.Rate() != d.rate() {
		d.line.pace(int64(m.Speech.Rate()))
		d.flush()
		d.heard = dsp.NewConcealer(m.Speech.Rate())
		d.player.wide, d.mixing = nil, false
		d.buffer = buffer{}
	}
	d.tell(-1)
	d.media = m
	d.tell(1)
	return anew, nil
}

// add lets in be heard.
func (d *downlink) add(in *input) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inputs = append(d.inputs, in)
	if d.picked == nil && !in.muted {
		d.pick(in)
	}
}

// remove ends what add began.
func (d *downlink) remove(in *input) {
	d.mu.Lock()
	defer d.mu.Unlock()
	in.gone = true
	for i, other := range d.inputs {
		if other == in {
			d.inputs = append(d.inputs[:i], d.inputs[i+1:]...)
			d.lose(in)
			return
		}
	}
}

// mute leaves in's voice out, at once, or lets it in again.
func (d *downlink) mute(in *input, muted bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if in.muted == muted {
		return
	}
	if in.muted = muted; muted {
		d.lose(in)
	} else if d.picked == nil {
		d.pick(in)
	}
}

// lose picks another one in place of in.
func (d *downlink) lose(in *input) {
	if d.picked != in {
		return
	}
	d.heard.Stop() // nothing of it is made up from now on
	d.pickAny()
}

// pickAny picks one that may be heard; nobody if there is none.
func (d *downlink) pickAny() {
	for _, in := range d.inputs {
		if !in.muted {
			d.pick(in)
			return
		}
	}
	d.pick(nil)
}

// pick lets the phone hear one voice directly, from its next frame on.
func (d *downlink) pick(in *input) {
	if d.picked == in {
		return
	}
	d.tell(-1)
	d.picked = in
	d.tell(1)
	d.buffer.on = false
	d.line.detach()
}

// tell adds the phone to those who hear the voice that is picked directly, or takes it off again with -1.
func (d *downlink) tell(by int32) {
	if d.picked == nil {
		d.plain = false
		return
	}
	if by > 0 {
		d.plain = d.picked.codec == d.media.Speech
	}
	d.picked.feed.direct.Add(by)
	if d.plain {
		d.picked.feed.plain.Add(by)
	}
}

// seam lets what comes next grow out of what was heard last: another voice takes over, or another way to hear the same.
func (d *downlink) seam() { d.heard.Break() }

// use changes the mix that the phone hears when it hears several.
func (d *downlink) use(m *mix) (before *mix) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before, d.mix = d.mix, m
	switch {
	case !d.mixing:
	case m != nil && m.follow(before):
		d.seam()
	default:
		d.heard.Stop() // somebody who must not be heard any more is missing from it
	}
	if m != nil {
		return before
	}
	mixed := d.mixing
	d.stopMixing()
	if d.picked == nil {
		d.pickAny() // whoever is left is not decoded for us any more: nothing else would tell that it speaks
	}
	if mixed {
		d.goOn(before, d.now())
	}
	return before
}

func (d *downlink) stopMixing() {
	if d.mixing {
		d.mixing = false
		d.line.detach()
		d.seam()
	}
}

// goOn lets the phone hear the voice that is picked on from where a mix was.
func (d *downlink) goOn(m *mix, now time.Time) {
	if d.picked != nil && !d.plain && m.rate == d.rate() {
		m.handBack(d.picked, &d.buffer, now)
	}
}

// hear takes a frame of in.
func (d *downlink) hear(in *input, f frame, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f.concealed && in == d.picked {
		d.made.up += uint64(len(f.pcm))
	}
	if in.feed.woke && d.mix != nil && in.rate == d.rate() {
		d.mix.wake(in.feed, now)
	}
	if d.closed || d.mixes() || in.gone || in.muted || in.rate != d.rate() {
		return
	}
	if in != d.picked {
		if d.picked != nil && (d.picked.feed.speaks(now) || !in.feed.speaks(now)) {
			return // if both are to be heard the next tick mixes them
		}
		d.pick(in)
		d.seam()
	}
	switch {
	case d.player.active():
		d.hasten() // a sound takes its place; it is mapped anew afterwards
	case in.codec == d.media.Speech:
		// It gets the packets.
	case d.keys.Active():
		d.hasten()
		d.suppressed++
	default:
		if f.codes != nil && d.shares(f.pcm) {
			d.share(f.codes, f.pcm)
		}
		d.direct(f, now)
		d.sharing.withdraw()
	}
}

// choose says how the phone hears its voices from this tick on.
func (d *downlink) choose(now time.Time) {
	if d.mix == nil {
		return // one voice at most: it is picked
	}
	if d.mix.decide(now) {
		if !d.mixing {
			d.mixing, d.apart.on = true, false
			d.recall()
			d.mix.takeOver(d.picked, &d.buffer)
			d.seam()
		}
		return
	}
	one := d.picked
	for _, in := range d.inputs {
		if !in.muted && in.feed.speaks(now) {
			one = in
		}
	}
	switch {
	case d.mixing:
		d.pick(one)
		d.stopMixing()
		d.goOn(d.mix, now)
	case one != d.picked:
		d.pick(one)
		d.seam()
	}
}

// recall lets what comes next grow out of what was heard directly, where that was a source's packets: nobody has seen their sound.
func (d *downlink) recall() {
	if !d.plain {
		return
	}
	recent := d.mix.recent(d.picked.feed, d.joined.of(recentMost))
	d.heard.Reset()
	d.heard.Good(recent)
	d.coder.miss(recent)
}

// mixes says that the phone hears a mix, or does so from its next tick on.
func (d *downlink) mixes() bool { return d.mixing || d.mix != nil && d.mix.heard.Load() }

// goOver comes before tick, for all phones: who goes over to a mix at now does it here, before that is made.
func (d *downlink) goOver(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		d.choose(now)
	}
}

// tick makes 20 ms of what the clock must make: a key, a mix, what takes the place of what is overdue.
func (d *downlink) tick(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	d.choose(now)
	switch {
	case d.keyStep(now):
	case d.player.active():
		d.line.clocked(d.play(), now)
		if d.ended {
			d.ended = false
			d.heard.Stop()
		}
	case d.mixing:
		d.mixed20(now)
	case d.buffer.on:
		d.buffered(now)
	default:
		patience := overdue
		if d.plain {
			patience = forwardGap
		}
		d.line.fill(now, patience)
	}
}

// mixed20 sends 20 ms of the mix.
func (d *downlink) mixed20(now time.Time) {
	m := d.mix
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tick(now)
	d.pick(nil) // whom it heard directly is in the mix now
	pcm, shared := m.without(d.own, &d.apart)
	if shared && d.shares(pcm) {
		d.share(&m.codes, pcm)
	}
	d.made.up += m.made
	d.miss(m.dropped(d.own))
	d.line.clocked(pcm, now)
	d.sharing.withdraw()
}

// share lets the phone have a packet that others hear, too, as it is encoded for them.
func (d *downlink) share(c *codes, pcm []int16) {
	payload, of := c.encoded(d.media.Speech, d.cfg, d.lost, int(d.pressure.Load()), pcm)
	d.sharing.offer(pcm, payload, of)
}

// shares says whether some sound becomes one packet, as it is.
func (d *downlink) shares(pcm []int16) bool {
	return d.media.Send && d.line.n == 0 && d.packets.n == 0 && packetSamples(d.media) == len(pcm) && !d.heard.Merging()
}

// sound lets what is sent grow out of what was made up before it. It implements timelineOut.
func (d *downlink) sound(pcm []int16) []int16 {
	if d.heard.Merging() {
		joined := d.joined.of(len(pcm))
		pcm = joined[:copy(joined, pcm)] // it may be others' too
	}
	d.heard.Good(pcm)
	d.made.all += uint64(len(pcm))
	return pcm
}

// missing makes up for sound that did not come. It implements timelineOut.
func (d *downlink) missing(pcm []int16) {
	sound := d.heard.Lost(pcm)
	d.pause.empty = !sound && len(pcm) == d.line.frame()
	if sound && d.picked != nil && d.picked.feed.active.Load() {
		d.made.all += uint64(len(pcm))
		d.made.up += uint64(len(pcm))
	}
}

// close lets nothing be sent any more.
func (d *downlink) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.pick(nil)
}

func (d *downlink) stats(s *BridgeStats) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s.Fillers, s.Suppressed, s.KeysLost = d.line.fillers, d.suppressed, d.keysLost
	s.LateToPhone, s.Skipped = d.line.late+d.missed.late, d.line.skipped
	s.Overflow = d.missed.overflow
}
