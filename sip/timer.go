package sip

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"

	"tandem/errs"
)

const (
	defaultSessionExpires = 30 * time.Minute
	// minSessionExpires is the shortest session interval that anybody may ask for (RFC 4028 §4).
	minSessionExpires = 90 * time.Second
	// maxSessionExpires keeps what a peer says within reason.
	maxSessionExpires = 30 * 24 * time.Hour
	// expiryMargin is how long before the end of the interval a call is hung up, or a third of it (RFC 4028 §10).
	expiryMargin = 32 * time.Second

	// maxIntervals is how many longer intervals a call takes from a far end that says 422.
	maxIntervals = 3

	timerOption            = "timer"
	statusIntervalTooSmall = 422 // RFC 4028 §6

	refreshUAC = "uac"
	refreshUAS = "uas"
)

// sessionExpires is the value of a Session-Expires header.
type sessionExpires struct {
	interval  time.Duration
	refresher string // refreshUAC, refreshUAS or empty
}

func (s sessionExpires) String() string {
	if s.refresher == "" {
		return strconv.Itoa(int(s.interval / time.Second))
	}
	return fmt.Sprintf("%d;refresher=%s", s.interval/time.Second, s.refresher)
}

// parseSessionExpires reads the value of a Session-Expires or, without the refresher, of a Min-SE header.
func parseSessionExpires(value string) (sessionExpires, error) {
	seconds, params, _ := strings.Cut(value, ";")
	n, err := strconv.ParseUint(strings.TrimSpace(seconds), 10, 32)
	if err != nil || n == 0 {
		return sessionExpires{}, errs.New(errs.Invalid, "Session-Expires: %q is no number of seconds", printable(seconds, 40))
	}
	s := sessionExpires{interval: min(time.Duration(n)*time.Second, maxSessionExpires)}
	for param := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(param, "=")
		if strings.EqualFold(strings.TrimSpace(name), "refresher") {
			s.refresher = strings.ToLower(strings.TrimSpace(value))
		}
	}
	if s.refresher != refreshUAC && s.refresher != refreshUAS {
		s.refresher = ""
	}
	return s, nil
}

// sessionExpiresOf reads a message's header; ok is false when there is none that can be read.
func sessionExpiresOf(msg sip.Message) (s sessionExpires, ok bool) {
	for _, name := range []string{"Session-Expires", "x"} {
		for _, h := range msg.GetHeaders(name) {
			if s, err := parseSessionExpires(h.Value()); err == nil {
				return s, true
			}
		}
	}
	return sessionExpires{}, false
}

// minSEOf reads a message's Min-SE; without one it is what RFC 4028 §5 says, or what this agent says if that is less.
func minSEOf(msg sip.Message, least time.Duration) time.Duration {
	for _, h := range msg.GetHeaders("Min-SE") {
		if s, err := parseSessionExpires(h.Value()); err == nil {
			return max(s.interval, least)
		}
	}
	return least
}

// sessionTimer is the session timer of one call (RFC 4028). It belongs to the call's goroutine.
type sessionTimer struct {
	wanted   time.Duration // what we ask for
	least    time.Duration // the least that either end lets the interval be
	interval time.Duration // what was agreed; 0: the session does not expire
	ours     bool          // we refresh
	alone    bool          // the far end has no session timer: we ask from time to time whether it is there
	refresh  alarm
	expiry   alarm
	due      bool // a refresh is to be sent
	longer   int  // how often a 422 had us ask for more
}

// tooShort says whether a request asks for a session interval that is too short, and understands it when told so.
func (t *sessionTimer) tooShort(req *sip.Request) bool {
	s, ok := sessionExpiresOf(req)
	return ok && s.interval < t.least && (supports(req, timerOption) || requires(req, timerOption))
}

// minSE is the header that goes with a 422.
func (t *sessionTimer) minSE() sip.Header { return sip.NewHeader("Min-SE", seconds(t.least)) }

func seconds(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }

// refused takes a 422: the next try asks for what the far end wants. It is false when that would be no other than before,
// or was tried too often.
func (t *sessionTimer) refused(res *sip.Response) bool {
	least := minSEOf(res, 0)
	if least <= max(t.wanted, t.interval) || least >= maxSessionExpires || t.longer == maxIntervals {
		return false
	}
	t.longer++
	t.wanted, t.least = least, max(t.least, least)
	if t.interval > 0 {
		t.interval = max(t.interval, least)
	}
	return true
}

