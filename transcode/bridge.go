package transcode

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"tandem/media"
)

// BridgeConfig is what a bridge joins.
type BridgeConfig struct {
	Participant string          // whose phone it is
	Stream      string          // the msid under which browsers see the phone's voice
	Port        *media.Port     // its owner closes it, after the bridge
	Media       media.PortMedia // what was agreed for it
	// OnKey, if set, is told each step of the phone's DTMF keys, in order. It runs where packets are read: it must not
	// block and must not call the bridge.
	OnKey func(media.Key)
	// SendKey sends a key as SIP INFO, for phones of which Media.KeysByInfo is set. It runs on the clock: it must only post.
	SendKey func(digit byte, duration time.Duration)
	// OnFailure, if set, is told once when the bridge failed where nobody else could be told: on the goroutine that reads
	// packets, or on the clock. The bridge does nothing from then on. It must only post.
	OnFailure func()
}

// Bridge is the phone leg of a participant: an endpoint of its session (it satisfies sessions.Endpoint) and the source
// of the phone's voice. Its methods may be called from any goroutine and do not block.
type Bridge struct {
	engine *Engine
	log    *slog.Logger
	port   *media.Port           // nil in tests that take the packets themselves
	shard  atomic.Pointer[shard] // which clocks it; changes under mu
	source *media.Source
	up     uplink
	down   downlink
	fuse   fuse

	watcher watcher
	ticks   atomic.Uint32 // of the clock; while it changes shards, of both

	mu     sync.Mutex
	closed bool
	past   media.Quality // of the ports that it left
	rate   int           // of what the phone hears
	speech media.Speech  // what the phone speaks: it gets packets of that as they are
	inputs map[*media.Source]*input
	silent map[*media.Source]bool // muted
}

// BridgeStats are the counters of a bridge.
type BridgeStats struct {
	FromPhone     uint64 // packets of audio that were used
	LateFromPhone uint64 // that came after a later one, or twice
	Malformed     uint64 // that held no G.711 of a sensible length
	Fillers       uint64 // packets of silence sent to the phone
	LateToPhone   uint64 // frames dropped because their time had passed
	Skipped       uint64 // forwarded packets left out because too much had been sent in a burst before
	Overflow      uint64 // samples dropped because too many waited
	Suppressed    uint64 // frames not heard while a key was sent
	KeysLost      uint64 // steps of keys that the phone could not take
}

// NewBridge joins a port to the engine and starts the port. The error is of the engine's Config.
func (e *Engine) NewBridge(cfg BridgeConfig) (*Bridge, error) {
	if cfg.Port == nil {
		return nil, errors.New("transcode: a bridge needs a port")
	}
	b, err := e.newBridge(cfg, cfg.Port)
	if err != nil {
		return nil, err
	}
	b.port.Update(cfg.Media)
	b.port.Start(&b.up)
	return b, nil
}

// newBridge makes a bridge that sends to any phone; who made it brings the phone's packets.
func (e *Engine) newBridge(cfg BridgeConfig, to phone) (*Bridge, error) {
	if err := e.cfg.Check(); err != nil {
		return nil, err
	}
	track := media.NewTrack("audio", media.Audio, media.BrowserOpus(), nil)
	track.Telephone = true
	b := &Bridge{
		engine: e,
		log:    e.log.With("participant", cfg.Participant, "stream", cfg.Stream),
		port:   cfg.Port,
		source: &media.Source{Participant: cfg.Participant, Stream: cfg.Stream, Tracks: []*media.Track{track}},
		inputs: make(map[*media.Source]*input),
		silent: make(map[*media.Source]bool),
	}
	b.fuse.log, b.fuse.tell = b.log, cfg.OnFailure
	b.up.fuse = &b.fuse
	b.up.source, b.up.track, b.up.feed, b.up.onKey = b.source, track, &feed{}, cfg.OnKey
	b.up.pressure, b.up.dropped = &e.pressure, &e.dropped
	b.down.pressure, b.down.dropped = &e.pressure, &e.dropped
	b.up.init(e.cfg, cfg.Media)
	b.down.phone, b.down.sendKey, b.down.own, b.down.now = to, cfg.SendKey, b.up.feed, e.now
	if err := b.down.open(cfg.Media, e.cfg); err != nil {
		return nil, err
	}
	b.watcher.paused = !cfg.Media.Send || !cfg.Media.Receive
	b.down.line.begin(e.now())

	e.offer(track, b.up.feed)
	b.rate, b.speech = cfg.Media.Speech.Rate(), cfg.Media.Speech
	s := &e.shards[int(e.next.Add(1))%len(e.shards)]
	b.shard.Store(s)
	s.add(b)
	return b, nil
}

// Source is the phone's voice and keys. It is the same for the life of the bridge.
func (b *Bridge) Source() *media.Source { return b.source }

