package sip

import (
	"log/slog"
	"net/netip"
	"testing"

	"github.com/emiago/sipgo/sip"
)

// FuzzFront reads anything: nothing panics, what passes is what the library can read, and no answer is cut into two.
func FuzzFront(f *testing.F) {
	for _, row := range tortures(f) {
		f.Add(row.message)
	}
	from := netip.MustParseAddrPort("192.0.2.1:5060")
	f.Fuzz(func(t *testing.T, data []byte) {
		g := newGuard(GuardConfig{}, func(netip.Addr) bool { return false }, slog.New(slog.DiscardHandler))
		v := newFront(g, slog.New(slog.DiscardHandler)).judge(data, from)
		if v.pass != nil {
			if v.answer != nil {
				t.Fatal("passed and answered")
			}
			msg, err := sip.ParseMessage(v.pass)
			if err != nil || msg.From() == nil || msg.To() == nil || msg.CallID() == nil || msg.CSeq() == nil || msg.Via() == nil {
				t.Fatalf("the library cannot read what passed: %v\n%q", err, v.pass)
			}
		}
		if v.answer != nil {
			res, err := sip.ParseMessage(v.answer)
			if err == nil && len(res.Body()) > 0 {
				t.Fatalf("an answer with a body: %q", v.answer)
			}
		}
	})
}

// FuzzCredentials reads anything as the answer to a challenge.
func FuzzCredentials(f *testing.F) {
	f.Add(`Digest username="pbx", realm="tandem", nonce="x", uri="sip:x", qop=auth, nc=00000001, cnonce="c", response="00"`)
	f.Fuzz(func(t *testing.T, value string) {
		req := sip.NewRequest(sip.INVITE, sip.Uri{Scheme: "sip", Host: "x"})
		callID := sip.CallIDHeader("x")
		req.AppendHeader(&callID)
		req.AppendHeader(sip.NewHeader("Authorization", value))
		if _, what := newChallenger("tandem", []byte("key")).check(req, candidates); what == proofRight {
			t.Fatal("nobody knows the password")
		}
	})
}
