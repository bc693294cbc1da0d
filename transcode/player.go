package transcode

import "tandem/dsp"

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
	sound   Sound
	at      int // the next sample
	frame   [frameMost / 2]int16
	doubler dsp.Doubler
	double  [frameMost]int16
}

func (p *player) active() bool { return len(p.sound.Samples) > 0 }

// next returns the next 20 ms, valid until the next call, and whether they were the last ones. What the sound lacks
// for a whole frame at its end is silence.
func (p *player) next() (pcm []int16, over bool) {
	n := copy(p.frame[:], p.sound.Samples[p.at:])
	p.at += n
	for n < len(p.frame) && p.sound.Loop {
		p.at = copy(p.frame[n:], p.sound.Samples)
		n += p.at
	}
	clear(p.frame[n:])
	return p.frame[:], p.at >= len(p.sound.Samples) && !p.sound.Loop
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
	if d.rate() == wide {
		return d.player.double[:d.player.doubler.Frame(d.player.double[:], pcm)]
	}
	return pcm
}