// Subscribe lets the phone hear src and get its keys. The bridge's own source is never heard.
func (b *Bridge) Subscribe(src *media.Source) {
	if src == b.source {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.inputs[src] != nil {
		return
	}
	in := &input{down: &b.down, src: src, muted: b.silent[src]}
	b.inputs[src] = in
	if track := src.Audio(); understood(track) {
		var err error
		if in.feed, err = b.engine.acquire(track); err != nil {
			b.log.Error("a voice can't be decoded", "of", src.Participant, "error", err)
		} else {
			in.track = track
			in.codec, _ = speechOf(track)
			b.down.add(in) // first the phone's side, so that the first frame finds its place
			b.listen(in)
			b.regroup()
		}
	}
	src.AddKeys(in)
}

// regroup finds the mix of what the phone hears now: phones that hear the same, each but itself, share one. b.mu is held.
func (b *Bridge) regroup() {
	var voices []*input
	for _, in := range b.inputs {
		if in.feed != nil && !in.muted {
			voices = append(voices, in)
		}
	}
	var m *mix
	if len(voices) > 1 {
		m = b.engine.join(voices, hearer{b.up.feed, b.speech}, b.up.track, b.shard.Load())
		if before := b.shard.Swap(m.shard); before != m.shard {
			before.bridges.Remove(b)
			m.shard.add(b)
		}
	}
	for _, in := range voices {
		// Who is forwarded to and hears one voice needs none decoded.
		if wants := m != nil || in.codec != b.speech; wants != in.listens {
			b.decode(in, wants)
		}
	}
	if before := b.down.use(m); before != nil {
		b.engine.part(before, b.up.feed)
	}
}

// listen lets the phone have a source's frames, or its packets if it speaks the same codec. b.mu is held.
func (b *Bridge) listen(in *input) {
	if in.codec == b.speech {
		in.track.Add(in)
		return
	}
	b.decode(in, true)
}

// decode gives the phone a source's frames, or does no longer.
func (b *Bridge) decode(in *input, on bool) {
	if in.listens = on; on {
		b.engine.listen(in, b.rate)
	} else {
		b.engine.ignore(in)
	}
}

// ignore ends what listen and decode began. b.mu is held.
func (b *Bridge) ignore(in *input) {
	in.track.Remove(in)
	if in.listens {
		b.decode(in, false)
	}
}

// relisten lets the phone hear everybody anew, at another rate or in another way. b.mu is held.
func (b *Bridge) relisten(rate int, speech media.Speech) {
	for _, in := range b.inputs {
		if in.feed != nil {
			b.ignore(in)
		}
	}
	b.rate, b.speech = rate, speech
	for _, in := range b.inputs {
		if in.feed != nil {
			b.listen(in)
		}
	}
	b.regroup()
}

// Unsubscribe ends what Subscribe began.
func (b *Bridge) Unsubscribe(src *media.Source) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.silent, src)
	if in := b.inputs[src]; in != nil {
		b.drop(in)
		b.regroup()
	}
}

// Mute keeps src's voice from the phone, or lets it through again; its keys are not kept. It may come before Subscribe.
func (b *Bridge) Mute(src *media.Source, muted bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	if muted {
		b.silent[src] = true
	} else {
		delete(b.silent, src)
	}
	if in := b.inputs[src]; in != nil {
		b.down.mute(in, muted)
		b.regroup()
	}
}

// drop takes an input away. b.mu is held.
func (b *Bridge) drop(in *input) {
	delete(b.inputs, in.src)
	in.src.RemoveKeys(in)
	b.down.remove(in)
	if in.feed != nil {
		b.ignore(in)
		b.engine.release(in.track)
	}
}

// Update applies a new agreement with the phone: hold, another law, another address.
func (b *Bridge) Update(m media.PortMedia) {
	b.up.update(m, b.engine.now())
	b.agreed(b.down.update(m))
	b.watcher.update(m, b.engine.now())
	if b.port != nil {
		b.port.Update(m)
	}
}

// agreed follows a new agreement of the downlink.
func (b *Bridge) agreed(anew bool, err error) {
	if err != nil {
		b.fuse.trip("no encoder for a phone", "error", err)
		return
	}
	if !anew {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.relisten(b.down.rate(), b.down.media.Speech)
	}
}

// Close ends the bridge: nothing is sent or published any more. It does not close the port. It may be called more than
// once; the first cause is logged.
func (b *Bridge) Close(cause error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	b.closed = true
	b.watcher.stop()
	b.shard.Load().bridges.Remove(b)
	b.engine.withdraw(b.up.track)
	for _, in := range b.inputs {
		b.drop(in)
	}
	b.regroup()
	b.up.close()
	b.down.close()
	b.log.Debug("bridge closed", "cause", cause, "counters", b.Stats())
}

const (
	scoreEvery = 250 // ticks until the score of the sound is found again
	lookEvery  = 25  // and until its delay is looked at
)

// goOver comes before tick, for all bridges of a shard.
func (b *Bridge) goOver(now time.Time) {
	if b.fuse.blown.Load() {
		return
	}
	defer b.fuse.blow()
	b.down.goOver(now)
}

// tick makes what the clock must make.
func (b *Bridge) tick(now time.Time) {
	if b.fuse.blown.Load() {
		return
	}
	defer b.fuse.blow()
	b.up.expire(now)
	b.down.tick(now)
	b.watcher.look(now)
	ticks := b.ticks.Add(1)
	if ticks%lookEvery == 0 {
		b.down.look(now)
	}
	if ticks%tuneEvery == 0 {
		b.tune()
	}
	if ticks%scoreEvery == 0 {
		b.report()
	}
}

// tune lets the encoder of what the phone hears follow what the phone loses.
func (b *Bridge) tune() {
	lost := 0
	if port, _ := b.path(); port != nil {
		lost = port.Loss()
	}
	b.down.tune(lost)
}

// Stats returns the counters.
func (b *Bridge) Stats() BridgeStats {
	var s BridgeStats
	b.up.stats(&s)
	b.down.stats(&s)
	return s
}
