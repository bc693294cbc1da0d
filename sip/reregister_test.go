package sip

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"

	"tandem/trunks"
)

func TestFailedRegistrationIsRetried(t *testing.T) {
	t.Parallel()
	r := newRawRegistrar(t)
	g := startAgent(t, Config{Trunks: []Trunk{r.trunk()}, registerRetry: soon}, newCallers(nil))
	first := r.next("REGISTER")
	r.answer(first, "403 Forbidden")
	second := r.next("REGISTER")
	require.Contains(t, awaitRegistration(t, g, trunks.Failed).LastError, "403 Forbidden")
	require.Equal(t, headerOf(first, "Call-ID"), headerOf(second, "Call-ID"), "RFC 3261 §10.2")
	r.answer(second, "500 Server Internal Error")
	r.answer(r.next("REGISTER"), "200 OK")
	require.Empty(t, awaitRegistration(t, g, trunks.Registered).LastError)
}

// TestRegistrarSaysWhenToComeAgain: the wait after a refusal is what its Retry-After says, if that is longer than ours, and
// no longer than our longest.
func TestRegistrarSaysWhenToComeAgain(t *testing.T) {
	t.Parallel()
	far := newRawRegistrar(t)
	trunk := far.trunk()
	g := startAgent(t, Config{}, newCallers(nil))
	read := mustTrunk(t, trunk)
	for _, c := range []struct {
		status      string
		headers     []string
		least, most time.Duration
	}{
		{"503 Service Unavailable", nil, minRetry / 2, minRetry},
		{"503 Service Unavailable", []string{"Retry-After: 0"}, minRetry / 2, minRetry},
		{"503 Service Unavailable", []string{"Retry-After: 200 (maintenance)"}, 200 * time.Second, 200 * time.Second},
		{"403 Forbidden", []string{"Retry-After: 30;duration=10"}, 30 * time.Second, 30 * time.Second},
		{"500 Server Internal Error", []string{"Retry-After: 86400"}, maxRetry, maxRetry},
	} {
		wait := make(chan time.Duration, 1)
		go func() { wait <- newRegistration(g.Agent, read).renew(t.Context()) }()
		far.answer(far.next("REGISTER"), c.status, c.headers...)
		got := <-wait
		require.GreaterOrEqual(t, got, c.least, "%s %v", c.status, c.headers)
		require.LessOrEqual(t, got, c.most, "%s %v", c.status, c.headers)
	}
}

// TestRegistrationGoesOnToTheNextAddress: a registrar that can't is left for the next one that the DNS names, and one that
// refuses is not.
func TestRegistrationGoesOnToTheNextAddress(t *testing.T) {
	t.Parallel()
	for status, goesOn := range map[string]bool{"503 Service Unavailable": true, "500 Server Internal Error": true, "403 Forbidden": false} {
		t.Run(status, func(t *testing.T) {
			t.Parallel()
			first, second := newRawRegistrar(t), newRawRegistrar(t)
			s := startNameserver(t, map[string][]dnsmessage.ResourceBody{
				"_sip._udp.carrier.example": {
					recordSRV(1, 1, "host.carrier.example", portOf(first.conn.LocalAddr().String())),
					recordSRV(2, 1, "host.carrier.example", portOf(second.conn.LocalAddr().String())),
				},
				"host.carrier.example": {recordA("127.0.0.1")},
			})
			trunk := first.trunk()
			trunk.URI = "sip:carrier.example"
			g := startAgent(t, Config{nameservers: []string{s.addr}, Trunks: []Trunk{trunk}}, newCallers(nil))
			first.answer(first.next("REGISTER"), status)
			if !goesOn {
				require.Contains(t, awaitRegistration(t, g, trunks.Failed).LastError, status)
				g.stop()
				require.NoError(t, second.conn.SetReadDeadline(time.Now()))
				_, _, err := second.conn.ReadFrom(make([]byte, 10))
				require.ErrorContains(t, err, "timeout", "nothing was sent there")
				return
			}
			second.answer(second.next("REGISTER"), "200 OK")
			awaitRegistration(t, g, trunks.Registered)
			require.True(t, g.book.Refresh(carrierKey))
			second.answer(second.next("REGISTER"), "200 OK")
		})
	}
}

func mustTrunk(t *testing.T, of Trunk) *trunk {
	t.Helper()
	read, err := readTrunk(&of)
	require.NoError(t, err)
	return read
}
