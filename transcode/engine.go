// Package transcode joins phones to browsers: G.711 to Opus and back, the mix of several voices, DTMF keys.
package transcode

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hraban/opus"
	"golang.org/x/sync/errgroup"

	"tandem/media"
)

// Config is how phones' voices are encoded for browsers. The zero value is usable.
type Config struct {
	OpusComplexity int  // 1 to 10; 0: 5
	Bitrate        int  // bit/s; 0: 24000
	NoFEC          bool // do not send each frame again, smaller, in the next packet (RFC 6716 §2.1.7)
	ExpectedLoss   int  // percent of the packets, what FEC is made for; 0: 10
}

// check tells, before there is an encoder, what libopus would refuse.
func (c Config) check() error {
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

// encoder makes an encoder for a phone's voice.
func (c Config) encoder() (*opus.Encoder, error) {
	enc, err := opus.NewEncoder(8000, 1, opus.AppVoIP)
	if err != nil {
		return nil, fmt.Errorf("opus encoder: %w", err)
	}
	complexity, bitrate, loss := c.OpusComplexity, c.Bitrate, c.ExpectedLoss
	if complexity == 0 {
		complexity = 5
	}
	if bitrate == 0 {
		bitrate = 24000
	}
	if loss == 0 {
		loss = 10
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

	mu    sync.Mutex
	feeds map[*media.Track]*feed
}

// shard is the part of the bridges that one goroutine clocks.
type shard struct {
	bridges media.Fanout[*Bridge]
	wake    chan struct{} // has a value when a bridge was added since the shard slept
}

// NewEngine makes an engine. Until Run, bridges carry what comes, but nothing that needs a clock: no silence, no mix,
// no keys towards phones.
func NewEngine(cfg Config, log *slog.Logger) *Engine {
	e := &Engine{
		cfg:    cfg,
		log:    log,
		now:    time.Now,
		shards: make([]shard, runtime.GOMAXPROCS(0)),
		feeds:  make(map[*media.Track]*feed),
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
			e.shards[i].run(ctx)
			return nil
		})
	}
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
func (s *shard) run(ctx context.Context) {
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

// tick lets every bridge make its 20 ms.
func (s *shard) tick(at time.Time) {
	for _, b := range s.bridges.All() {
		b.tick(at)
	}
}

// listen lets in have the voice of its source's audio track: of the phone that publishes it, or of a decoder that all
// listeners share.
func (e *Engine) listen(in *input, track *media.Track) error {
	f, fresh, err := e.acquire(track)
	if err != nil {
		return err
	}
	in.track, in.feed = track, f
	f.listeners.Add(in)
	if fresh {
		track.Add(f.decoder)
	}
	return nil
}

func (e *Engine) acquire(track *media.Track) (f *feed, fresh bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f = e.feeds[track]
	if f == nil {
		f = &feed{}
		if f.decoder, err = newDecoder(f, e.now); err != nil {
			return nil, false, err
		}
		e.feeds[track], fresh = f, true
	}
	f.refs++
	return f, fresh, nil
}

// leave ends what listen began; the last listener's leaving ends the decoder.
func (e *Engine) leave(in *input) {
	in.feed.listeners.Remove(in)
	if e.give(in) {
		in.track.Remove(in.feed.decoder)
	}
}

// give says whether a shared decoder is not needed any more.
func (e *Engine) give(in *input) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	in.feed.refs--
	if in.feed.refs > 0 || in.feed.decoder == nil {
		return false
	}
	delete(e.feeds, in.track)
	return true
}

// offer makes a phone's own voice known, so that other phones hear it without Opus between.
func (e *Engine) offer(track *media.Track, f *feed) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.feeds[track] = f
}

// withdraw ends what offer began.
func (e *Engine) withdraw(track *media.Track) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.feeds, track)
}