// ask writes what a request of ours says about the timer.
func (t *sessionTimer) ask(req *sip.Request) {
	s := sessionExpires{interval: t.wanted}
	if t.interval > 0 {
		s = sessionExpires{interval: t.interval, refresher: refreshUAS}
		if t.ours {
			s.refresher = refreshUAC
		}
	}
	req.AppendHeader(sip.NewHeader("Session-Expires", s.String()))
	if t.least > minSessionExpires {
		req.AppendHeader(t.minSE())
	}
}

// goAlone is for a far end without session timers, which has no part in ours: what it answers to a refresh, whatever that
// is, shows that it is there. Without that a call on hold, which sends nothing, would outlive its far end for ever.
func (t *sessionTimer) goAlone() {
	t.alone, t.ours = true, true
	if t.interval == 0 {
		t.interval = t.wanted
	}
}

// answer decides about the timer for a request of the far end that is about to be answered 2xx, and returns the headers
// of that answer (RFC 4028 §9).
func (t *sessionTimer) answer(req *sip.Request) []sip.Header {
	able := supports(req, timerOption) || requires(req, timerOption)
	asked, ok := sessionExpiresOf(req)
	if !able && !ok && (t.interval == 0 || t.alone) {
		t.goAlone()
		return nil
	}
	wanted := t.wanted
	if t.interval > 0 {
		wanted = t.interval
	}
	least := minSEOf(req, t.least)
	if ok {
		wanted = min(wanted, asked.interval)
	}
	said := sessionExpires{interval: max(wanted, least), refresher: asked.refresher}
	switch {
	case !able:
		said.refresher = refreshUAS // only we can
	case said.refresher != "":
	case t.interval > 0 && !t.ours || t.interval == 0 && ok:
		said.refresher = refreshUAC
	default:
		said.refresher = refreshUAS
	}
	t.interval, t.ours, t.alone = said.interval, said.refresher == refreshUAS, false
	headers := []sip.Header{sip.NewHeader("Session-Expires", said.String())}
	if !t.ours {
		headers = append(headers, sip.NewHeader("Require", timerOption))
	}
	return headers
}

// answered takes what a 2xx to a request of ours says (RFC 4028 §7.2). A far end that says nothing has no timer; a call
// that had one, and that we refresh, goes on with it.
func (t *sessionTimer) answered(res *sip.Response) {
	s, ok := sessionExpiresOf(res)
	switch {
	case ok:
		t.interval, t.ours = max(s.interval, t.least/9), s.refresher != refreshUAS // less than 90 s is wrong, but agreed
		t.alone = false
	case !t.ours:
		t.goAlone()
	}
}

// timed starts the session interval anew.
func (c *call) timed() {
	t := &c.timer
	t.refresh.stop()
	t.expiry.stop()
	t.due = false
	c.watched.Store(t.interval > 0 && !t.alone)
	if t.interval == 0 {
		return
	}
	if t.ours {
		t.refresh.set(c.inbox, t.interval/2, func() { t.due = true })
	}
	t.expiry.set(c.inbox, t.interval-min(expiryMargin, t.interval/3), func() {
		why := "the far end did not refresh the session in time"
		if t.ours {
			why = "the session could not be refreshed"
		}
		c.fault = failed(why)
	})
}

// untimed stops what would be done later, with the call.
func (c *call) untimed() {
	c.change.wait.stop()
	c.timer.refresh.stop()
	c.timer.expiry.stop()
}

// refresh sends a session refresh: an UPDATE that says nothing else where the far end takes those, else our last
// description again (RFC 4028 §7.4, §10).
func (c *call) refresh() {
	if slices.Contains(c.peer.allows, string(sip.UPDATE)) {
		c.propose(sip.UPDATE, nil, c.refreshed)
		return
	}
	body, err := c.sdp.refresh()
	if err != nil {
		return // an offer is under way, and refreshes too
	}
	c.propose(sip.INVITE, body, c.refreshed)
}

// refreshed takes the outcome of a refresh. One that is refused is tried again for as long as the interval lasts.
func (c *call) refreshed(res *sip.Response, again bool) {
	switch {
	case again:
		c.timer.due = true
	case res == nil || res.IsSuccess():
	case c.timer.alone && !lost(res):
		c.timed()
	case res.StatusCode == sip.StatusMethodNotAllowed || res.StatusCode == sip.StatusNotImplemented:
		c.peer.allows = nil // it takes no UPDATE, whatever it says
		c.timer.due = true
	default:
		c.timer.refresh.set(c.inbox, max(c.timer.interval/8, time.Second), func() { c.timer.due = true })
	}
}
