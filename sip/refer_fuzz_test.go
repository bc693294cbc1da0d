package sip

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/emiago/sipgo/sip"
)

// notifyOf is a NOTIFY with these headers, nil where it cannot be read.
func notifyOf(event, state string) *sip.Request {
	msg, err := sip.ParseMessage([]byte("NOTIFY sip:b@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKx\r\nFrom: <sip:a@x>;tag=1\r\n" +
		"To: <sip:b@x>;tag=2\r\nCall-ID: c\r\nCSeq: 1 NOTIFY\r\nEvent: " + event + "\r\nSubscription-State: " + state + "\r\nContent-Length: 0\r\n\r\n"))
	if err != nil {
		return nil
	}
	req, _ := msg.(*sip.Request)
	return req
}

// FuzzNotify reads anything as the Event and Subscription-State of a NOTIFY. The package is read without its parameters
// and is the same in the header's short form, an id is read as it was written, and a reason can be logged.
func FuzzNotify(f *testing.F) {
	f.Add("refer", "active;expires=60", uint32(1))
	f.Add("refer;id=93809824", "terminated;reason=noresource", uint32(4294967295))
	f.Add("REFER ; ID = 7 ;x", " Terminated ; Reason=\"gone\x01\xff\";retry-after=1", uint32(7))
	f.Add("presence;id=0", "terminatedx", uint32(0))
	f.Add(";id=1;id=-1", ";reason=", uint32(10))
	f.Add("refer;id=4294967296", "terminated;reason="+strings.Repeat("é", 30), uint32(2))
	f.Fuzz(func(t *testing.T, header, state string, n uint32) {
		if strings.ContainsAny(header+state, "\r\n") {
			return // that is another header
		}
		req := notifyOf(header, state)
		if req == nil {
			return
		}
		event, id, ok := eventOf(req)
		if !ok && (event != "" || id != 0) {
			t.Fatalf("%q is refused, and is %q %d", header, event, id)
		}
		if strings.Contains(event, ";") || event != strings.TrimSpace(event) || !strings.Contains(header, event) {
			t.Fatalf("%q is the package %q", header, event)
		}
		short := sip.NewRequest(sip.NOTIFY, sip.Uri{Scheme: "sip", Host: "x"})
		short.AppendHeader(sip.NewHeader("o", req.GetHeader(headerEvent).Value()))
		if e, i, k := eventOf(short); e != event || i != id || k != ok {
			t.Fatalf("%q is %q %d %t, in its short form %q %d %t", header, event, id, ok, e, i, k)
		}
		if ok {
			written := notifyOf(fmt.Sprintf("%s;id=%d", event, n), state)
			e, i, k := eventOf(written)
			if k != (n != 0) || k && (e != event || i != n) {
				t.Fatalf("%q with the id %d is %q %d %t", event, n, e, i, k)
			}
		}

		over, reason := subscriptionOver(req)
		if hasControl(reason) || len(reason) > 40 {
			t.Fatalf("%q has the reason %q", state, reason)
		}
		value := req.GetHeader(headerState).Value()
		word := strings.FieldsFunc(value, func(r rune) bool { return r == ';' })
		if ends := len(word) > 0 && !strings.HasPrefix(value, ";") && strings.ToLower(strings.TrimSpace(word[0])) == "terminated"; over != ends {
			t.Fatalf("%q is over: %t", value, over)
		}
		if again, why := subscriptionOver(notifyOf("refer", value+";x=y")); again != over || why != reason {
			t.Fatalf("%q is %t %q, with one more parameter %t %q", value, over, reason, again, why)
		}
	})
}

// FuzzTrunkURI reads anything as the address of a trunk. One that trunks takes can be used: it has a host, leads over a
// transport that this agent speaks, a sips: one over TLS, and to the same place when it is written out and read again.
func FuzzTrunkURI(f *testing.F) {
	f.Add("sip:carrier.example.com")
	f.Add("sips:carrier.example.com:5071;transport=tcp")
	f.Add("SIP:[2001:db8::1]:5060;transport=UDP;lr")
	f.Add("sips:x;transport=udp")
	f.Add("sip:user:pass@x:65536;transport=sctp?X=y")
	f.Add("tel:+15550100")
	f.Add("sip:*\r\nX: y")
	f.Add("*")
	f.Fuzz(func(t *testing.T, s string) {
		uri, err := parseTrunkURI(s)
		if err != nil && (uri.Host != "" || uri.Scheme != "") {
			t.Fatalf("%q is refused, and is %+v", s, uri)
		}
		if made := (Trunk{Name: "x", Account: "1", URI: s}).WithDefaults(); s == "" || made.Validate() != nil {
			return
		}
		if err != nil {
			t.Fatalf("%q may be configured, and cannot be used: %v", s, err)
		}
		if uri.Host == "" || uri.Port < 0 || uri.Port > 65535 || uri.Wildcard || uri.Scheme != "sip" && uri.Scheme != "sips" {
			t.Fatalf("%q becomes %+v", s, uri)
		}
		transport, err := transportOf(uri, networkUDP)
		if err != nil || !slices.Contains(networks, transport) || uri.Scheme == "sips" && transport != networkTLS && transport != networkWSS {
			t.Fatalf("%q goes over %q: %v", s, transport, err)
		}
		again, err := parseTrunkURI(uri.String())
		if err != nil || again.Host != uri.Host || again.Port != uri.Port || again.Scheme != uri.Scheme || again.User != uri.User {
			t.Fatalf("%q becomes %q, and that %q: %v", s, uri.String(), again.String(), err)
		}
		if over, err := transportOf(again, networkUDP); err != nil || over != transport {
			t.Fatalf("%q goes over %q, and %q over %q: %v", s, transport, uri.String(), over, err)
		}
	})
}
