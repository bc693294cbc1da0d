package sip

import (
	"fmt"
	"mime"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"

	"tandem/dialogs"
	"tandem/errs"
	"tandem/media"
)

// The two ways in which keys travel in INFO: as signal and duration, or as the bare key.
const (
	relayType = "application/dtmf-relay"
	keyType   = "application/dtmf"

	usualKey   = 250 * time.Millisecond // where a peer does not say how long a key was pressed
	longestKey = 10 * time.Second
)

// flash is what a peer may send beside keys and that is none.
const flash = '!'

// parseKey reads the body of an INFO that carries a key. A hook flash has no digit.
func parseKey(kind, body string) (media.Key, error) {
	signal, duration := "", usualKey
	for line := range strings.FieldsFuncSeq(body, func(r rune) bool { return r == '\r' || r == '\n' }) {
		name, value, ok := strings.Cut(line, "=")
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		switch {
		case !ok && kind == keyType && signal == "":
			signal = strings.TrimSpace(line)
		case name == "signal":
			signal = value
		case name == "duration":
			ms, err := strconv.ParseUint(value, 10, 31)
			if err != nil {
				return media.Key{}, errs.New(errs.Invalid, "Duration: %q is no number of milliseconds", printable(value, 20))
			}
			duration = min(time.Duration(ms)*time.Millisecond, longestKey)
		}
	}
	digit, ok := digitOf(signal)
	if !ok {
		return media.Key{}, errs.New(errs.Invalid, "Signal: %q is no key", printable(signal, 20))
	}
	return media.Key{Digit: digit, Ended: true, Duration: duration, Method: media.Info}, nil
}

// digitOf reads a key by its name, or by the number of its event (RFC 4733 §3.2); 0 is a hook flash.
func digitOf(signal string) (byte, bool) {
	signal = strings.ToUpper(signal)
	if len(signal) == 1 {
		switch {
		case strings.Contains(keys, signal):
			return signal[0], true
		case signal[0] == flash:
			return 0, true
		}
		return 0, false
	}
	n, err := strconv.ParseUint(signal, 10, 8)
	switch {
	case err != nil || n < 10 || n > 16:
		return 0, false
	case n == 16:
		return 0, true
	}
	return keys[n], true
}

// keys are the keys in the order of their events.
const keys = "0123456789*#ABCD"

// informed answers an INFO (RFC 6086 §4.2.2, which leaves those of old as they are).
func (c *call) informed(r request) {
	if len(r.Body()) == 0 {
		c.agent.respond(r.Request, r.tx, 200) // somebody wants to know whether we are there
		return
	}
	kind := ""
	if h := r.ContentType(); h != nil {
		kind, _, _ = mime.ParseMediaType(h.Value())
	}
	if kind != relayType && kind != keyType {
		c.agent.respond(r.Request, r.tx, sip.StatusUnsupportedMediaType)
		return
	}
	key, err := parseKey(kind, string(r.Body()))
	if err != nil {
		c.agent.respond(r.Request, r.tx, 400, c.agent.warning(errs.MessageOf(err)))
		return
	}
	c.agent.respond(r.Request, r.tx, 200)
	if key.Digit != 0 {
		c.emit(&dialogs.LegEvent{Kind: dialogs.LegKey, Key: key})
	}
}

// SendKey is part of dialogs.Leg. One key follows the other.
func (c *call) SendKey(digit byte, duration time.Duration) {
	if !strings.ContainsRune(keys, rune(digit)) {
		return
	}
	key := media.Key{Digit: digit, Ended: true, Duration: min(max(duration, 40*time.Millisecond), longestKey)}
	if !c.inbox.wish(func() {
		if len(c.keysOut) < maxWishes {
			c.keysOut = append(c.keysOut, key)
		}
		if len(c.keysOut) == 1 {
			c.sendKey()
		}
	}) {
		c.log.Warn("sip: too many wishes at once", "lost", "key")
	}
}

// sendKey sends the first key that waits, and the next one when that is answered, so that they come in order.
func (c *call) sendKey() {
	body := fmt.Appendf(nil, "Signal=%c\r\nDuration=%d\r\n", c.keysOut[0].Digit, c.keysOut[0].Duration.Milliseconds())
	fill := func(req *sip.Request) {
		contentType := sip.ContentTypeHeader(relayType)
		req.AppendHeader(&contentType)
		req.SetBody(body)
	}
	c.ask(sip.INFO, fill, func(res *sip.Response) {
		switch {
		case res != nil && res.StatusCode == sip.StatusCallTransactionDoesNotExists:
			c.fault = failed("the far end knows the call no more: " + causeOf(res.StatusCode, res.Reason).Details)
			return
		case res == nil:
			c.log.Info("sip: a key was not answered")
		case !res.IsSuccess():
			c.log.Info("sip: a key was refused", "status", res.StatusCode)
		}
		if c.keysOut = c.keysOut[1:]; len(c.keysOut) > 0 {
			c.sendKey()
		}
	})
}
