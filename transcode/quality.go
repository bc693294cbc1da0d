package transcode

import (
	"time"

	"tandem/dsp"
	"tandem/media"
)

// endDelay is what the sound of a leg takes outside of the network and of the gateway, one way: a packet's length, and a
// play-out buffer of the usual size at the listener's end.
const endDelay = 60 * time.Millisecond

// Quality says how the sound of the leg travels, with the score that listeners are expected to give it.
func (b *Bridge) Quality() media.Quality {
	b.mu.Lock()
	port := b.port
	b.mu.Unlock()
	var q media.Quality
	if port != nil {
		q = port.Quality()
	}
	speech := b.down.quality(&q.Out)
	codec := codecQuality(speech)
	delay := q.RoundTrip/2 + endDelay
	if q.In.Packets > 0 {
		q.In.MOS = dsp.MOS(codec, q.In.Lost, q.In.Burst, delay+q.In.Delay)
	}
	if q.Out.Packets > 0 {
		q.Out.MOS = dsp.MOS(codec, q.Out.Lost+q.Out.Concealed*(1-q.Out.Lost), q.Out.Burst, delay+q.Out.Delay)
	}
	if port != nil {
		port.SetMOS(q, dsp.Rating(codec, q.In.Lost, q.In.Burst, delay))
	}
	return q
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

// quality fills in what the downlink knows, and returns its codec.
func (d *downlink) quality(w *media.Way) media.Speech {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.made.all > 0 {
		w.Concealed = float64(d.made.up) / float64(d.made.all)
	}
	if d.mixing {
		w.Delay = d.mix.delay()
	}
	return d.media.Speech
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
