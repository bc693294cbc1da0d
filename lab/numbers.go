package lab

import (
	"encoding/hex"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"
)

const (
	speechPause   = 1500 * time.Millisecond
	earlyTime     = 2 * time.Second
	shortTime     = 3 * time.Second
	keysAfter     = time.Second // the far end's media path gets this long before keys are pressed
	defaultDigits = "1234"
)

// script finds what a number does; nil: there is no such number.
func (t *Trunk) script(number string) func(*Call) {
	if h := t.cfg.Handlers[number]; h != nil {
		return h
	}
	short := strings.TrimPrefix(number, "+")
	switch strings.TrimPrefix(short, "15550") {
	case "100":
		return answerAndEcho
	case "101":
		return refuse(sip.StatusBusyHere, "Busy Here")
	case "102":
		return ringOnly
	case "103":
		return refuse(sip.StatusGlobalDecline, "Decline")
	case "104":
		return refuse(sip.StatusNotFound, "Not Found")
	case "105":
		return answerAndSpeak
	case "106":
		return earlyThenSpeak
	case "107":
		return answerBriefly
	case "108":
		return answerAndPress
	}
	return t.cfg.Handlers["*"]
}

func answerAndEcho(c *Call) {
	c.Echo()
	if ringAndAnswer(c) {
		<-c.Ended()
	}
}

func refuse(code int, phrase string) func(*Call) {
	return func(c *Call) {
		if err := c.Reject(code, phrase); err != nil {
			c.log.Debug("lab: refuse", "err", err)
		}
	}
}

func ringOnly(c *Call) {
	if err := c.Ring(); err != nil {
		c.log.Debug("lab: ring", "err", err)
		return
	}
	<-c.Ended()
}

func answerAndSpeak(c *Call) {
	c.SetSource(Loop(Speech(), speechPause))
	if ringAndAnswer(c) {
		<-c.Ended()
	}
}

func earlyThenSpeak(c *Call) {
	c.SetSource(Tone(0.15, 440, 480)) // the North American ringback tone
	if err := c.EarlyMedia(); err != nil {
		c.log.Debug("lab: early media", "err", err)
		return
	}
	if !c.wait(earlyTime) {
		return
	}
	c.SetSource(Loop(Speech(), speechPause))
	if err := c.Answer(); err != nil {
		c.log.Debug("lab: answer", "err", err)
		return
	}
	<-c.Ended()
}

func answerBriefly(c *Call) {
	c.SetSource(Loop(Speech(), speechPause))
	if ringAndAnswer(c) {
		c.wait(shortTime)
	}
}

func answerAndPress(c *Call) {
	if !ringAndAnswer(c) || !c.wait(keysAfter) {
		return
	}
	press := c.SendKeys
	if inBand(c) {
		press = c.SoundKeys
	}
	if err := press(digitsOf(c)); err != nil {
		c.log.Info("lab: press keys", "err", err)
	}
	<-c.Ended()
}

func ringAndAnswer(c *Call) bool {
	if err := c.Ring(); err != nil {
		c.log.Debug("lab: ring", "err", err)
		return false
	}
	if err := c.Answer(); err != nil {
		c.log.Debug("lab: answer", "err", err)
		return false
	}
	return true
}

// wait lets d pass; false: the call ended meanwhile.
func (c *Call) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.ended:
		return false
	}
}

// digitsOf finds the keys that the caller wants to be sent.
func digitsOf(c *Call) string {
	fromURI, _ := c.request.Recipient.UriParams.Get("digits")
	value, params, _ := strings.Cut(c.UserToUser, ";")
	value = strings.Trim(strings.TrimSpace(value), `"`)
	if strings.Contains(strings.ToLower(params), "encoding=hex") {
		if decoded, err := hex.DecodeString(value); err == nil {
			value = string(decoded)
		}
	}
	for _, digits := range []string{fromURI, c.Header("X-Digits"), value} {
		if events, ok := keyEvents(digits); ok && len(events) > 0 {
			return digits
		}
	}
	return defaultDigits
}
