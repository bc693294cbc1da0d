package sip

import (
	"errors"
	"net/url"
	"strings"

	"github.com/emiago/sipgo/sip"

	"tandem/dialogs"
)

const (
	headerReplaces = "Replaces"
	maxReplaces    = 1024 // bytes of a Replaces value that are read
)

// replaces is a Replaces header's value (RFC 3891 §6.1): a call, as who receives it knows it.
type replaces struct {
	callID    string
	toTag     string // of who receives it
	fromTag   string // of its far end
	earlyOnly bool
}

var errReplaces = errors.New("a Replaces needs a Call-ID, one to-tag and one from-tag")

// parseReplaces reads a value such as 425928@bobster.example.org;to-tag=7743;from-tag=6472.
func parseReplaces(value string) (replaces, error) {
	var r replaces
	if len(value) > maxReplaces || hasControl(value) {
		return r, errReplaces
	}
	id, params, _ := strings.Cut(value, ";")
	r.callID = strings.TrimSpace(id)
	for param := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(param, "=")
		value = strings.TrimSpace(value)
		var tag *string
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "to-tag":
			tag = &r.toTag
		case "from-tag":
			tag = &r.fromTag
		case "early-only":
			r.earlyOnly = true
			continue
		default:
			continue
		}
		if *tag != "" || value == "" {
			return r, errReplaces
		}
		*tag = value
	}
	if r.callID == "" || r.toTag == "" || r.fromTag == "" || strings.ContainsAny(r.callID+r.toTag+r.fromTag, " \t,<>\"") {
		return r, errReplaces
	}
	return r, nil
}

// String is the value as a header has it.
func (r replaces) String() string {
	value := r.callID + ";to-tag=" + r.toTag + ";from-tag=" + r.fromTag
	if r.earlyOnly {
		value += ";early-only"
	}
	return value
}

// escaped is the value as a URI's headers have it (RFC 3261 §19.1.1).
func (r replaces) escaped() string {
	return strings.ReplaceAll(url.QueryEscape(r.String()), "+", "%20") // no blank is in it; a plus is %2B
}

// reference is what others may know of a call: how a Replaces names it. It is never changed, only replaced.
type reference struct {
	callID, ours, theirs string  // the tags
	target               sip.Uri // where the far end is reached
	early                bool    // it is not answered yet
	inbound              bool    // the far end began it
	account              string  // of the trunk; empty: none
}

// introduce lets others know the call as it is now.
func (c *call) introduce(p *peer, early, inbound bool) {
	ours, _ := p.local.Params.Get("tag")
	id := &reference{callID: p.callID, ours: ours, theirs: p.remoteTag(), target: *p.target.Clone(), early: early, inbound: inbound}
	if c.trunk != nil {
		id.account = c.trunk.Account
	}
	c.known.Store(id)
}

// named returns the call of ours that r names, nil if there is none.
func (a *Agent) named(r replaces) (*call, *reference) {
	c := a.find(callKey{r.callID, r.toTag})
	if c == nil {
		return nil, nil
	}
	id := c.known.Load()
	if id == nil || id.theirs != r.fromTag {
		return nil, nil
	}
	return c, id
}

// replaced judges the Replaces of an INVITE that came over t (RFC 3891 §3) and returns the leg whose place it takes.
// A status other than 0 refuses the INVITE; a nil leg without one is an INVITE that replaces nothing.
func (a *Agent) replaced(req *sip.Request, t *trunk) (leg dialogs.Leg, status int, why string) {
	headers := req.GetHeaders(headerReplaces)
	if len(headers) == 0 {
		return nil, 0, ""
	}
	if len(headers) > 1 {
		return nil, sip.StatusBadRequest, "one Replaces is enough"
	}
	r, err := parseReplaces(headers[0].Value())
	if err != nil {
		return nil, sip.StatusBadRequest, err.Error()
	}
	c, id := a.named(r)
	switch {
	case c == nil || id.early && id.inbound:
		return nil, sip.StatusCallTransactionDoesNotExists, "no such call"
	case t == nil || id.account != t.Account:
		return nil, sip.StatusForbidden, "the call belongs to somebody else"
	case c.hung.isSet():
		return nil, sip.StatusGlobalDecline, "the call is over"
	case r.earlyOnly && !id.early:
		return nil, sip.StatusBusyHere, "the call is answered already"
	}
	return c, 0, ""
}
