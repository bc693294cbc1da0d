package dialogs

import (
	"context"
	"time"
	"unicode"

	"tandem/errs"
	"tandem/media"
	"tandem/transcode"
	"tandem/webhooks"
)

// keysWaiting bounds how many pressed keys may wait for the database.
const keysWaiting = 64

// Bounds of what SendKeys takes.
const (
	MaxDigits = 64 // of one request

	MinKeyTime     = 40 * time.Millisecond // of a key, and of the gap after it: less is not recognised (ITU-T Q.24)
	MaxKeyTime     = 6 * time.Second       // of either
	defaultKeyTime = 100 * time.Millisecond
	keyPause       = 500 * time.Millisecond // of "," and "w"
)

// Keys is what an application wants pressed on a phone's line.
type Keys struct {
	Digits   string        // 0-9, *, #, A-D; "," and "w" wait for half a second
	Duration time.Duration // of each key; 0: 100 ms
	Gap      time.Duration // between two keys; 0: 100 ms
}

// presses are the keys one by one. The error is errs.Invalid and names the field.
func (k Keys) presses() ([]transcode.Press, error) {
	if k.Digits == "" || len(k.Digits) > MaxDigits {
		return nil, errs.New(errs.Invalid, "digits: must be 1 to %d of 0-9, *, #, A-D, and \",\" or \"w\" for a pause", MaxDigits)
	}
	for _, t := range []struct {
		name string
		is   *time.Duration
	}{{"duration", &k.Duration}, {"gap", &k.Gap}} {
		if *t.is == 0 {
			*t.is = defaultKeyTime
		}
		if *t.is < MinKeyTime || *t.is > MaxKeyTime {
			return nil, errs.New(errs.Invalid, "%s: must be %d to %d milliseconds", t.name, MinKeyTime.Milliseconds(), MaxKeyTime.Milliseconds())
		}
	}
	var all []transcode.Press
	for i, r := range k.Digits {
		switch key := unicode.ToUpper(r); {
		case key == ',' || key == 'W':
			all = append(all, transcode.Press{Duration: keyPause})
		case media.IsDigit(key):
			all = append(all, transcode.Press{Digit: byte(key), Duration: k.Duration, Gap: k.Gap})
		default:
			return nil, errs.New(errs.Invalid, "digits: %q at %d is no key; must be 0-9, *, #, A-D, or \",\" or \"w\" for a pause", r, i)
		}
	}
	return all, nil
}

// SendKeys presses keys on the line of an ANSWERED dialog, after those of earlier requests, in the way of its trunk. It
// returns as soon as they are queued. It is errs.Conflict when the dialog is not ANSWERED, and errs.TooMany when too
// many keys are waiting; then none of them is pressed.
func (s *Service) SendKeys(ctx context.Context, ref Ref, keys Keys) (Dialog, error) {
	presses, err := keys.presses()
	if err != nil {
		return Dialog{}, err
	}
	d, err := s.Get(ctx, ref)
	if err != nil {
		return Dialog{}, err
	}
	c := s.find(d.ID)
	if c == nil {
		return Dialog{}, noKeys(d)
	}
	return c.ask(ctx, func() (Dialog, error) { return c.press(presses) })
}

func noKeys(d Dialog) error {
	return errs.New(errs.Conflict, "state: the dialog is %s; keys can be sent while it is ANSWERED", d.State)
}

func (c *call) press(presses []transcode.Press) (Dialog, error) {
	if c.d.State != Answered {
		return Dialog{}, noKeys(c.d)
	}
	if c.bridge == nil {
		return Dialog{}, errs.New(errs.Conflict, "state: the phone has no sound yet; try again in a moment")
	}
	if !c.bridge.Press(presses...) {
		return Dialog{}, errs.New(errs.TooMany, "digits: more than %d keys would be waiting; send them when the others are pressed", transcode.MaxPresses)
	}
	return c.d, nil
}

// lineIs lets keys go out by another leg.
func (c *call) lineIs(leg Leg) { c.line.Store(&leg) }

// sendInfo sends a key by SIP INFO. It runs on the clock of the bridge.
func (c *call) sendInfo(digit byte, duration time.Duration) {
	if leg := c.line.Load(); leg != nil {
		(*leg).SendKey(digit, duration)
	}
}

// onInfo takes a key that the phone sent by SIP INFO: one press, by whichever methods it is told.
func (c *call) onInfo(k media.Key) {
	k.Method, k.Ended = media.Info, true
	if c.bridge != nil { // written by this goroutine only
		c.bridge.Pressed(k)
		return
	}
	c.onKey(k)
}

func (c *call) onKey(k media.Key) {
	if c.d.State == Terminated {
		return // pressed after the end
	}
	if c.collect(k) {
		return
	}
	e := webhooks.Event{
		ID: webhooks.NewID(), Account: c.d.Account, Name: webhooks.OnDtmf, Time: time.Now(), Participant: c.d.Participant, DialogID: c.d.ID,
		Key: &webhooks.Key{Digit: string(rune(k.Digit)), Duration: k.Duration, Method: k.Method.String()},
	}
	c.save(change{key: &e})
}

// pressed takes a key from the phone's packets, on their goroutine: it must not block.
func (c *call) pressed(k media.Key) {
	if !k.Ended {
		return
	}
	select {
	case c.keys <- &k:
	default: // nobody presses 64 keys while one is saved
	}
}

// drainKeys takes up the keys that wait, so that they are reported before the end.
func (c *call) drainKeys() {
	for {
		select {
		case k := <-c.keys:
			c.onKey(*k)
		default:
			return
		}
	}
}
