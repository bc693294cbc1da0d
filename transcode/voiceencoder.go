package transcode

import (
	"fmt"

	"github.com/hraban/opus"
)

// voiceEncoder encodes what a phone says, 20 ms a packet. While nothing is lost it uses the low-delay mode of Opus (CELT alone,
// RFC 6716 §2.1.9), which looks 2.5 ms ahead instead of 6.5 and takes half the time; while loss is reported, or silence is
// not to be sent, the mode for speech, which alone can repeat a frame in the next packet (FEC) and knows what silence is (DTX). A
// receiver's decoder fades from the one to the other.
type voiceEncoder struct {
	cfg    Config
	rate   int
	as     tuning        // used is set to
	used   *opus.Encoder // one of these
	quick  *opus.Encoder // nil: not needed yet
	robust *opus.Encoder // likewise
}

func newVoiceEncoder(cfg Config, rate int) (*voiceEncoder, error) {
	v := &voiceEncoder{cfg: cfg, rate: rate}
	return v, v.choose(cfg.tuned(rate))
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
	v.as.set(v.used, to, v.cfg.NoFEC)
	return nil
}

// tune sets the encoder to what is wanted.
func (v *voiceEncoder) tune(to tuning) error {
	if to == v.as {
		return nil
	}
	if err := v.choose(to); err != nil {
		return err
	}
	v.as.set(v.used, to, v.cfg.NoFEC)
	return nil
}
