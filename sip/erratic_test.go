package sip

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"tandem/dialogs"
)

// byNumber takes every call, and hands each out under the number that was called.
type byNumber map[string]chan dialogs.Leg

func (n byNumber) Incoming(_ context.Context, in dialogs.Incoming) (func(dialogs.Leg), error) {
	return func(l dialogs.Leg) {
		select {
		case n[in.To] <- l:
		default:
			l.Hangup(0) // a second one
		}
	}, nil
}

// Far ends that say anything in any order, right and wrong, while this end wants all that it can: every call ends, with
// one LegEnded, and nothing is left of it.
func TestErraticFarEnds(t *testing.T) {
	t.Parallel()
	const ends = 60
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	in := byNumber{}
	for i := range ends {
		in[fmt.Sprintf("+1555%07d", i)] = make(chan dialogs.Leg, 1)
	}
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	var all sync.WaitGroup
	for i := range ends {
		all.Go(func() {
			conn, err := net.Dial("udp", g.at("udp"))
			if !assert.NoError(t, err) {
				return
			}
			defer func() { _ = conn.Close() }()
			number := fmt.Sprintf("+1555%07d", i)
			e := &erratic{
				talker: talker{t: t, conn: conn, to: "<sip:" + number + "@x>", at: "sip:" + number + "@" + g.at("udp"), id: conn.LocalAddr().String()},
				rng:    rand.New(rand.NewPCG(seed, uint64(i))), //nolint:gosec // a test that can be repeated
				legs:   in[number],
			}
			e.run()
		})
	}
	all.Wait()
	g.idle(t)
}

// erratic is a far end that follows no rule. One goroutine runs it.
type erratic struct {
	talker
	rng  *rand.Rand
	legs chan dialogs.Leg
	calm bool // it answers and acknowledges everything from now on
}

func (e *erratic) run() {
	invite := e.request("INVITE", e.any(talkerSDP, talkerSDP, ""), "Supported: 100rel, timer", "Session-Expires: 90;refresher=uac")
	e.put(invite)
	again := time.NewTicker(500 * time.Millisecond) // as over UDP every caller does (RFC 3261 §17.1.1.2)
	defer again.Stop()
	var leg dialogs.Leg
	for until := time.Now().Add(patience); leg == nil || !strings.Contains(e.to, ";tag="); e.hear() {
		select {
		case l := <-e.legs:
			leg = l
		case <-again.C:
			e.put(invite)
		default:
		}
		if !assert.False(e.t, time.Now().After(until), "no call came") {
			return
		}
	}
	ends := make(chan int, 1)
	go func() {
		n := 0
		for event := range leg.Events() {
			if event.Kind == dialogs.LegEnded {
				n++
			}
		}
		ends <- n
	}()
	for range 40 {
		e.say()
		e.wish(leg)
		e.hear()
	}
	e.calm = true
	if e.rng.IntN(2) == 0 {
		e.seq = max(e.seq, 1_000_000) // above whatever it said
		e.put(e.request("BYE", ""))
	}
	leg.Hangup(0) // whoever was answered never got a BYE that it could match
	for until := time.Now().Add(patience); ; e.hear() {
		select {
		case n := <-ends:
			assert.Equal(e.t, 1, n, "LegEnded")
			return
		default:
		}
		if !assert.False(e.t, time.Now().After(until), "a call does not end") {
			return
		}
	}
}

// put sends a message, or not quite that one.
func (e *erratic) put(text string) {
	for range 1 + e.rng.IntN(8)/7 { // some come twice
		_, _ = e.conn.Write([]byte(text))
	}
}

// body is SDP, more or less.
func (e *erratic) body() string {
	return e.any(
		talkerSDP, talkerSDP+"a=sendonly\r\n", talkerSDP+"a=inactive\r\n", strings.Replace(talkerSDP, "40002", strconv.Itoa(40002+2*e.rng.IntN(50)), 1),
		strings.Replace(talkerSDP, "RTP/AVP 0", "RTP/AVP 8 0", 1), strings.Replace(talkerSDP, "127.0.0.1\r\nt=", "0.0.0.0\r\nt=", 1), "",
		strings.Replace(talkerSDP, "AVP 0", "AVP 99", 1), strings.Replace(talkerSDP, "audio", "video", 1), "v=0\r\n", "x",
	)
}

func (e *erratic) any(of ...string) string { return of[e.rng.IntN(len(of))] }

