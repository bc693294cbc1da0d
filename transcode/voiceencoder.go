package transcode

import (
	"fmt"

	"github.com/hraban/opus"

	"tandem/dsp"
)

// voiceEncoder encodes what a phone says, 20 ms a packet. While nothing is lost it uses the low-delay mode of Opus (CELT alone,
// RFC 6716 §2.1.9), which looks 2.5 ms ahead instead of 6.5 and takes half the time; while loss is reported, or silence is
// not to be sent, the mode for speech, which alone can repeat a frame in the next packet (FEC) and knows what silence is (DTX). A
// receiver's decoder fades from the one to the other.
//
// Narrowband in the low-delay mode is encoded at complexity 1, if nothing else is configured, where sound begins, and at 0 elsewhere. What
// libopus leaves out at 0 is above all to look for onsets, which costs a quarter of the frame; without one there is nothing to find.
type voiceEncoder struct {
	cfg        Config
	rate       int
	as         tuning        // used is set to
	used       *opus.Encoder // one of these
	quick      *opus.Encoder // nil: not needed yet
	robust     *opus.Encoder // likewise
	onsets     dsp.Onsets
	complexity int // used has: that of as, or 0 for a frame without an onset
}

func newVoiceEncoder(cfg Config, rate int) (*voiceEncoder, error) {
	v := &voiceEncoder{cfg: cfg, rate: rate, onsets: dsp.NewOnsets(rate)}
	return v, v.choose(cfg.tuned(rate))
}

// reset forgets what was encoded.
func (v *voiceEncoder) reset() {
	_ = v.used.Reset() // fails for no reason that a running encoder could have
	v.onsets = dsp.NewOnsets(v.rate)
}

// encode encodes 20 ms and returns how long the packet is that is in payload then.
func (v *voiceEncoder) encode(pcm []int16, payload []byte) (int, error) {
	if v.cfg.OpusComplexity == 0 && v.rate == narrow {
		complexity := v.as.complexity
		if begins := v.onsets.Frame(pcm); !begins && v.used == v.quick {
			complexity = 0
		}
		if complexity != v.complexity {
			_ = v.used.SetComplexity(complexity) // fails for no number from 0 to 10
			v.complexity = complexity
		}
	}
	return v.used.Encode(pcm, payload)
}

// choose takes the encoder that fits into use, with nothing of what it encoded before.
func (v *voiceEncoder) choose(to tuning) error {
	one, app := &v.quick, opus.AppRestrictedLowdelay
	if v.cfg.DTX || to.loss > 0 && !v.cfg.NoFEC {
		one, app = &v.robust, opus.AppVoIP
	}
	if *one != nil && *one == v.used {
		return nil
	}
	if *one == nil {
		enc, err := v.cfg.encoder(v.rate, app)
		if err != nil {
			return err
		}
		*one = enc
	} else if err := (*one).Reset(); err != nil {
		return fmt.Errorf("opus encoder: %w", err)
	}
	v.used, v.as = *one, tuning{complexity: -1, loss: -1} // whatever it was when it was used last
	v.set(to)
	return nil
}

// set sets the encoder in use.
func (v *voiceEncoder) set(to tuning) {
	if v.as.complexity != to.complexity {
		v.complexity = to.complexity
	}
	v.as.set(v.used, to, v.cfg.NoFEC)
}

// tune sets the encoder to what is wanted.
func (v *voiceEncoder) tune(to tuning) error {
	if to == v.as {
		return nil
	}
	if err := v.choose(to); err != nil {
		return err
	}
	v.set(to)
	return nil
}
