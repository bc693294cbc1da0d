package sip

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"

	"tandem/dialogs"
	"tandem/trunks"
)

// TestWaitForAFirstAnswer: 6 s while the call can go elsewhere, be that another address of the trunk or another trunk, and
// what the trunk's answerTimeout says in any case.
func TestWaitForAFirstAnswer(t *testing.T) {
	g := startAgent(t, Config{}, newCallers(nil))
	for name, c := range map[string]struct {
		trunks    int
		addresses bool
		timeout   time.Duration
		want      time.Duration // 0: Timer B alone
	}{
		"nowhere else":                   {1, false, 0, 0},
		"another address":                {1, true, 0, 6 * time.Second},
		"another trunk":                  {2, false, 0, 6 * time.Second},
		"both":                           {2, true, 0, 6 * time.Second},
		"as the trunk says":              {1, true, 9 * time.Second, 9 * time.Second},
		"as the trunk says, in any case": {1, false, time.Second, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			all := make([]trunks.Trunk, 0, 2)
			for _, name := range []string{"one", "two"}[:c.trunks] {
				all = append(all, Trunk{Name: name, Account: "1", URI: "sip:192.0.2.1", AnswerTimeout: c.timeout})
			}
			place, err := trunks.BookOf(all...).Place(trunks.Request{Account: "1", To: "+15550100", From: "+15550199"})
			require.NoError(t, err)
			defer place.Release()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				first := (&trying{call: &call{agent: g.Agent, trunk: &trunk{Trunk: all[0]}, place: place, otherHops: c.addresses}}).firstAnswer()
				if c.want == 0 {
					require.Nil(t, first)
					return
				}
				require.NotNil(t, first)
				<-first
				require.Equal(t, c.want, time.Since(began))
			})
		})
	}
}

// TestSilentAddressIsLeftForTheNext: the only trunk has two addresses by the DNS, and nobody answers at the first. The call
// is up over the second before Timer B ends the first: the INVITE there is still cancelled when it is answered at last.
func TestSilentAddressIsLeftForTheNext(t *testing.T) {
	t.Parallel()
	silent, phone := newRawRegistrar(t), startSIPp(t, "uas_answer", "udp")
	s := startNameserver(t, map[string][]dnsmessage.ResourceBody{
		"_sip._udp.carrier.example": {
			recordSRV(1, 1, "host.carrier.example", portOf(silent.conn.LocalAddr().String())), recordSRV(2, 1, "host.carrier.example", portOf(phone.addr)),
		},
		"host.carrier.example": {recordA("127.0.0.1")},
	})
	g := startAgent(t, Config{
		nameservers: []string{s.addr}, failoverWait: soon, Trunks: []Trunk{{Name: "carrier", Account: "1", URI: "sip:carrier.example"}},
	}, newCallers(nil))
	leg := dial(t, g)
	invite := silent.next("INVITE")
	await(t, leg, dialogs.LegAnswered)
	require.Equal(t, 0, g.book.State(carrierKey).Failures, "the trunk works")
	silent.answer(invite, "180 Ringing")
	cancel := silent.next("CANCEL")
	silent.answer(cancel, "200 OK")
	silent.answer(invite, "487 Request Terminated")
	silent.next("ACK")
	leg.Hangup(0)
	require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg))
	phone.passed()
	g.idle(t)
}
