package load

import (
	"context"
	"errors"
	"slices"
	"time"

	"tandem/test/audio"
)

const (
	mixedMost  = 30   // ms: what is to be reached
	mixedHz    = 450  // of the voice that goes on
	mixedLevel = 0.05 // of full scale: less than an onset
)

var errUnmixed = errors.New("load: the voice that goes on is not heard")

// mixedDelay is how late an onset of a browser is heard at a phone that hears the voice of another phone all the time. Two
// pairs are in a session: of the first one the browser says the onsets and the phone listens, of the other the phone speaks.
func mixedDelay(ctx context.Context, cfg DelayConfig, onsets *sounds) (late []time.Duration, missed int, held Result, err error) {
	voice, err := talk(mixedHz, mixedLevel)
	if err != nil {
		return nil, 0, held, err
	}
	silent, err := talk(0, 0)
	if err != nil {
		return nil, 0, held, err
	}
	run := Config{
		Gateway: append(slices.Clone(cfg.Gateway), "serve"), Calls: cfg.Calls + cfg.Calls%2, Duration: cfg.Duration, Pinned: true, Idle: time.Second,
		PerSession: 2,
	}
	var b *bench
	held, err = hold(ctx, ours, run, cfg.Gateway, onsets, func(made *bench) {
		b = made
		b.prepare = func(k int, c *pair) error {
			if c.says = (&sounds{phone: silent.phone, browser: onsets.browser}); k%2 == 1 {
				c.says = &sounds{phone: voice.phone, browser: silent.browser}
			}
			return nil
		}
		b.check = func(b *bench) error {
			for k, c := range b.pairs {
				if k%2 == 0 && audio.Goertzel(c.toPhone.last(time.Second, b.to, decodePhone), phoneRate, mixedHz) < heardLevel {
					return errUnmixed
				}
			}
			return nil
		}
	})
	if err != nil {
		return nil, 0, held, err
	}
	for k, c := range b.pairs {
		if k%2 == 0 {
			delays, none := c.toPhone.onsets(decodePhone, b.from, b.to)
			late, missed = append(late, delays...), missed+none
		}
	}
	slices.Sort(late)
	return late, missed, held, nil
}
