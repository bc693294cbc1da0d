package sip

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/emiago/sipgo/sip"

	"tandem/dialogs"
	"tandem/trunks"
)

// FuzzCaller reads anything as the headers that name a caller: what comes out is a number or says that there is none.
func FuzzCaller(f *testing.F) {
	f.Add("<sip:+15550101@x>", `"A, B" <sip:+15550102@x>, <tel:+15550103>`, "<sip:+15550104@x>;privacy=off", "id;critical")
	f.Add("anonymous <sip:anonymous@anonymous.invalid>", `<sip:1"@x`, "<sip:x>;privacy=full", "")
	f.Add("sip:a@x", "\\\",<,>", ";;,,", "none")
	f.Fuzz(func(t *testing.T, from, asserted, remote, privacy string) {
		req := sip.NewRequest(sip.INVITE, sip.Uri{Scheme: "sip", Host: "x"})
		h := &sip.FromHeader{Params: sip.NewParams()}
		if _, err := sip.ParseAddressValue(from, &h.Address, &h.Params); err == nil {
			req.AppendHeader(h)
		}
		req.AppendHeader(sip.NewHeader(headerPAI, asserted))
		req.AppendHeader(sip.NewHeader(headerRPID, remote))
		req.AppendHeader(sip.NewHeader(headerPrivacy, privacy))
		at := []*trunk{nil}
		for _, identity := range []string{IdentityPAI, IdentityRPID, IdentityFrom} {
			at = append(at, &trunk{Trunk: Trunk{Identity: identity, CountryCode: "1"}})
		}
		for _, from := range at {
			number := callerOf(req, from)
			if number != dialogs.FromRestricted && number != dialogs.FromUnknown && !trunks.IsE164(number) {
				t.Errorf("%q is no caller", number)
			}
		}
		_ = splitList(asserted)
	})
}

// FuzzUser reads anything as the user of a URI: what is called has no control character, is text and is bounded, and who
// writes a name with escapes calls the same as who writes it without.
func FuzzUser(f *testing.F) {
	f.Add("+1555%30100;phone-context=x")
	f.Add("sips%3Auser%40example.com")
	f.Add("user;par=u%40example.net")
	f.Add("null-%00-null%")
	f.Add("%C3%A4%ff")
	f.Fuzz(func(t *testing.T, user string) {
		called := userOf(sip.Uri{Scheme: "sip", User: user, Host: "x"})
		if hasControl(called) || len(called) > 200 || utf8.ValidString(user) && !utf8.ValidString(called) {
			t.Errorf("%q calls %q", user, called)
		}
		var escaped strings.Builder
		for i := range len(called) {
			fmt.Fprintf(&escaped, "%%%02X", called[i])
		}
		if again := userOf(sip.Uri{Scheme: "sip", User: escaped.String(), Host: "x"}); utf8.ValidString(called) && again != called {
			t.Errorf("%q calls %q, and %q calls %q", user, called, escaped.String(), again)
		}
	})
}

// FuzzHeadersOfACaller reads anything as User-to-User and X- headers: nothing of it breaks out, nothing is boundless.
func FuzzHeadersOfACaller(f *testing.F) {
	f.Add("48656c6c6f;encoding=hex", "X-Customer", "42", "43")
	f.Add("a.b.c;encoding=jwt", "x-customer", "\x00\r\n", strings.Repeat("x", 5000))
	f.Fuzz(func(t *testing.T, uui, name, value, again string) {
		if strings.EqualFold(name, headerUUI) {
			return
		}
		req := sip.NewRequest(sip.INVITE, sip.Uri{Scheme: "sip", Host: "x"})
		req.AppendHeader(sip.NewHeader(headerUUI, uui))
		req.AppendHeader(sip.NewHeader(name, value))
		req.AppendHeader(sip.NewHeader(name, again))
		if got := userToUserOf(req); got != uui { // what of it is text is for dialogs to say: FuzzUserToUser
			t.Errorf("User-to-User %q becomes %q", uui, got)
		}
		found := extraHeaders(req, &trunk{Trunk: Trunk{Headers: []string{"X-*"}}})
		for name, value := range found {
			if !trunks.IsExtraHeader(name) || hasControl(value) || len(value) > trunks.MaxHeaderValue {
				t.Errorf("%q: %q", name, value)
			}
		}
	})
}

// FuzzReplaces: what is read as a Replaces can be written and read again.
func FuzzReplaces(f *testing.F) {
	f.Add("425928@bobster.example.org;to-tag=7743;from-tag=6472;early-only")
	f.Add("a;to-tag=;from-tag")
	f.Fuzz(func(t *testing.T, value string) {
		r, err := parseReplaces(value)
		if err != nil {
			return
		}
		if again, err := parseReplaces(r.String()); err != nil || again != r {
			t.Errorf("%q becomes %q", value, r.String())
		}
		if strings.ContainsAny(r.escaped(), " \r\n<>;") {
			t.Errorf("%q breaks out of a URI", r.escaped())
		}
	})
}

// throughFront reads a response as a listener does, nil where the front keeps it away.
func throughFront(raw []byte) *sip.Response {
	log := slog.New(slog.DiscardHandler)
	v := newFront(newGuard(GuardConfig{}, func(netip.Addr) bool { return true }, log), log).judge(raw, netip.MustParseAddrPort("192.0.2.1:5060"))
	if v.pass == nil {
		return nil
	}
	msg, err := sip.ParseMessage(v.pass)
	if err != nil {
		return nil
	}
	res, _ := msg.(*sip.Response)
	return res
}

