package transcode

import (
	"time"

	"tandem/dsp"
	"tandem/media"
)

// endDelay is what the sound of a leg takes outside of the network and of the gateway, one way: a packet's length, and a
// play-out buffer of the usual size at the listener's end.
const endDelay = 60 * time.Millisecond

// Quality says how the sound of the leg travels, with the score that listeners are expected to give it: the counts and
// shares are of all the leg, the jitter, the delays and the score of the moment.
func (b *Bridge) Quality() media.Quality {
	port, past := b.path()
	var q media.Quality
	if port != nil {
		now := port.Quality()
		q = now.After(past)
		q.In.Jitter, q.Out.Jitter, q.RoundTrip = now.In.Jitter, now.Out.Jitter, now.RoundTrip
	}
	return b.scored(q, false)
}

// Overall is Quality with the means of the jitter and of the delays, and the score of those: for a leg that is over.
func (b *Bridge) Overall() media.Quality {
	port, past := b.path()
	var q media.Quality
	if port != nil {
		q = port.Overall().After(past)
	}
	return b.scored(q, true)
}

// path is the port, and what is known of those before it.
func (b *Bridge) path() (*media.Port, media.Quality) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.port, b.past
}

// scored fills in what the port does not know.
func (b *Bridge) scored(q media.Quality, overall bool) media.Quality {
	codec := codecQuality(b.down.quality(&q.Out, overall))
	q.In.Concealed = b.up.concealed()
	delay := q.RoundTrip/2 + endDelay
	if q.In.Packets > 0 {
		q.In.MOS = dsp.MOS(codec, q.In.Concealed, q.In.Burst, delay)
	}
	if q.Out.Packets > 0 {
		q.Out.MOS = dsp.MOS(codec, q.Out.Lost+q.Out.Concealed*(1-q.Out.Lost), q.Out.Burst, delay+q.Out.Delay)
	}
	return q
}

// report lets the port tell the far end, in RTCP XR, how good what it sends is.
func (b *Bridge) report() {
	port, _ := b.path()
	if port == nil {
		return
	}
	q := port.Quality()
	codec := codecQuality(b.down.speech())
	delay := q.RoundTrip/2 + endDelay
	port.SetScores(media.Scores{
		Rating:    dsp.Rating(codec, q.In.Lost, q.In.Burst, delay),
		Listening: dsp.MOS(codec, q.In.Lost, q.In.Burst, 0),
		Conversed: dsp.MOS(codec, q.In.Lost, q.In.Burst, delay),
	})
}

func codecQuality(s media.Speech) dsp.CodecQuality {
	switch s {
	case media.G722:
		return dsp.QualityG722()
	case media.Opus:
		return dsp.QualityOpus()
	case media.PCMU, media.PCMA:
	}
	return dsp.QualityG711()
}

// made counts what of the sound to a phone was made up. It belongs to the downlink's lock.
type made struct{ all, up uint64 } // samples

// quality fills in what the downlink knows, and returns its codec. Overall: the delay is the mean.
func (d *downlink) quality(w *media.Way, overall bool) media.Speech {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.made.all > 0 {
		w.Concealed = float64(d.made.up) / float64(d.made.all)
	}
	if w.Delay = d.delay(d.now()); overall && d.delays.n > 0 {
		w.Delay = d.delays.sum / time.Duration(d.delays.n)
	}
	return d.media.Speech
}

// speech is the phone's codec.
func (d *downlink) speech() media.Speech {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.media.Speech
}

// delays are those of the play-out, as they were looked at now and then. It belongs to the downlink's lock.
type delays struct {
	sum time.Duration
	n   int
}

// look notes the delay of the moment.
func (d *downlink) look(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.media.Send {
		d.delays.sum += d.delay(now)
		d.delays.n++
	}
}

// delay is what the play-out adds now: how far the stream has run ahead of real time, for silence took the place of what
// came late, and how long voices wait in the mix, or in the buffer. d.mu is held.
func (d *downlink) delay(now time.Time) time.Duration {
	// A stream that nothing held up is ahead by its last packet.
	delay := max(0, d.line.lead(now)-frameTime)
	switch {
	case d.mixing:
		delay += d.mix.delay()
	case d.buffer.on:
		delay += d.line.span(int64(d.buffer.playout.Delay()))
	}
	return delay
}

// delay is how long the voices of a mix wait, those that wait longest.
func (m *mix) delay() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	longest := 0
	for _, v := range m.voices {
		v.mu.Lock()
		if v.used.Load() {
			longest = max(longest, v.playout.Delay())
		}
		v.mu.Unlock()
	}
	return time.Duration(longest) * time.Second / time.Duration(m.rate)
}

// missed counts how much of a phone's sound did not come in time. It belongs to the uplink's lock.
type missed struct{ heard, lost int64 } // on the clock of the sound

// count takes a packet that holds span, gap behind the last one, and how many packets are missing between: a gap beyond
// those is a pause.
func (m *missed) count(span, gap int64, packets int) {
	m.heard += span + min(0, max(gap, -span))
	if gap > 0 {
		m.lost += min(gap, int64(packets)*span)
	}
}

// concealed is the share of the phone's sound that those who hear it must make up.
func (u *uplink) concealed() float64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.missed.lost == 0 {
		return 0
	}
	return float64(u.missed.lost) / float64(u.missed.lost+u.missed.heard)
}
