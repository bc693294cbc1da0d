package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	setupLimit   = 30 * time.Second // of one call
	flowLimit    = 15 * time.Second // until every call is heard at both ends
	flowPackets  = 25               // heard before the hold begins
	heardPoll    = 50 * time.Millisecond
	setupAtOnce  = 8
	teardownTime = 30 * time.Second
)

// room is a session of ours.
type room struct {
	once sync.Once
	id   string
	err  error
}

// enter makes the session with the first who comes.
func (r *room) enter(ctx context.Context, api *rest, passthrough bool) error {
	r.once.Do(func() { r.id, r.err = api.createSession(ctx, passthrough) })
	return r.err
}

// makePairs makes the phones and browsers, not yet connected. The far end knows the phones' numbers from now on.
func (b *bench) makePairs() error {
	ramp := time.Duration(float64(b.cfg.Calls) / b.cfg.RampPerSecond * float64(time.Second))
	packets := int((ramp + firstTime + b.cfg.Duration + flowLimit) / packetTime)
	for k := range b.cfg.Calls {
		if k%b.cfg.PerSession == 0 {
			b.rooms = append(b.rooms, &room{})
		}
		c := &pair{number: k, room: b.rooms[len(b.rooms)-1], toBrowser: b.newBrowserFlow(packets), toPhone: newFlow(frameSamples, phoneScore, packets, frameSamples)}
		var err error
		if c.phone, err = newPhone(fmt.Sprintf("+1555%07d", k), b.start, c.toPhone); err != nil {
			b.closePhones()
			return err
		}
		c.phone.use(b.cfg.Codec)
		b.pairs = append(b.pairs, c)
		b.readers.Go(c.phone.read)
		if b.prepare != nil {
			if err := b.prepare(k, c); err != nil {
				b.closePhones()
				return err
			}
		}
		if b.plain != nil || b.connect != nil {
			continue
		}
		p := b.browsers()
		if c.loseAfter != nil {
			p = opusPeers(c.loseAfter)
		}
		c.browser = newBrowser(p, b.cfg.Log, b.start, c.toBrowser)
		if b.cfg.Passthrough {
			c.browser.codec, c.browser.step = plainCodec(), frameSamples
		}
		c.browser.every, c.browser.follows = b.party, b.cfg.Follows
		c.far = c.browser
		b.far.expect(c.phone)
	}
	return nil
}

// newBrowserFlow is what a browser hears.
func (b *bench) newBrowserFlow(packets int) *flow {
	if b.cfg.Passthrough {
		return newFlow(frameSamples, phoneScore, packets, frameSamples)
	}
	return newFlow(opusStep, browserScore, packets, 70)
}

// ramp sets up some of the calls, a few at once, no faster than asked.
func (b *bench) ramp(ctx context.Context, pairs []*pair) error {
	b.say("setting up %d calls, %g per second", len(pairs), b.cfg.RampPerSecond)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(setupAtOnce)
	tick := time.NewTicker(time.Duration(float64(time.Second) / b.cfg.RampPerSecond))
	defer tick.Stop()
	for _, c := range pairs {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
		group.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			switch {
			case b.plain != nil:
				return b.setUpPlain(ctx, c)
			case b.connect != nil:
				return b.setUpPeer(ctx, c)
			}
			return b.setUp(ctx, c)
		})
	}
	return group.Wait()
}

// setUp brings one call up, as an application would.
func (b *bench) setUp(ctx context.Context, c *pair) error {
	ctx, cancel := context.WithTimeout(ctx, setupLimit)
	defer cancel()
	if err := c.room.enter(ctx, b.rest, b.cfg.Passthrough); err != nil {
		return err
	}
	caller, _, err := b.rest.createParticipant(ctx, "phone")
	if err != nil {
		return err
	}
	c.participants = append(c.participants, caller)
	agent, token, err := b.rest.createParticipant(ctx, "browser")
	if err != nil {
		return err
	}
	c.participants = append(c.participants, agent)
	for _, id := range c.participants {
		if err := b.rest.join(ctx, c.room.id, id); err != nil {
			return err
		}
	}
	if err := c.browser.connect(ctx, b.ws, token); err != nil {
		return err
	}
	dialled := time.Now()
	if err := b.rest.dial(ctx, caller, c.phone.number); err != nil {
		return err
	}
	if err := wait(ctx, c.phone.answered, "the phone's ACK"); err != nil {
		return err
	}
	b.mu.Lock()
	b.setups = append(b.setups, time.Since(dialled))
	b.mu.Unlock()
	if err := wait(ctx, c.browser.sending, "the browser's media"); err != nil {
		return err
	}
	if err := setLevel(&c.browser.packet, c.browser.line, c.level); err != nil {
		return err
	}
	c.live.Store(true)
	return nil
}

func wait(ctx context.Context, done <-chan struct{}, what string) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("load: waiting for %s: %w", what, ctx.Err())
	}
}

// waitHeard returns once both ends of every call hear something.
func (b *bench) waitHeard(ctx context.Context) error {
	deadline := time.Now().Add(flowLimit)
	for {
		deaf, browsers := 0, 0
		for _, c := range b.pairs {
			if !c.phoneless && c.phone.heard.Load() < flowPackets {
				deaf++
			}
			if c.far == nil || c.far.packets() < flowPackets {
				browsers++
			}
		}
		if deaf+browsers == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("load: %d phones and %d browsers of %d hear nothing", deaf, browsers, len(b.pairs))
		}
		if err := sleep(ctx, heardPoll); err != nil {
			return err
		}
	}
}

// tearDown ends every call, also those that are half up.
func (b *bench) tearDown(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), teardownTime)
	defer cancel()
	var group errgroup.Group
	group.SetLimit(setupAtOnce)
	for _, c := range b.pairs {
		group.Go(func() error {
			if b.plain != nil || b.connect != nil {
				return nil // its end is its process's
			}
			c.browser.close(ctx)
			var errs []error
			for _, id := range c.participants {
				errs = append(errs, b.rest.deleteParticipant(ctx, id))
			}
			return errors.Join(errs...)
		})
	}
	err := group.Wait()
	for _, r := range b.rooms {
		if r.id != "" {
			err = errors.Join(err, b.rest.deleteSession(ctx, r.id))
		}
	}
	if err != nil {
		b.cfg.Log.Warn("load: end of the calls", "err", err)
	}
	b.closePhones()
}

// closePhones closes the sockets of both ends, if the others are no browsers, and waits for their readers.
func (b *bench) closePhones() {
	for _, e := range b.ends {
		_ = e.conn.Close()
	}
	for _, e := range b.peers {
		_ = e.close() // its process ends too
	}
	for _, c := range b.pairs {
		_ = c.phone.conn.Close()
	}
	b.readers.Wait()
}
