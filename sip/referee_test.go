package sip

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What our messages say about us, word by word: a constant that changes is to be missed here.
const (
	saidAllow     = "INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO, REFER, NOTIFY"
	saidSupported = "100rel, 199, norefersub, replaces, timer, uui"
)

// referee reads what the gateway sent in a run of SIPp, and knows rules that hold in every scenario. Its maps are keyed by
// dialog, and what came before there was one counts for all that grew out of it.
type referee struct {
	sequence map[string]int // CSeq of the last request
	reliable map[string]int // RSeq of the last reliable answer
	version  map[string]int // of the last description
	text     map[string]string
	seen     map[string]bool // what is sent again is no news
}

// judge returns the first rule that is broken in the log of a run; empty: none.
func judge(log string) string {
	r := &referee{map[string]int{}, map[string]int{}, map[string]int{}, map[string]string{}, map[string]bool{}}
	for _, message := range received(log) {
		if r.seen[message] {
			continue
		}
		r.seen[message] = true
		for _, rule := range []func(string) string{r.counts, r.acknowledges, r.describes, r.introduces} {
			if why := rule(message); why != "" {
				return why + ":\n" + message
			}
		}
	}
	return ""
}

// received lists the messages that came to SIPp.
func received(log string) []string {
	var all []string
	for block := range strings.SplitSeq(log, "\n----------") {
		head, message, ok := strings.Cut(block, "\n\n")
		if ok && strings.Contains(head, "message received") {
			all = append(all, strings.TrimRight(message, "\r\n")+"\r\n")
		}
	}
	return all
}

// lastOf returns what is known of a dialog, or else of what it grew out of.
func lastOf[V any](known map[string]V, message string) (V, bool) {
	v, ok := known[dialogOf(message)]
	if !ok {
		v, ok = known[headerOf(message, "Call-ID")]
	}
	return v, ok
}

func note[V any](known map[string]V, message string, v V) { known[dialogOf(message)] = v }

// dialogOf names a message's dialog: by the Call-ID and, once there is one, the far end's tag.
func dialogOf(message string) string {
	far := "To"
	if isResponseText(message) {
		far = "From"
	}
	_, tag, _ := strings.Cut(headerOf(message, far), ";tag=")
	return headerOf(message, "Call-ID") + tag
}

func isResponseText(message string) bool { return strings.HasPrefix(message, "SIP/2.0 ") }

func methodOf(message string) (number int, method string) {
	text, method, _ := strings.Cut(headerOf(message, "CSeq"), " ")
	number, _ = strconv.Atoi(text)
	return number, method
}

// counts: each request of ours has a CSeq above the one before (RFC 3261 §12.2.1.1).
func (r *referee) counts(message string) string {
	number, method := methodOf(message)
	if isResponseText(message) || method == "ACK" || method == "CANCEL" {
		return ""
	}
	if last, ok := lastOf(r.sequence, message); ok && number <= last {
		return fmt.Sprintf("the CSeq is not above %d", last)
	}
	note(r.sequence, message, number)
	return ""
}

// acknowledges: a reliable answer says that it is one, and each has a number one above the one before (RFC 3262 §3).
func (r *referee) acknowledges(message string) string {
	rseq, needs := headerOf(message, "RSeq"), headerOf(message, "Require")
	if !strings.HasPrefix(message, "SIP/2.0 1") {
		return ""
	}
	if (rseq != "") != strings.Contains(needs, "100rel") {
		return "RSeq and Require: 100rel go together"
	}
	if rseq == "" {
		return ""
	}
	number, err := strconv.Atoi(rseq)
	if last, ok := r.reliable[dialogOf(message)]; err != nil || ok && number != last+1 {
		return fmt.Sprintf("the RSeq is not the one after %d", last)
	}
	r.reliable[dialogOf(message)] = number
	return ""
}

