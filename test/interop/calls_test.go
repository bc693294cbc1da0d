package interop

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/gateway"
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

// way is how a softphone is reached.
type way struct{ name, transport, srtp string }

func ways() []way {
	return []way{{"UDP", "udp", ""}, {"TCP", "tcp", ""}, {"TLS and SRTP", "tls", "srtp-mand"}}
}

// config is a gateway's configuration with one trunk to the softphone, which may call in over it.
func (w way) config(t *testing.T, ca harness.Authority, phone *baresip) gateway.Config {
	t.Helper()
	cfg := harness.Config(t)
	cfg.SIP.Listen = append(cfg.SIP.Listen, "tls://127.0.0.1:0")
	cfg.SIP.TLSCert = ca.Issue(t, t.TempDir(), "127.0.0.1")
	cfg.SIP.TLSKey = cfg.SIP.TLSCert
	cfg.SIP.TLSCA = ca.File
	trunk := harness.Trunk("desk", phone.uri(w.transport))
	if w.srtp != "" {
		trunk.SRTP = "required"
	}
	cfg.Trunks = append(cfg.Trunks, trunk)
	return cfg
}

// TestBaresipIsCalled calls the softphone and measures both directions.
func TestBaresipIsCalled(t *testing.T) {
	ca := harness.NewAuthority(t)
	for _, w := range ways() {
		t.Run(w.name, func(t *testing.T) {
			phone := startBaresip(t, softphone{transport: w.transport, srtp: w.srtp, hz: phoneHz, ca: ca})
			r := openRoom(t, harness.Start(t, w.config(t, ca, phone)))

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
// route of the dialog: what we send within it goes the same way, though the phone's Contact could be reached directly.
func TestBaresipBehindKamailio(t *testing.T) {
	ca := harness.NewAuthority(t)
	proxy := startKamailio(t, ca)
	phone := startBaresip(t, softphone{hz: phoneHz, ca: ca, registrar: proxy.uri("udp")})
	phone.waitRegistered(t)
	cfg := harness.Config(t)
	cfg.Trunks = append(cfg.Trunks, harness.Trunk("carrier", proxy.uri("udp")))
	r := openRoom(t, harness.Start(t, cfg))
	us := r.SIPAddr(t, "udp")

	for _, byUs := range []bool{true, false} {
		dialog := r.Call(t, r.phone, deskNumber)
		r.WaitState(t, r.phone, dialog, "ANSWERED")
		requireTone(t, r.device.WaitHeard(t, r.phone, 2*listen), harness.Rate, phoneHz)
		if byUs {
			proxy.waitRouted(t, us, "ACK")
			path := "/participants/" + r.phone + "/dialogs/" + dialog
			r.Must(t, http.MethodPost, path+"/hold", nil)
			r.details(t, "HELD")
			r.HangUp(t, r.phone, dialog)
			phone.wait(t, "CALL_CLOSED")
			proxy.waitRouted(t, us, "ACK", "INVITE", "ACK", "BYE")
		} else {
			phone.do(t, "hangup", "")
			r.WaitState(t, r.phone, dialog, "TERMINATED")
			proxy.waitRouted(t, us, "ACK", "INVITE", "ACK", "BYE", "ACK")
		}
		r.device.Forget()
	}
	for _, heard := range phone.heard(t) {
		requireTone(t, heard, phoneRate, browserHz)
	}
}

// TestBaresipSpeaksWideband calls a softphone that speaks G.722 or Opus only, by code that has nothing in common with the
// gateway's, and measures above what G.711 carries.
func TestBaresipSpeaksWideband(t *testing.T) {
	const phoneHz, browserHz = 5200.0, 6100.0
	ca := harness.NewAuthority(t)
	for _, c := range []struct {
		codecs string
		rate   int
		snr    float64 // G.722 has 2 bits for all above 4 kHz
	}{{"G722/16000", 16000, 15}, {"opus/48000/2", 48000, 25}} {
		t.Run(c.codecs, func(t *testing.T) {
			phone := startBaresip(t, softphone{hz: phoneHz, ca: ca, codecs: c.codecs, rate: c.rate})
			cfg := harness.Config(t)
			cfg.Trunks = append(cfg.Trunks, harness.Trunk("desk", phone.uri("udp")))
			g := harness.Start(t, cfg)
			session := g.Session(t)
			browser, token := g.Participant(t, "")
			desk, _ := g.Participant(t, "")
			g.Join(t, session, browser)
			g.Join(t, session, desk)
			device := harness.Connect(t, g, browser, token)
			device.HearAt(harness.WideRate)
			device.PublishTone(browserHz, -12, "")
			dialog := g.Call(t, desk, deskNumber)
			g.WaitState(t, desk, dialog, "ANSWERED")
			phone.wait(t, "CALL_ESTABLISHED")
			atBrowser := device.WaitHeard(t, desk, 3*listen)
			g.HangUp(t, desk, dialog)
			phone.wait(t, "CALL_CLOSED")
			atPhone := phone.heard(t)
			require.Len(t, atPhone, 1)
			for _, way := range []struct {
				name  string
				heard []int16
				rate  int
				hz    float64
			}{{"to the browser", atBrowser, harness.WideRate, phoneHz}, {"to the phone", atPhone[0], c.rate, browserHz}} {
				n := int(listen.Seconds() * float64(way.rate))
				require.GreaterOrEqual(t, len(way.heard), n, "%s: too little was heard", way.name)
				last := way.heard[len(way.heard)-n:]
				snr := audio.MedianSNR(last, way.rate, way.hz)
				t.Logf("%s: %.1f Hz, %.1f dBFS, SNR %.1f dB", way.name, audio.Frequency(last, way.rate), audio.Level(last), snr)
				require.InDelta(t, way.hz, audio.Frequency(last, way.rate), 5, way.name)
				require.InDelta(t, -12, audio.Level(last), 1.5, way.name)
				require.Greater(t, snr, c.snr, way.name)
			}
		})
	}
}
