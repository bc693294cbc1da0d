// Package transcode joins phones to browsers: G.711 to Opus and back, the mix of several voices, DTMF keys.
package transcode

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hraban/opus"
	"golang.org/x/sync/errgroup"

	"tandem/dsp"
	"tandem/media"
)

// Config is how phones' voices are encoded for browsers. The zero value is usable.
type Config struct {
	OpusComplexity int  // 1 to 10; 0: 5 for wideband, and of narrowband 1 where sound begins, 0 elsewhere. Under load it is less
	Bitrate        int  // bit/s; 0: 32000, and 48000 for wideband
	NoFEC          bool // do not send each frame again, smaller, in the next packet (RFC 6716 §2.1.7)
	ExpectedLoss   int  // percent of the packets, what FEC is made for at least. What listeners report counts if it is more
	DTX            bool // send next to nothing while a phone is silent
}

// complexity is what the sound of a rate is encoded with, but for what voiceEncoder saves. Of narrowband speech as much is understood at 1 as
// at 10, for a third of the CPU; of wideband speech more from 4 on (docs/performance.md).
func (c Config) complexity(rate int) int {
	switch {
	case c.OpusComplexity != 0:
		return c.OpusComplexity
	case rate == wide:
		return 5
	}
	return 1
}

func (c Config) bitrate(rate int) int {
	switch {
	case c.Bitrate != 0:
		return c.Bitrate
	case rate == wide:
		return 48000
	}
	return 32000
}

// Check tells, before there is an encoder, what libopus would refuse.
func (c Config) Check() error {
	switch {
	case c.OpusComplexity < 0 || c.OpusComplexity > 10:
		return fmt.Errorf("opus complexity is %d: want 1 to 10", c.OpusComplexity)
	case c.Bitrate < 0 || c.Bitrate > 0 && c.Bitrate < 500:
		return fmt.Errorf("opus bitrate is %d: want 500 bit/s or more", c.Bitrate)
	case c.ExpectedLoss < 0 || c.ExpectedLoss > 100:
		return fmt.Errorf("opus expected loss is %d: want up to 100 percent", c.ExpectedLoss)
	}
	return nil
}

// encoder makes an encoder of sound at a rate.
func (c Config) encoder(rate int, app opus.Application) (*opus.Encoder, error) {
	enc, err := opus.NewEncoder(rate, 1, app)
	if err != nil {
		return nil, fmt.Errorf("opus encoder: %w", err)
	}
	complexity, bitrate, loss := c.complexity(rate), c.bitrate(rate), c.ExpectedLoss
	if err := enc.SetDTX(c.DTX); err != nil {
		return nil, fmt.Errorf("opus DTX: %w", err)
	}
	if err := enc.SetComplexity(complexity); err != nil {
		return nil, fmt.Errorf("opus complexity %d: %w", complexity, err)
	}
	if err := enc.SetBitrate(bitrate); err != nil {
		return nil, fmt.Errorf("opus bitrate %d: %w", bitrate, err)
	}
	if c.NoFEC {
		return enc, nil
	}
	if err := enc.SetInBandFEC(true); err != nil {
		return nil, fmt.Errorf("opus FEC: %w", err)
	}
	if err := enc.SetPacketLossPerc(loss); err != nil {
		return nil, fmt.Errorf("opus expected loss %d: %w", loss, err)
	}
	return enc, nil
}

const (
	// catchUp is how many missed ticks are made up for; after a longer stop of the process the clock begins anew.
	catchUp = 25
)

// Engine owns the clock of all bridges and the decoders that they share.
type Engine struct {
	cfg    Config
	log    *slog.Logger
	now    func() time.Time
	shards []shard
	next   atomic.Uint32 // shard of the next bridge

	pressure atomic.Int32 // of the load; see policy.go
	dropped  dropped
	wakes    wakes
	used     func() time.Duration // CPU by this process
	cores    int                  // that it may use

	mu     sync.Mutex
	feeds  map[*media.Track]*feed
	mixes  map[string]*mix
	lastID uint64
	gone   uint64 // packets that decoders decoded which are no more
}

// shard is the part of the bridges that one goroutine clocks.
type shard struct {
	bridges media.Fanout[*Bridge]
	wake    chan struct{} // has a value when a bridge was added since the shard slept
}

// NewEngine makes an engine. Until Run, bridges carry what comes, but nothing that needs a clock: no silence, no mix,
// no keys towards phones.
func NewEngine(cfg Config, log *slog.Logger) *Engine {
	cores := runtime.GOMAXPROCS(0)
	e := &Engine{
		cfg:    cfg,
		log:    log,
		now:    time.Now,
		used:   cpuTime,
		cores:  cores,
		shards: make([]shard, cores),
		feeds:  make(map[*media.Track]*feed),
		mixes:  make(map[string]*mix),
	}
	for i := range e.shards {
		e.shards[i].wake = make(chan struct{}, 1)
	}
	return e
}

// Run drives the clock, one goroutine for each core, until ctx ends; then it returns nil.
func (e *Engine) Run(ctx context.Context) error {
	var g errgroup.Group
	for i := range e.shards {
		g.Go(func() error {
			e.shards[i].run(ctx, &e.wakes)
			return nil
		})
	}
	g.Go(func() error {
		e.watchCPU(ctx.Done())
		return nil
	})
	return g.Wait()
}