// describes: the version of a description is one higher where it says something else, and only there (RFC 3264 §8).
func (r *referee) describes(message string) string {
	_, after, ok := strings.Cut(message, "\no=tandem ")
	if !ok {
		return ""
	}
	origin, text, _ := strings.Cut(after, "\n")
	fields := strings.Fields(origin)
	version, err := strconv.Atoi(fields[1])
	last, known := lastOf(r.version, message)
	before, _ := lastOf(r.text, message)
	session := fields[0]
	text = session + text // a call that goes another way begins another session
	same := strings.HasPrefix(before, session)
	switch {
	case err != nil:
		return "the o= line has no version"
	case !known || !same:
	case before == text && version != last:
		return fmt.Sprintf("nothing has changed since version %d", last)
	case before != text && version != last+1:
		return fmt.Sprintf("something has changed since version %d", last)
	}
	note(r.version, message, version)
	note(r.text, message, text)
	return ""
}

// introduces: what we can do is told where a session begins or changes, and told as it is (RFC 3261 §13.2.1, §13.3.1.4).
func (r *referee) introduces(message string) string {
	_, method := methodOf(message)
	begins := (method == "INVITE" || method == "UPDATE") && (!isResponseText(message) || strings.HasPrefix(message, "SIP/2.0 200 "))
	for name, want := range map[string]string{"Allow": saidAllow, "Supported": saidSupported} {
		early := name == "Supported" && method == "UPDATE" || method == "UPDATE" && isResponseText(message)
		if got := headerOf(message, name); got != want && (got != "" || begins && !early) {
			return name + " is " + strconv.Quote(got)
		}
	}
	if begins && !strings.HasPrefix(headerOf(message, "Contact"), "<sip") {
		return "there is no Contact"
	}
	return ""
}

// The referee sees what is wrong.
func TestReferee(t *testing.T) {
	t.Parallel()
	block := func(text string) string {
		return "----------------------------------------------- 2026-01-01\nUDP message received [1] bytes :\n\n" + text
	}
	request := func(seq int, version int, direction string) string {
		return block(fmt.Sprintf("INVITE sip:a@b SIP/2.0\r\nTo: <sip:a@b>;tag=1\r\nCall-ID: x\r\nCSeq: %d INVITE\r\nAllow: %s\r\nSupported: %s\r\n"+
			"Contact: <sip:a@b>\r\n\r\nv=0\r\no=tandem 7 %d IN IP4 127.0.0.1\r\na=%s\r\n\n", seq, saidAllow, saidSupported, version, direction))
	}
	reliable := func(rseq int, extra string) string {
		return block(fmt.Sprintf("SIP/2.0 183 Session Progress\r\nTo: <sip:a@b>;tag=1\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\nRSeq: %d\r\n%s\r\n", rseq, extra))
	}
	needs := "Require: 100rel\r\n"
	for name, c := range map[string]struct{ log, want string }{
		"right":                 {request(1, 1, "sendrecv") + request(2, 2, "sendonly") + request(3, 2, "sendonly"), ""},
		"sent again":            {request(1, 1, "sendrecv") + request(1, 1, "sendrecv"), ""},
		"CSeq stays":            {request(1, 1, "sendrecv") + request(1, 2, "sendonly"), "CSeq"},
		"version stays":         {request(1, 1, "sendrecv") + request(2, 1, "sendonly"), "something has changed"},
		"version leaps":         {request(1, 1, "sendrecv") + request(2, 3, "sendonly"), "something has changed"},
		"version of no change":  {request(1, 1, "sendrecv") + request(2, 2, "sendrecv"), "nothing has changed"},
		"another Allow":         {strings.Replace(request(1, 1, "sendrecv"), "NOTIFY", "MESSAGE", 1), "Allow"},
		"no Supported":          {strings.Replace(request(1, 1, "sendrecv"), "Supported", "X", 1), "Supported"},
		"no Contact":            {strings.Replace(request(1, 1, "sendrecv"), "Contact", "X", 1), "Contact"},
		"reliable":              {reliable(5, needs) + reliable(6, needs), ""},
		"RSeq stays":            {reliable(5, needs) + reliable(5, needs+"X: 1\r\n"), "RSeq"},
		"reliable for nobody":   {reliable(5, ""), "go together"},
		"reliable without RSeq": {strings.Replace(reliable(5, needs), "RSeq", "X", 1), "go together"},
	} {
		if got := judge(c.log); c.want == "" {
			require.Empty(t, got, name)
		} else {
			require.Contains(t, got, c.want, name)
		}
	}
}
