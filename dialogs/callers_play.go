package dialogs

import (
	"context"
	"errors"
	"time"

	"tandem/transcode"
)

// playing is a sound that a phone hears, or is to hear as soon as it is there and the phone has media.
type playing struct {
	name    string
	loop    bool
	begun   func(length time.Duration) // told when it begins to be heard; nil: nobody
	then    func(err error)            // told when it is over, or why it could not be played, but not when it was stopped; nil: nobody
	number  int64                      // which of the call's sounds it is
	samples []int16                    // nil: not there yet
}

// play lets the phone hear a sound instead of its session. What was playing is stopped.
func (c *call) play(p playing) {
	c.arrive() // that was before
	c.ringEarly()
	c.sounds++
	p.number = c.sounds
	c.fore = &p
	mine := c.fore
	c.load(p.name, func(samples []int16, err error) {
		if c.fore != mine {
			return
		}
		if err != nil {
			c.service.log.Error("a sound can't be played", "dialog", c.d.ID, "sound", shownSound(p.name), "error", err)
			c.fore = nil
			if p.then != nil {
				p.then(err)
			}
			return
		}
		mine.samples = samples
	})
}

// stopPlaying ends what play began, without a word to anybody.
func (c *call) stopPlaying() { c.fore = nil }

// ringEarly lets a caller hear us before the call is answered: 183 with SDP.
func (c *call) ringEarly() {
	if c.d.State == Ringing && c.d.Inbound && !c.early {
		c.early = true
		c.leg.Progress(true)
	}
}

// load finds a sound, on a goroutine of its own that ends with the call, and hands it to the call's.
func (c *call) load(name string, then func([]int16, error)) {
	if c.service.cfg.Sounds == nil {
		c.soon(func() { then(nil, errNoSounds) })
		return
	}
	c.loads.Go(func() {
		var samples []int16
		err := errors.New("it can't be read")
		c.withstands(func() { samples, err = c.service.cfg.Sounds.Sound(c.loading, name) })
		if err == nil && len(samples) == 0 {
			err = errNoSounds
		}
		select {
		case c.inbox <- func() { then(samples, err) }:
		case <-c.loading.Done():
		}
	})
}

// soon lets the call's goroutine do something when it has done what it does.
func (c *call) soon(do func()) { c.later = append(c.later, do) }

// settleSound lets the phone hear what it is to hear now. The call's goroutine calls it after everything it does, so
// nobody else need think of it.
func (c *call) settleSound() {
	c.arrive()
	for len(c.later) > 0 {
		do := c.later[0]
		c.later = c.later[1:]
		do()
	}
	if c.d.State == Terminated || c.bridge == nil { // written by this goroutine only
		return
	}
	c.bridge.KeepKeys(c.gather != nil)
	want := c.fore
	if want == nil && c.waiting() {
		want = c.holdMusic()
	}
	if want != nil && want.samples == nil {
		want = nil
		if c.heard != nil && c.heard == c.music {
			want = c.heard // until the other is there
		}
	}
	if want == c.heard {
		return
	}
	c.heard = want
	if want == nil {
		c.bridge.Stop()
		return
	}
	sound := transcode.Sound{Samples: want.samples, Loop: want.loop}
	if !want.loop {
		number := want.number
		sound.Done = func() { c.played.Store(number); c.nudge() }
	}
	c.bridge.Play(sound)
	if want.begun != nil {
		want.begun(time.Duration(len(want.samples)) * time.Second / 8000)
	}
}

// nudge wakes the call's goroutine up; it never blocks.
func (c *call) nudge() {
	select {
	case c.nudged <- struct{}{}:
	default:
	}
}

// onNudge sees whether a sound is over. That the participant moved is seen by settleSound.
func (c *call) onNudge() {
	if c.fore == nil || c.played.Load() != c.fore.number {
		return
	}
	then := c.fore.then
	c.fore, c.heard = nil, nil
	if then != nil {
		then(nil)
	}
}

// waiting says whether the phone hears hold music: we hold it, or it was taken out of its session.
func (c *call) waiting() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.d.State == Answered && c.guest == nil && (c.d.Hold.ByUs || c.wasIn && c.room == "")
}

// holdMusic is the music for this phone, which comes when it is needed first; nil: silence.
func (c *call) holdMusic() *playing {
	if c.music != nil {
		return c.music
	}
	name := c.musicName()
	c.music = &playing{name: name, loop: true}
	if name == "" {
		return c.music
	}
	c.load(name, func(samples []int16, err error) {
		if err != nil {
			c.service.log.Error("hold music can't be played", "dialog", c.d.ID, "sound", shownSound(name), "error", err)
			return
		}
		c.music.samples = samples
	})
	return c.music
}

func (c *call) musicName() string {
	if c.caller != nil && c.caller.number.HoldMusic != "" {
		return c.caller.number.HoldMusic
	}
	if c.service.cfg.Directory == nil {
		return ""
	}
	return c.service.cfg.Directory.HoldMusic(c.d.Account, c.d.Trunk)
}

// Moved is told by sessions that the participant went into a session, or out (empty). It is part of sessions.Mover.
func (c *call) Moved(session string) {
	c.mu.Lock()
	if session != "" && session != c.room {
		c.wasIn, c.arrived = true, true
	}
	c.room = session
	c.mu.Unlock()
	c.nudge()
}

// arrive ends what repeats itself for a caller who waits, music or ringback, once it has come into a session. What does not
// repeat, such as a notice that calls are recorded, is heard to its end.
func (c *call) arrive() {
	c.mu.Lock()
	arrived := c.arrived
	c.arrived = false
	c.mu.Unlock()
	if arrived && c.fore != nil && c.fore.loop {
		c.stopPlaying()
	}
}

// endSounds waits for what still looks for sounds.
func (c *call) endSounds() {
	c.endLoading()
	c.loads.Wait()
}

// newLoading makes the context of everything that looks for a call's sounds.
func newLoading() (context.Context, context.CancelFunc) {
	return context.WithCancel(context.Background())
}
