package dialogs

import (
	"strings"
	"time"

	"tandem/media"
	"tandem/webhooks"
)

// Gather is an application's wish for several keys at once.
type Gather struct {
	Digits     int           // how many make it whole
	Timeout    time.Duration // how long the caller may think, after the prompt and after each key
	Prompt     string        // a sound that is played until the first key; empty: none
	Terminator string        // a key that ends it before; empty: none
	Unanswered bool          // the call is not answered for it: keys may come as early media, if the far end can
}

// Why a gather is over.
const (
	gatherDigits     = "digits"
	gatherTerminator = "terminator"
	gatherTimeout    = "timeout"
	gatherHangup     = "hangup"
	gatherCancelled  = "cancelled"
)

// gathering is a gather that runs. Its digits may be a PIN: they are in no log.
type gathering struct {
	Gather

	digits []byte
	prompt *playing // while it is played
}

// beginGather begins a gather; one that runs is cancelled.
func (c *call) beginGather(g Gather) {
	c.endGather(gatherCancelled)
	c.gather = &gathering{Gather: g}
	c.stopPlaying()
	if g.Prompt == "" {
		c.ringEarly()
		c.typing.set(g.Timeout)
		return
	}
	mine := c.gather
	c.play(playing{name: g.Prompt, then: func(error) { // without a prompt it goes on: the caller may know what to type
		if c.gather == mine {
			mine.prompt = nil
			c.typing.set(mine.Timeout)
		}
	}})
	mine.prompt = c.fore
}

// collect takes a key that was pressed while a gather runs.
func (c *call) collect(k media.Key) bool {
	g := c.gather
	if g == nil {
		return false
	}
	c.hush()
	if g.Terminator != "" && strings.IndexByte(g.Terminator, k.Digit) >= 0 {
		c.endGather(gatherTerminator)
		return true
	}
	g.digits = append(g.digits, k.Digit)
	if len(g.digits) >= g.Digits {
		c.endGather(gatherDigits)
		return true
	}
	c.typing.set(g.Timeout)
	return true
}

// hush stops the prompt of the gather.
func (c *call) hush() {
	if g := c.gather; g.prompt != nil {
		if c.fore == g.prompt {
			c.stopPlaying()
		}
		g.prompt = nil
	}
}

// endGather reports what was typed, once, if a gather runs. The application may answer with what is to come next,
// unless that is known already.
func (c *call) endGather(why string) {
	g := c.gather
	if g == nil {
		return
	}
	c.hush()
	c.gather = nil
	c.typing.stop()
	e := webhooks.Event{
		ID: webhooks.NewID(), Account: c.d.Account, Name: webhooks.OnDtmf, Time: time.Now(), Participant: c.d.Participant, DialogID: c.d.ID,
		Gather: &webhooks.Gather{Digits: string(g.digits), TerminatedBy: why},
	}
	if why != gatherHangup && why != gatherCancelled {
		c.await(e.ID)
	}
	c.save(change{key: &e})
}
