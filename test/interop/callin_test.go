package interop

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/gateway"
	"tandem/test/harness"
)

const hotline = "+15550199"

// TestBaresipCallsIn dials a number of the gateway; the application puts the caller into a session by REST.
func TestBaresipCallsIn(t *testing.T) {
	ca := harness.NewAuthority(t)
	for _, w := range ways() {
		t.Run(w.name, func(t *testing.T) {
			callbacks := harness.NewCallbacks(t)
			phone := startBaresip(t, softphone{transport: w.transport, srtp: w.srtp, hz: phoneHz, ca: ca})
			cfg := w.config(t, ca, phone)
			cfg.Numbers = []gateway.NumberConfig{{Number: hotline, Account: harness.Account, CallbackURL: callbacks.URL}}
			g := harness.Start(t, cfg)
			session := g.Session(t)
			browser, token := g.Participant(t, "")
			g.Join(t, session, browser)
			device := harness.Connect(t, g, browser, token)
			device.PublishTone(browserHz, -12, "microphone")

			phone.do(t, "dial", fmt.Sprintf("sip:%s@%s;transport=%s", hotline, g.SIPAddr(t, w.transport), w.transport))
			requireTaken(t, g, callbacks, phone, device, session)
		})
	}
}

// TestBaresipCallsInThroughKamailio dials a number that a carrier's proxy hands to the trunk that registered with it. What
// we send within such a call goes through the proxy too.
func TestBaresipCallsInThroughKamailio(t *testing.T) {
	ca := harness.NewAuthority(t)
	proxy := startKamailio(t, ca)
	callbacks := harness.NewCallbacks(t)
	phone := startBaresip(t, softphone{hz: phoneHz, ca: ca, registrar: proxy.uri("udp")})
	phone.waitRegistered(t)
	cfg := harness.Config(t)
	trunk := harness.Trunk("carrier", proxy.uri("udp"))
	trunk.Register, trunk.Username, trunk.Password = true, registrarUser, registrarPassword
	cfg.Trunks = append(cfg.Trunks, trunk)
	cfg.Numbers = []gateway.NumberConfig{{Number: hotline, Account: harness.Account, CallbackURL: callbacks.URL}}
	g := harness.Start(t, cfg)
	session := g.Session(t)
	browser, token := g.Participant(t, "")
	g.Join(t, session, browser)
	device := harness.Connect(t, g, browser, token)
	device.PublishTone(browserHz, -12, "microphone")
	require.Eventually(t, func() bool {
		_, text := g.Do(t, http.MethodGet, "/trunks/carrier/registration", nil)
		return strings.Contains(string(text), `"registered"`)
	}, harness.Patience, harness.Patience/200, "never registered")

	number := fmt.Sprintf("sip:%s@127.0.0.1:%d", hotline, proxy.port)
	phone.do(t, "dial", number)
	first := requireTaken(t, g, callbacks, phone, device, session)
	us := g.SIPAddr(t, "udp")
	proxy.waitRouted(t, us)

	phone.do(t, "dial", number)
	incoming := callbacks.Wait(t, "another call", func(c harness.Callback) bool {
		return c.Text("event") == "onIncomingCall" && c.Text("dialogId") != first
	})
	caller, dialog := incoming.Text("participantId"), incoming.Text("dialogId")
	path := "/participants/" + caller + "/dialogs/" + dialog
	g.Must(t, http.MethodPatch, path, harness.Object{"state": "ANSWERED"})
	callbacks.WaitEvent(t, caller, "onConnect")
	g.Must(t, http.MethodPost, path+"/hold", nil)
	callbacks.Wait(t, "HELD", func(c harness.Callback) bool {
		return c.Text("dialogId") == dialog && c.Text("eventData", "details") == "HELD"
	})
	g.HangUp(t, caller, dialog)
	proxy.waitRouted(t, us, "INVITE", "ACK", "BYE")
}

// requireTaken has the application put the caller into a session, measures both directions, and lets the caller hang up.
// It returns the dialog.
func requireTaken(t *testing.T, g *harness.Gateway, callbacks *harness.Callbacks, phone *baresip, device *harness.Device, session string) string {
	t.Helper()
	incoming := callbacks.Wait(t, "onIncomingCall", func(c harness.Callback) bool { return c.Text("event") == "onIncomingCall" })
	caller, dialog := incoming.Text("participantId"), incoming.Text("dialogId")
	require.Equal(t, hotline, incoming.Text("dialogStateData", "to"))
	require.Equal(t, deskNumber, incoming.Text("dialogStateData", "from"))
	phone.wait(t, "CALL_RINGING")
	g.Must(t, http.MethodPatch, "/participants/"+caller+"/dialogs/"+dialog,
		harness.Object{"state": "ANSWERED", "sessionId": session, "subscriptions": harness.Subscribe(session)})
	phone.wait(t, "CALL_ESTABLISHED")
	requireTone(t, device.WaitHeard(t, caller, 2*listen), harness.Rate, phoneHz)
	phone.do(t, "hangup", "")
	callbacks.WaitEvent(t, caller, "onLeave")
	require.Equal(t, 1, count(callbacks.Words(caller), "TERMINATED"))
	requireWhole(t, phone)
	return dialog
}

func count(words []string, word string) int {
	n := 0
	for _, w := range words {
		if w == word {
			n++
		}
	}
	return n
}