// add gives the shard a bridge to clock.
func (s *shard) add(b *Bridge) {
	s.bridges.Add(b)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run ticks at absolute deadlines, so that no delay adds up. Without a bridge it sleeps.
func (s *shard) run(ctx context.Context, wakes *wakes) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	next := time.Now()
	for {
		if s.bridges.Len() == 0 {
			select {
			case <-ctx.Done():
				return
			case <-s.wake:
			}
			next = time.Now()
			timer.Reset(0)
		}
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		now := time.Now()
		wakes.woke(now.Sub(next))
		if now.Sub(next) > catchUp*frameTime {
			next = now
		}
		for !next.After(now) {
			s.tick(next)
			next = next.Add(frameTime)
		}
		timer.Reset(time.Until(next))
	}
}

// tick lets every bridge make its 20 ms, but for those that went to another shard meanwhile. Who goes over to a mix brings what waits
// before anybody has the mix made.
func (s *shard) tick(at time.Time) {
	all := s.bridges.All()
	for _, b := range all {
		if b.shard.Load() == s {
			b.goOver(at)
		}
	}
	for _, b := range all {
		if b.shard.Load() == s {
			b.tick(at)
		}
	}
}

// acquire returns the voice of a track: of the phone that publishes it, or of a decoder that all listeners share. It must be
// released.
func (e *Engine) acquire(track *media.Track) (*feed, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f := e.feeds[track]
	if f == nil {
		f = &feed{id: e.newID()}
		var err error
		if f.decoder, err = newDecoder(f, track, &e.dropped, e.now); err != nil {
			return nil, err
		}
		e.feeds[track] = f
		f.attach()
	}
	f.refs++
	return f, nil
}

// attach lets a shared decoder have its track's packets, and the publisher know whether all who hear it are at 8 kHz.
// Engine.mu is held.
func (f *feed) attach() {
	switch {
	case f.decoder == nil || f.closed:
	case f.wide.Len() > 0:
		f.decoder.track.Add(f.decoder)
	default:
		f.decoder.track.AddNarrow(f.decoder)
	}
}

// newID numbers the voices. e.mu is held.
func (e *Engine) newID() uint64 {
	e.lastID++
	return e.lastID
}

// release ends what acquire began; the last listener's release ends the decoder.
func (e *Engine) release(track *media.Track) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.releaseLocked(track)
}

func (e *Engine) releaseLocked(track *media.Track) {
	f := e.feeds[track]
	if f == nil { // of a phone that is gone
		return
	}
	if f.refs--; f.refs > 0 || f.decoder == nil {
		return
	}
	delete(e.feeds, track)
	f.closed = true
	track.Remove(f.decoder)
	e.gone += f.decoder.decoded.Load()
}

// Decoded counts the packets of browsers that were decoded for phones, each once for all who hear it.
func (e *Engine) Decoded() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := e.gone
	for _, f := range e.feeds {
		if f.decoder != nil {
			all += f.decoder.decoded.Load()
		}
	}
	return all
}

// listen gives in the frames of its feed.
func (e *Engine) listen(in *input, rate int) {
	in.down.mu.Lock()
	in.rate = rate
	in.down.mu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	in.feed.at(rate).Add(in)
	in.feed.attach()
}

// ignore ends what listen began.
func (e *Engine) ignore(in *input) {
	e.mu.Lock()
	defer e.mu.Unlock()
	in.feed.at(in.rate).Remove(in)
	in.feed.attach()
}

// offer makes a phone's own voice known, so that other phones hear it without Opus between.
func (e *Engine) offer(track *media.Track, f *feed) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f.id = e.newID()
	e.feeds[track] = f
}

// withdraw ends what offer began.
func (e *Engine) withdraw(track *media.Track) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.feeds, track)
}

// join returns the mix of the voices, together with the phone's own: those who hear the same have the same one. It must be
// parted from.
func (e *Engine) join(voices []*input, own hearer, ownTrack *media.Track, shard *shard) *mix {
	rate := own.speech.Rate()
	tracks := map[*media.Track]*feed{ownTrack: own.voice}
	for _, in := range voices {
		tracks[in.track] = in.feed
	}
	ids := make([]uint64, 0, len(tracks))
	for _, f := range tracks {
		ids = append(ids, f.id)
	}
	slices.Sort(ids)
	key := fmt.Sprint(rate, ids)

	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.mixes[key]
	if m == nil {
		m = newMix(key, rate, shard)
		for track, f := range tracks {
			f.refs++
			v := &voice{mix: m, feed: f, track: track, playout: dsp.NewPlayout(rate)}
			v.codec, _ = speechOf(track)
			m.voices = append(m.voices, v)
		}
		for _, v := range m.voices { // from now on they come
			v.feed.at(rate).Add(v)
			v.feed.attach()
		}
		e.mixes[key] = m
	}
	m.refs++
	m.mu.Lock()
	m.hearers = append(m.hearers, own)
	m.mu.Unlock()
	return m
}

// part ends what join began.
func (e *Engine) part(m *mix, own *feed) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m.mu.Lock()
	if i := slices.IndexFunc(m.hearers, func(h hearer) bool { return h.voice == own }); i >= 0 {
		m.hearers = slices.Delete(m.hearers, i, i+1)
	}
	m.mu.Unlock()
	if m.refs--; m.refs > 0 {
		return
	}
	delete(e.mixes, m.key)
	for _, v := range m.voices {
		v.feed.at(m.rate).Remove(v)
		v.feed.attach()
		e.releaseLocked(v.track)
	}
}
