package load

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/pion/webrtc/v4"
)

const (
	settleTime = time.Second     // between the last call being up and the hold
	firstTime  = 5 * time.Second // that the first call is alone: by then a gateway has given back what setting it up took
	drainTime  = maxDelay + 200*time.Millisecond
)

// bench is a run while it lasts.
type bench struct {
	cfg     Config
	out     io.Writer
	start   time.Time
	far     *farEnd
	child   *child
	rest    *rest
	ws      string
	pairs   []*pair
	rooms   []*room
	mu      sync.Mutex // guards all down to peers
	setups  []time.Duration
	ends    []*srtpEnd // of the calls over plain
	readers sync.WaitGroup

	peers []*peerEnd // of those over connect

	plain   plainGateway                                 // a gateway that is not ours, with SRTP ends; nil: it has none
	connect func(context.Context, *pair, *peerEnd) error // sets up a call of one that has browsers; nil: it has none
	rival   *janus                                       // whose API is open until the run is over; nil: none
	party   bool                                         // everybody is in one session, and few speak: the browsers tell how loud they are
	check   func(*bench) error                           // of what was heard; nil: none
	prepare func(int, *pair) error                       // nil, or what is special about one call

	from, to time.Duration // the hold
}

// Run starts the gateway, holds the calls, takes everything down and prints what it found. The error says why there is
// no result; lost packets are a result.
func Run(ctx context.Context, cfg Config, out io.Writer) (Result, error) {
	if err := cfg.defaults(); err != nil {
		return Result{}, err
	}
	sounds, err := newSounds()
	if err != nil {
		return Result{}, err
	}
	dir, err := os.MkdirTemp("", "tandem-bench-")
	if err != nil {
		return Result{}, fmt.Errorf("load: temporary directory: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	b := &bench{cfg: cfg, out: out, start: time.Now()}
	r, err := b.run(ctx, sounds, dir)
	if err != nil {
		return r, err
	}
	return r, r.print(out, cfg.JSON)
}

// run starts our gateway, measures, and ends it.
func (b *bench) run(ctx context.Context, sounds *sounds, dir string) (r Result, err error) {
	cfg := b.cfg
	if b.far, err = newFarEnd(ctx, cfg.Log); err != nil {
		return Result{}, err
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := b.far.serve(); err != nil {
			cfg.Log.Debug("load: far end", "err", err)
		}
	})
	defer serving.Wait()
	defer b.far.close()
	if err := b.startGateway(ctx, dir); err != nil {
		return Result{}, err
	}
	defer b.child.stop()
	if r, err = b.measure(ctx, sounds); err != nil {
		return r, fmt.Errorf("%w\nthe gateway's log ends with:\n%s", err, b.child.tail())
	}
	return r, nil
}

// browsers says of what kind those of the run are, but for what they lose.
func (b *bench) browsers() peerKind {
	if b.party {
		return peerKind{level: true, voice: []webrtc.RTPCodecParameters{opusCodec()}}
	}
	if b.cfg.Passthrough {
		return peerKind{voice: []webrtc.RTPCodecParameters{opusCodec(), plainCodec()}}
	}
	return opusPeers(nil)
}

func (b *bench) say(format string, args ...any) {
	if !b.cfg.JSON && b.out != nil {
		_, _ = fmt.Fprintf(b.out, format+"\n", args...) // progress only
	}
}

func (b *bench) startGateway(ctx context.Context, dir string) error {
	path, addr, _, err := gatewayConfig(ctx, dir, "sip:"+b.far.addr.String()+";transport=udp", b.cfg)
	if err != nil {
		return err
	}
	argv := append(pinned(b.cfg.Pinned), append(slices.Clone(b.cfg.Gateway), "--config", path)...)
	if b.child, err = startChild(ctx, argv, "http://"+addr, filepath.Join(dir, "gateway.log")); err != nil {
		return err
	}
	b.rest, b.ws = newREST("http://"+addr), "ws://"+addr
	return nil
}

// measure is the run from the ready gateway on.
func (b *bench) measure(ctx context.Context, sounds *sounds) (Result, error) {
	if b.rest != nil {
		defer b.rest.client.CloseIdleConnections()
	}
	r := Result{Calls: b.cfg.Calls, Seconds: b.cfg.Duration.Seconds(), DropPercent: b.cfg.DropPercent, StartMs: ms(b.child.ready)}
	if err := b.watchIdle(ctx, &r); err != nil {
		return r, err
	}
	if err := b.makePairs(); err != nil {
		return r, err
	}
	p := &pacer{
		pairs: b.pairs, sounds: sounds, drop: b.cfg.DropPercent / 100, start: b.start,
		rng: rand.New(rand.NewPCG(uint64(b.start.UnixNano()), 1)),
	}
	p.lateSince.Store(int64(time.Hour * 24))
	pacing, stop := context.WithCancel(ctx)
	var pacers sync.WaitGroup
	pacers.Go(func() { p.run(pacing) })
	from, to, err := b.hold(ctx, p, &r)
	stop()
	pacers.Wait()
	b.tearDown(ctx)
	if err != nil {
		return r, err
	}
	r.PacerLateMaxMs = ms(p.late)
	b.from, b.to = from, to
	if b.check != nil {
		if err := b.check(b); err != nil {
			return r, err
		}
	}
	if b.prepare != nil { // what they said has no marks
		return r, nil
	}
	return r, b.analyse(&r, from, to)
}

// watchIdle measures the gateway before it has anything to do.
func (b *bench) watchIdle(ctx context.Context, r *Result) error {
	b.say("the gateway is ready after %.0f ms; watching it idle for %v", r.StartMs, b.cfg.Idle)
	if err := sleep(ctx, settleTime); err != nil {
		return err
	}
	before, err := processUsage(b.child.pid())
	if err != nil {
		return err
	}
	if err := sleep(ctx, b.cfg.Idle); err != nil {
		return err
	}
	idle, err := processUsage(b.child.pid())
	if err != nil {
		return err
	}
	r.IdleRSSMB = mb(idle.rss)
	r.IdleCPUPct = 100 * (idle.cpu - before.cpu).Seconds() / b.cfg.Idle.Seconds()
	return nil
}

// hold sets the calls up and keeps them. It returns the time between which packets count.
func (b *bench) hold(ctx context.Context, p *pacer, r *Result) (from, to time.Duration, err error) {
	if err := b.ramp(ctx, b.pairs[:1]); err != nil {
		return 0, 0, err
	}
	if err := sleep(ctx, firstTime); err != nil {
		return 0, 0, err
	}
	first, err := processUsage(b.child.pid())
	if err != nil {
		return 0, 0, err
	}
	if err := b.ramp(ctx, b.pairs[1:]); err != nil {
		return 0, 0, err
	}
	if err := b.waitHeard(ctx); err != nil {
		return 0, 0, err
	}
	if err := b.waitNarrow(ctx); err != nil {
		return 0, 0, err
	}
	if err := sleep(ctx, settleTime); err != nil {
		return 0, 0, err
	}
	b.say("%d calls are up; holding them for %v", b.cfg.Calls, b.cfg.Duration)
	heardBefore := b.heard()
	decodedBefore, err := b.decoded(ctx)
	if err != nil {
		return 0, 0, err
	}
	before, err := processUsage(b.child.pid())
	if err != nil {
		return 0, 0, err
	}
	own := ownCPU()
	from = time.Since(b.start)
	p.lateSince.Store(int64(from))
	if err := sleep(ctx, b.cfg.Duration); err != nil {
		return 0, 0, err
	}
	to = time.Since(b.start)
	after, err := processUsage(b.child.pid())
	if err != nil {
		return 0, 0, err
	}
	heard := b.heard()
	decoded, err := b.decoded(ctx)
	if err != nil {
		return 0, 0, err
	}
	seconds := (to - from).Seconds()
	r.PhonesHeard, r.BrowsersHeard = heard[0]-heardBefore[0], heard[1]-heardBefore[1]
	r.Decoders = (decoded - decodedBefore) * packetTime.Seconds() / seconds
	r.CPUMsPerCallSecond = (after.cpu - before.cpu).Seconds() * 1000 / seconds / float64(b.cfg.Calls)
	r.CPUPct = 100 * (after.cpu - before.cpu).Seconds() / seconds
	r.OwnCPUPct = 100 * (ownCPU() - own).Seconds() / seconds
	r.HoldRSSMB = mb(after.rss)
	if more := b.cfg.Calls - 1; more > 0 {
		r.RSSPerCallKB = float64(after.rss-first.rss) / 1024 / float64(more)
	}
	return from, to, sleep(ctx, drainTime)
}

// analyse reads what was recorded; every goroutine that wrote it has ended.
func (b *bench) analyse(r *Result, from, to time.Duration) error {
	m := newMarks()
	var toBrowser, toPhone []time.Duration
	for _, c := range b.pairs {
		decode, err := newBrowserDecoder()
		if err != nil {
			return err
		}
		if b.cfg.Passthrough {
			decode = decodePhone
		}
		var one FlowResult
		one, toBrowser = c.toBrowser.analyse(m, decode, from, to, toBrowser)
		r.ToBrowser.add(one)
		one, toPhone = c.toPhone.analyse(m, decodePhone, from, to, toPhone)
		r.ToPhone.add(one)
	}
	r.ToBrowser.finish(toBrowser)
	r.ToPhone.finish(toPhone)
	slices.Sort(b.setups)
	r.SetupP50Ms, r.SetupP99Ms = ms(percentile(b.setups, 50)), ms(percentile(b.setups, 99))
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("load: stopped: %w", ctx.Err())
	}
}

func mb(bytes int64) float64 { return float64(bytes) / (1 << 20) }
