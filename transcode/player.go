package transcode

// Sound is what a bridge can play into its phone.
type Sound struct {
	Samples []int16 // 8 kHz, mono; it is shared and never changed
	Loop    bool    // begin again at the end, until Stop
	// Done, if set, is told once that the last sample was sent. It runs on the clock of many phones: it must not block
	// and must not call the bridge. A sound that is replaced or stopped is not done.
	Done func()
}

// player feeds a downlink with a sound, 20 ms at a time. It belongs to the downlink's lock; the zero value is silent.
type player struct {
	sound Sound
	at    int // the next sample
	frame samples
	wide  *resampled // to the rate of a phone that has twice that; nil: not needed yet
}

func (p *player) active() bool { return len(p.sound.Samples) > 0 }

// next returns the next 20 ms, valid until the next call, and whether they were the last ones. What the sound lacks
// for a whole frame at its end is silence.
func (p *player) next() (pcm []int16, over bool) {
	pcm = p.frame.of(narrow / 50)
	n := copy(pcm, p.sound.Samples[p.at:])
	p.at += n
	for n < len(pcm) && p.sound.Loop {
		p.at = copy(pcm[n:], p.sound.Samples)
		n += p.at
	}
	clear(pcm[n:])
	return pcm, p.at >= len(p.sound.Samples) && !p.sound.Loop
}

// Play lets the phone hear a sound instead of its session, at once; what was playing before is replaced. An empty
// sound is Stop. What the phone says goes on to be heard.
func (b *Bridge) Play(s Sound) {
	d := &b.down
	d.mu.Lock()
	defer d.mu.Unlock()
	d.player.sound, d.player.at = s, 0
	d.line.detach()
	d.heard.Stop()
}

// Stop ends what Play began: the phone hears its session again.
func (b *Bridge) Stop() { b.Play(Sound{}) }

// KeepKeys lets the phone's keys be told to OnKey alone, and to nobody who hears the phone: a PIN is typed.
func (b *Bridge) KeepKeys(on bool) { b.up.keep.Store(on) }

// play takes 20 ms of the sound that is active, at the phone's rate. d.mu is held.
func (d *downlink) play() []int16 {
	pcm, over := d.player.next()
	if over {
		done := d.player.sound.Done
		d.player.sound, d.player.at = Sound{}, 0
		d.ended = true
		if done != nil {
			done()
		}
	}
	return d.player.paced(pcm, d.rate())
}

// paced returns sound of 8 kHz at the phone's rate, valid until the next call.
func (p *player) paced(pcm []int16, rate int) []int16 {
	if rate != wide {
		return pcm
	}
	if p.wide == nil {
		p.wide = new(resampled)
	}
	return p.wide.double(pcm)
}