// say sends a request.
func (e *erratic) say() {
	method := e.any("INVITE", "INVITE", "UPDATE", "INFO", "PRACK", "REFER", "NOTIFY", "OPTIONS", "MESSAGE", "SUBSCRIBE", "ACK", "CANCEL")
	var headers []string
	body := ""
	switch method {
	case "INVITE", "UPDATE", "PRACK":
		body = e.body()
		headers = append(headers, "RAck: "+e.any("1 1 INVITE", strconv.Itoa(e.rng.IntN(1<<30))+" 1 INVITE", "x", ""), e.any("Session-Expires: 90", "Session-Expires: 1", "Supported: timer", "Require: x"))
	case "REFER":
		headers = append(headers, "Refer-To: "+e.any("<sip:+15550177@127.0.0.1>", "<sip:a@b?Replaces=x%3Bto-tag%3D1%3Bfrom-tag%3D2>", "<mailto:a>", "<sip:>", "tel:+15550177"))
	case "NOTIFY":
		headers = append(headers, "Event: "+e.any("refer", "refer;id=2", "refer;id=x", "talk"), "Subscription-State: "+e.any("active", "terminated;reason=noresource", "x"))
	}
	text := e.request(method, body, headers...)
	switch e.rng.IntN(10) {
	case 0:
		text = strings.Replace(text, ";tag=1", ";tag=2", 1)
	case 1:
		text = strings.Replace(text, "CSeq: ", "CSeq: "+strconv.Itoa(e.rng.IntN(3)), 1)
	case 2:
		text = strings.Replace(text, "Contact: <sip:a", "Contact: <"+e.any("tel:", "sips:a", "sip:b", "sip:"), 1)
	case 3:
		text = text[:e.rng.IntN(len(text))]
	}
	e.put(text)
}

// wish has this end want something.
func (e *erratic) wish(leg dialogs.Leg) {
	switch e.rng.IntN(12) {
	case 0:
		leg.Progress(e.rng.IntN(2) == 0)
	case 1, 2, 3:
		leg.Answer()
	case 4:
		leg.Hold(e.rng.IntN(2) == 0)
	case 5:
		leg.SendKey('5', 100*time.Millisecond)
	case 6:
		leg.Refer(dialogs.Refer{To: "+15550177"})
	case 7:
		leg.Referred(100 + e.rng.IntN(500))
	}
}

// hear reads what has come, and answers it one way or another.
func (e *erratic) hear() {
	buf := make([]byte, 65536)
	for {
		_ = e.conn.SetReadDeadline(time.Now().Add(2 * time.Millisecond))
		n, err := e.conn.Read(buf)
		if err != nil {
			return
		}
		text := string(buf[:n])
		if !strings.Contains(e.to, ";tag=") && strings.HasPrefix(text, "SIP/2.0 ") {
			e.to = headerOf(text, "To")
		}
		method := strings.TrimLeft(headerOf(text, "CSeq"), "0123456789 ")
		switch {
		case strings.HasPrefix(text, "SIP/2.0 1") || strings.HasPrefix(text, "ACK "):
		case strings.HasPrefix(text, "SIP/2.0 ") && method == "INVITE":
			e.acknowledge(text)
		case strings.HasPrefix(text, "SIP/2.0 "):
		case e.calm && strings.HasPrefix(text, "INVITE "):
			_, _ = e.conn.Write([]byte(e.response(text, "200 OK", talkerSDP)))
		case e.calm:
			_, _ = e.conn.Write([]byte(e.response(text, "200 OK", "")))
		case e.rng.IntN(8) > 0:
			e.put(e.response(text, e.any(
				"200 OK", "200 OK", "200 OK", "202 Accepted", "100 Trying", "180 Ringing", "302 Moved", "401 Unauthorized", "422 x", "486 Busy", "491 x", "500 x", "603 x"), e.body()))
		}
	}
}

// acknowledge sends the ACK to a final answer to an INVITE.
func (e *erratic) acknowledge(text string) {
	if !e.calm && e.rng.IntN(8) == 0 {
		return
	}
	seq := e.seq
	e.seq, _ = strconv.Atoi(strings.TrimRight(headerOf(text, "CSeq"), " INVTE"))
	body := ""
	if e.calm || e.rng.IntN(4) > 0 {
		body = talkerSDP
	}
	ack := e.request("ACK", body)
	if !strings.HasPrefix(text, "SIP/2.0 2") {
		ack = strings.ReplaceAll(ack, "-ack;", "-invite;")
	}
	_, _ = e.conn.Write([]byte(ack))
	e.seq = seq
}
