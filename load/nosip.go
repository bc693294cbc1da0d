package load

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"
)

// PassthroughConfig is a comparison of sessions without codecs with Janus's NoSIP plugin. The zero value is usable.
type PassthroughConfig struct {
	Gateway  []string      // how this program is called; empty: as it was
	Calls    []int         // held by each, one number after the other; empty: 20, and 100
	Duration time.Duration // of each hold; 0: 6 s
	Rounds   int           // how often each is measured, in turn; 0: 3
}

// mostOfNosip is what is to be reached of the CPU that Janus takes.
const mostOfNosip = 0.75

// startNosip starts Janus for calls that are relayed: PCMU over RTP to the phone, over WebRTC to the browser.
func (b *bench) startNosip(ctx context.Context, dir string) error {
	j, err := b.startJanus(ctx, dir)
	if err != nil {
		return err
	}
	b.rival = j
	b.connect = func(ctx context.Context, c *pair, far *peerEnd) error { return j.relay(ctx, c.phone, far) }
	return nil
}

// relay has the browser offer, passes that on to the phone, and the phone's answer back.
func (j *janus) relay(ctx context.Context, p *phone, far *peerEnd) error {
	handle, err := j.attach(ctx, nosip)
	if err != nil {
		return err
	}
	offer, err := far.offer(ctx)
	if err != nil {
		return err
	}
	var generated struct {
		Result struct {
			SDP string `json:"sdp"`
		} `json:"result"`
	}
	if _, err := j.ask(ctx, handle, map[string]any{"request": "generate"}, offer, &generated); err != nil {
		return err
	}
	toPhone, err := remoteRTP([]byte(generated.Result.SDP))
	if err != nil {
		return err
	}
	p.remote.Store(&toPhone)
	answer, err := j.ask(ctx, handle, map[string]any{"request": "process", "type": "answer", "sdp": string(p.sdp())}, nil, nil)
	if err != nil {
		return err
	}
	if answer == nil {
		return fmt.Errorf("load: Janus has no answer for the browser: %w", errEnded)
	}
	return far.accept(ctx, answer.SDP)
}

// setUpPeer brings up one call of a gateway with browsers.
func (b *bench) setUpPeer(ctx context.Context, c *pair) error {
	ctx, cancel := context.WithTimeout(ctx, setupLimit)
	defer cancel()
	codec := opusCodec()
	if b.cfg.Passthrough {
		codec = plainCodec()
	}
	far, err := newPeerEnd(b.browsers(), codec, b.start, c.toBrowser)
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.peers = append(b.peers, far)
	b.mu.Unlock()
	begun := time.Now()
	if err := b.connect(ctx, c, far); err != nil {
		return err
	}
	if err := setLevel(&far.packet, far.line, c.level); err != nil {
		return err
	}
	b.mu.Lock()
	b.setups = append(b.setups, time.Since(begun))
	b.mu.Unlock()
	c.far = far
	c.live.Store(true)
	return nil
}

// RunPassthrough holds calls whose both ends speak PCMU over our gateway and over Janus, and prints what each costs.
func RunPassthrough(ctx context.Context, cfg PassthroughConfig, out io.Writer) error {
	if len(cfg.Calls) == 0 {
		cfg.Calls = []int{20, 100}
	}
	if cfg.Duration == 0 {
		cfg.Duration = 6 * time.Second
	}
	if cfg.Rounds == 0 {
		cfg.Rounds = 3
	}
	var err error
	if cfg.Gateway, err = programOr(cfg.Gateway); err != nil {
		return err
	}
	if moved, err := moveIn(ctx, out); moved {
		return err
	}
	if err := pinSelf(ctx, os.Getpid()); err != nil {
		return err
	}
	var missing string
	if !isolated() {
		missing = missingJanus(ctx)
	}
	var all []*contender // pairs of ours and Janus
	for _, calls := range cfg.Calls {
		all = append(all,
			&contender{name: "Tandem, passthrough", kind: ours, calls: calls, plain: true, again: true},
			&contender{name: "Janus, nosip", kind: viaNosip, calls: calls, plain: true, again: true, missing: missing})
	}
	run := RivalConfig{Gateway: cfg.Gateway, Duration: cfg.Duration, Rounds: cfg.Rounds}
	if err = measureRounds(ctx, run, plainSounds(), all); err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := lines(w)
	line("held for %v each, medians of %d runs; both ends speak PCMU, the browser is one of Pion", cfg.Duration, cfg.Rounds)
	printHeld(line, all)
	for pair := range slices.Chunk(all, 2) {
		printRatio(line, fmt.Sprintf("CPU against Janus nosip, %d calls", pair[0].calls), pair[0].cpu(), pair[1].cpu(), mostOfNosip)
	}
	printStarved(line, all)
	if err := w.Flush(); err != nil {
		return fmt.Errorf("load: print: %w", err)
	}
	return nil
}

// moveIn runs this program once more in a network namespace, if that is what Janus needs and can be had; then that was it.
func moveIn(ctx context.Context, out io.Writer) (moved bool, err error) {
	if isolated() || !hasJanus() || !canIsolate(ctx) {
		return false, nil
	}
	return true, inNamespace(ctx, out, os.Args...)
}

// missingJanus is why nothing is measured of it.
func missingJanus(ctx context.Context) string {
	if !hasJanus() {
		return notInstalled
	}
	if !canIsolate(ctx) {
		return "not measured: it needs a network namespace (unshare, ip), which cannot be made here"
	}
	return ""
}