// FuzzRoutes reads anything as the Record-Routes and Contact of an answer, and writes the requests that they lead to: each
// is one that can be read, and its Routes are those of the answer.
func FuzzRoutes(f *testing.F) {
	f.Add("<sip:192.0.2.1;lr>, <sip:192.0.2.2;lr>", "<sip:phone@192.0.2.3>")
	f.Add("<sip:192.0.2.1>", "<sips:phone@[2001:db8::1]:5071;transport=tcp?Subject=x>;expires=4")
	f.Add("<sip:a;lr>,,<", "*")
	f.Fuzz(func(t *testing.T, routes, contact string) {
		raw := "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKx\r\nFrom: <sip:a@x>;tag=1\r\nTo: <sip:b@x>;tag=2\r\n" +
			"Call-ID: c\r\nCSeq: 1 INVITE\r\nRecord-Route: " + routes + "\r\nContact: " + contact + "\r\nContent-Length: 0\r\n\r\n"
		res := throughFront([]byte(raw))
		if res == nil {
			return
		}
		invite := sip.NewRequest(sip.INVITE, sip.Uri{Scheme: "sip", Host: "x"})
		invite.AppendHeader(res.From())
		invite.AppendHeader(res.CallID())
		invite.AppendHeader(&sip.CSeqHeader{SeqNo: 1, MethodName: sip.INVITE})
		p, err := answeredBy(invite, res, networkUDP, certFiles{})
		if err != nil {
			return
		}
		if len(p.target.Headers) > 0 || (p.target.Scheme != "sip" && p.target.Scheme != "sips") {
			t.Fatalf("a target %q", p.target.String())
		}
		a := &Agent{listeners: []*listener{{network: networkUDP, addr: netip.MustParseAddrPort("192.0.2.9:5060")}}}
		req, err := a.request(&p, sip.BYE)
		if err != nil {
			return
		}
		if got := len(req.GetHeaders("Route")); got != len(p.routes) {
			t.Fatalf("%d routes become %d", len(p.routes), got)
		}
		head, _, _ := strings.Cut(req.String(), "\r\n\r\n")
		if lines := strings.Count(head, "\n"); lines != len(req.Headers()) {
			t.Fatalf("%d lines for %d headers:\n%q", lines, len(req.Headers()), head)
		}
	})
}

// FuzzChallenge reads anything as a challenge: only one of the trunk's realm is answered, and the answer is one header.
func FuzzChallenge(f *testing.F) {
	f.Add(`Digest realm="carrier", nonce="abc", qop="auth,auth-int", algorithm=SHA-256, stale=true`)
	f.Add(`Digest realm="evil", nonce="a\"b", userhash=true`)
	f.Add("Digest ,,=,\"")
	f.Fuzz(func(t *testing.T, value string) {
		req := sip.NewRequest(sip.BYE, sip.Uri{Scheme: "sip", Host: "x"})
		res := sip.NewResponse(401, "Unauthorized")
		res.AppendHeader(sip.NewHeader("WWW-Authenticate", value))
		made, err := (&credentials{username: "u", password: "hunter2", realm: "carrier"}).answer(req, res)
		if err != nil {
			return
		}
		if !strings.Contains(made.Value(), `realm="carrier"`) || strings.Contains(made.Value(), "hunter2") || strings.ContainsAny(made.Value(), "\r\n") && !strings.ContainsAny(value, "\r\n") {
			t.Errorf("%q is answered by %q", value, made.Value())
		}
	})
}

// FuzzRefusal reads anything as what a refusal says of time and place.
func FuzzRefusal(f *testing.F) {
	f.Add("120 (later);duration=3600", "<sip:b@192.0.2.1>;q=0.5", "600")
	f.Add("949302838503028349304023988", "*", "-1")
	f.Fuzz(func(t *testing.T, later, contact, least string) {
		raw := "SIP/2.0 302 Moved\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKx\r\nFrom: <sip:a@x>;tag=1\r\nTo: <sip:b@x>;tag=2\r\nCall-ID: c\r\n" +
			"CSeq: 1 INVITE\r\nRetry-After: " + later + "\r\nMin-Expires: " + least + "\r\nContact: " + contact + "\r\nContent-Length: 0\r\n\r\n"
		res := throughFront([]byte(raw))
		if res == nil {
			return
		}
		if retryAfter(res) < 0 {
			t.Error("a negative wait")
		}
		if d, ok := secondsOf(res, "Min-Expires"); ok && d < 0 {
			t.Error("a negative interval")
		}
		if cause := refusedBy(res); hasControl(cause.Details) {
			t.Errorf("%q", cause.Details)
		}
		ours := sip.Uri{Scheme: "sip", Host: "192.0.2.9"}
		if d := grantedBy(res, &ours, wantedExpiry); d <= 0 || d > maxExpiry {
			t.Errorf("granted %s", d)
		}
	})
}

// FuzzAdvertise reads anything as sip.advertise.
func FuzzAdvertise(f *testing.F) {
	f.Add("203.0.113.1, tls://sip.example.com:5061, [2001:db8::1]:5060")
	f.Fuzz(func(t *testing.T, s string) {
		all, err := parseAdvertise(s)
		if err != nil {
			return
		}
		for _, a := range all {
			if a.host == "" || a.port < 0 || a.port > 65535 {
				t.Errorf("%+v", a)
			}
		}
		_, _ = all.towards(networkUDP, netip.MustParseAddr("192.0.2.1"))
	})
}

// FuzzRecords reads anything as the answer of a name server.
func FuzzRecords(f *testing.F) {
	f.Add([]byte{0, 1, 0x81, 0x80, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(_ *testing.T, message []byte) {
		for _, kind := range []recordType{typeA, typeAAAA, typeSRV, typeNAPTR} {
			_, _, _ = readRecords(message, 1, "example.com", kind)
		}
	})
}
