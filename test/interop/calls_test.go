package interop

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/test/audio"
	"tandem/test/harness"
)

const (
	browserHz = 440
	phoneHz   = 1000
	listen    = time.Second
)

// room is a gateway with a browser in a session, and a phone participant beside it.
type room struct {
	*harness.Gateway
	callbacks      *harness.Callbacks
	session        string
	browser, phone string
	device         *harness.Device
}

// openRoom lets a browser say its tone in a session that a phone participant is in.
func openRoom(t *testing.T, g *harness.Gateway) *room {
	t.Helper()
	r := &room{Gateway: g, callbacks: harness.NewCallbacks(t), session: g.Session(t)}
	var token string
	r.browser, token = g.Participant(t, "")
	r.phone, _ = g.Participant(t, r.callbacks.URL)
	g.Join(t, r.session, r.browser)
	g.Join(t, r.session, r.phone)
	r.device = harness.Connect(t, g, r.browser, token)
	r.device.PublishTone(browserHz, -12, "microphone")
	return r
}

// requireTone wants a clear tone in the last second of what was heard.
func requireTone(t *testing.T, samples []int16, rate int, hz float64) {
	t.Helper()
	n := int(listen.Seconds() * float64(rate))
	require.GreaterOrEqual(t, len(samples), n, "too little was heard")
	last := samples[len(samples)-n:]
	require.InDelta(t, hz, audio.Frequency(last, rate), 5)
	require.Greater(t, audio.MedianSNR(last, rate, hz), 20.0)
}

// TestBaresipIsCalled calls the softphone and measures both directions.
func TestBaresipIsCalled(t *testing.T) {
	ca := newAuthority(t)
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			phone := startBaresip(t, softphone{transport: transport, hz: phoneHz, ca: ca})
			cfg := harness.Config(t)
			cfg.Trunks = append(cfg.Trunks, harness.Trunk("desk", phone.uri(transport)))
			r := openRoom(t, harness.Start(t, cfg))

			dialog := r.Call(t, r.phone, deskNumber)
			r.WaitState(t, r.phone, dialog, "ANSWERED")
			phone.wait(t, "CALL_ESTABLISHED")
			requireTone(t, r.device.WaitHeard(t, r.phone, 2*listen), harness.Rate, phoneHz)
			r.HangUp(t, r.phone, dialog)
			phone.wait(t, "CALL_CLOSED")
			requireWhole(t, phone)
			require.Equal(t, []string{"CALLING", "RINGING", "ANSWERED", "onConnect", "TERMINATED", "onLeave"}, r.words(t))
		})
	}
}

// requireWhole wants the browser's tone in the last second of what the softphone heard.
func requireWhole(t *testing.T, phone *baresip) {
	t.Helper()
	heard := phone.heard(t)
	require.Len(t, heard, 1)
	requireTone(t, heard[0], phoneRate, browserHz)
}

// words waits for the end of the phone's connection and returns what was called back.
func (r *room) words(t *testing.T) []string {
	t.Helper()
	r.callbacks.WaitEvent(t, r.phone, "onLeave")
	return r.callbacks.Words(r.phone)
}

// TestBaresipBehindKamailio calls a softphone that registered with a proxy, through that proxy, which stays in the
// route of the dialog.
func TestBaresipBehindKamailio(t *testing.T) {
	ca := newAuthority(t)
	proxy := startKamailio(t, ca)
	phone := startBaresip(t, softphone{hz: phoneHz, ca: ca, registrar: proxy.uri("udp")})
	phone.waitRegistered(t)
	cfg := harness.Config(t)
	cfg.Trunks = append(cfg.Trunks, harness.Trunk("carrier", proxy.uri("udp")))
	r := openRoom(t, harness.Start(t, cfg))

	for _, byUs := range []bool{true, false} {
		dialog := r.Call(t, r.phone, deskNumber)
		r.WaitState(t, r.phone, dialog, "ANSWERED")
		requireTone(t, r.device.WaitHeard(t, r.phone, 2*listen), harness.Rate, phoneHz)
		if byUs {
			r.HangUp(t, r.phone, dialog)
			phone.wait(t, "CALL_CLOSED")
		} else {
			phone.do(t, "hangup", "")
			r.WaitState(t, r.phone, dialog, "TERMINATED")
		}
		r.device.Forget()
	}
	for _, heard := range phone.heard(t) {
		requireTone(t, heard, phoneRate, browserHz)
	}
}
