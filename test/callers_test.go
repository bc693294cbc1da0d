package test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hraban/opus"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4/pkg/media/oggwriter"
	"github.com/stretchr/testify/require"

	"tandem/gateway"
	"tandem/lab"
	"tandem/test/audio"
	"tandem/test/harness"
)

const (
	hotline = "+15550199"
	caller  = "+15550123"
)

// phoneApp is an application that answers callbacks in its HTTP responses.
type phoneApp struct {
	URL string

	mu      sync.Mutex
	all     []harness.Object
	changed chan struct{}
	answer  func(event harness.Object) any
}

// newPhoneApp starts one. answer says what is answered to an event; nil: nothing.
func newPhoneApp(t *testing.T, answer func(event harness.Object) any) *phoneApp {
	t.Helper()
	a := &phoneApp{changed: make(chan struct{}), answer: answer}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var event harness.Object
		if json.NewDecoder(r.Body).Decode(&event) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		a.mu.Lock()
		a.all = append(a.all, event)
		close(a.changed)
		a.changed = make(chan struct{})
		a.mu.Unlock()
		if body := a.answer(event); body != nil {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(body)
		}
	}))
	t.Cleanup(server.Close)
	a.URL = server.URL + "/phone"
	return a
}

// wait returns the first event that f accepts.
func (a *phoneApp) wait(t *testing.T, what string, f func(harness.Object) bool) harness.Object {
	t.Helper()
	deadline := time.After(harness.Patience)
	for {
		a.mu.Lock()
		changed := a.changed
		for _, e := range a.all {
			if f(e) {
				a.mu.Unlock()
				return e
			}
		}
		a.mu.Unlock()
		select {
		case <-changed:
		case <-deadline:
			require.FailNow(t, "no callback: "+what, "%v", a.words())
		}
	}
}

func (a *phoneApp) waitEvent(t *testing.T, name string) harness.Object {
	t.Helper()
	return a.wait(t, name, func(e harness.Object) bool { return e.Text("event") == name })
}

func (a *phoneApp) waitState(t *testing.T, state string) harness.Object {
	t.Helper()
	return a.wait(t, state, func(e harness.Object) bool {
		return e.Text("event") == "onSipDialogStateChange" && e.Text("state") == state
	})
}

func (a *phoneApp) words() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var words []string
	for _, e := range a.all {
		if e.Text("event") == "onSipDialogStateChange" {
			words = append(words, e.Text("state"))
		} else {
			words = append(words, e.Text("event"))
		}
	}
	return words
}

// onCall answers onIncomingCall with body, and nothing else with anything.
func onCall(body any) func(harness.Object) any {
	return func(e harness.Object) any {
		if e.Text("event") == "onIncomingCall" {
			return body
		}
		return nil
	}
}

// withHotline starts a gateway with a number and sounds, whose trunk is a lab.
func withHotline(t *testing.T, number gateway.NumberConfig, change ...func(*gateway.Config)) (*harness.Gateway, harness.Lab) {
	t.Helper()
	trunk := harness.StartLab(t, lab.Config{})
	cfg := harness.Config(t)
	number.Number, number.Account = hotline, harness.Account
	cfg.Trunks = append(cfg.Trunks, harness.Trunk("lab", trunk.URI("udp")))
	cfg.Numbers = append(cfg.Numbers, number)
	cfg.Sounds.Folder = t.TempDir()
	for name, hz := range map[string]float64{"closed.wav": 1000, "pin.wav": 600, "welcome.wav": 1500, "music.wav": 800} {
		require.NoError(t, audio.WriteWAV(filepath.Join(cfg.Sounds.Folder, name), audio.Tone(hz, -15, 44100, 3*time.Second), 44100))
	}
	for _, f := range change {
		f(&cfg)
	}
	return harness.Start(t, cfg), trunk
}

// ring calls the hotline and returns the call as soon as it rings; answered brings what Call returns.
func ring(ctx context.Context, t *testing.T, g *harness.Gateway, trunk harness.Lab) (early *lab.Call, answered <-chan error) {
	t.Helper()
	calls, done := make(chan *lab.Call, 16), make(chan error, 1)
	go func() {
		_, err := trunk.Call(ctx, lab.CallRequest{
			To: "sip:" + hotline + "@" + g.SIPAddr(t, "udp"), From: caller,
			Progress: func(c *lab.Call, code int) {
				if code >= 180 {
					calls <- c
				}
			},
		})
		done <- err
	}()
	select {
	case c := <-calls:
		return c, done
	case <-time.After(harness.Patience):
		require.FailNow(t, "it does not ring")
		return nil, nil
	}
}

func dialHotline(t *testing.T, g *harness.Gateway, trunk harness.Lab) (*lab.Call, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*harness.Patience)
	defer cancel()
	return trunk.Call(ctx, lab.CallRequest{To: "sip:" + hotline + "@" + g.SIPAddr(t, "udp"), From: caller})
}

func requireRefused(t *testing.T, err error, code int) {
	t.Helper()
	var refused *lab.CallError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, code, refused.Code)
}

// requireSound wants a tone that was played, with its level, in what a phone heard, and returns how long it lasted.
func requireSound(t *testing.T, heard []int16, hz, level float64) time.Duration {
	t.Helper()
	var whole []int16
	const piece = harness.Rate / 20
	for i := 0; i+piece <= len(heard); i += piece {
		if audio.Goertzel(heard[i:i+piece], harness.Rate, hz) > level-6 {
			whole = append(whole, heard[i:i+piece]...)
		}
	}
	require.Greater(t, len(whole), 4*piece, "%g Hz is not heard", hz)
	inner := whole[piece : len(whole)-piece]
	require.InDelta(t, hz, audio.Frequency(inner, harness.Rate), 3)
	require.InDelta(t, level, audio.Level(inner), 1)
	require.GreaterOrEqual(t, audio.MedianSNR(inner, harness.Rate, hz), 25.0)
	return time.Duration(len(whole)) * time.Second / harness.Rate
}

// TestCallerIsPutIntoASession is the whole way in: number, callback, its answer, sound both ways; then out of the
// session and in again.
func TestCallerIsPutIntoASession(t *testing.T) {
	var session string
	app := newPhoneApp(t, func(e harness.Object) any {
		if e.Text("event") != "onIncomingCall" {
			return nil
		}
		return harness.Object{"state": "ANSWERED", "sessionId": session, "subscriptions": harness.Object{"sessionId": session}}
	})
	g, trunk := withHotline(t, gateway.NumberConfig{CallbackURL: app.URL, HoldMusic: "music.wav"})
	session = g.Session(t)
	agent, token := g.Participant(t, "")
	g.Join(t, session, agent)
	device := harness.Connect(t, g, agent, token)
	device.PublishTone(440, -12, "")

	call, err := dialHotline(t, g, trunk)
	require.NoError(t, err)
	call.SetSource(lab.Tone(0.25, 1000))
	asked := app.waitEvent(t, "onIncomingCall")
	require.Equal(t, hotline, asked.Text("data", "to"))
	require.Equal(t, caller, asked.Text("data", "from"))
	require.Equal(t, "RINGING", asked.Text("dialogStateData", "state"))
	phone, dialog := asked.Text("participantId"), asked.Text("dialogId")
	fresh := func() []int16 {
		return tail(harness.WaitRecorded(t, call, len(call.Recorded()), listen+listen/2))
	}
	requireTone(t, fresh(), 440, 1000)
	requireTone(t, tail(device.WaitHeard(t, phone, 2*listen)), 1000)

	g.Must(t, http.MethodDelete, "/sessions/"+session+"/participants/"+phone, nil)
	requireTone(t, fresh(), 800, 440)
	g.Join(t, session, phone)
	requireTone(t, fresh(), 440, 800)

	// A session without anybody ends no call: RTP flows on, to a phone that hears silence.
	g.Must(t, http.MethodDelete, "/participants/"+agent, nil)
	require.Less(t, audio.Level(fresh()), -60.0)
	require.Equal(t, "ANSWERED", g.DialogState(t, phone, dialog))

	require.NoError(t, call.Hangup())
	app.waitEvent(t, "onLeave")
	require.Equal(t, []string{"onIncomingCall", "RINGING", "ANSWERED", "onConnect", "TERMINATED", "onLeave"}, app.words())
	o := g.Must(t, http.MethodGet, "/participants/"+phone+"/dialogs/"+dialog, nil)
	require.Equal(t, "TERMINATED", o.Text("state"), "it can still be read")
	require.Equal(t, "inbound", o.Text("direction"))
	require.NotContains(t, string(body(t, g, "/sessions/"+session+"/participants")), phone, "it left the session")
}

func body(t *testing.T, g *harness.Gateway, path string) []byte {
	t.Helper()
	status, text := g.Do(t, http.MethodGet, path, nil)
	require.Equal(t, http.StatusOK, status)
	return text
}

// TestCallerIsDeclined is every way to decline, as the caller's network sees it.
func TestCallerIsDeclined(t *testing.T) {
	var answer atomic.Pointer[harness.Object]
	app := newPhoneApp(t, func(e harness.Object) any { return onCall(answer.Load())(e) })
	g, trunk := withHotline(t, gateway.NumberConfig{CallbackURL: app.URL})
	for _, c := range []struct {
		answer harness.Object
		code   int
	}{
		{harness.Object{"state": "TERMINATED"}, 603},
		{harness.Object{"state": "TERMINATED", "reason": "FAR END BUSY"}, 486},
		{harness.Object{"state": "TERMINATED", "reason": "FAR END DECLINED"}, 603},
		{harness.Object{"state": "TERMINATED", "reason": "FAR END NOT FOUND"}, 404},
		{harness.Object{"state": "TERMINATED", "sipCode": 488}, 488},
		{harness.Object{"state": "ANSWERED", "sessionId": "none"}, 480},
		{harness.Object{"state": "WHATEVER"}, 480},
	} {
		answer.Store(&c.answer)
		_, err := dialHotline(t, g, trunk)
		requireRefused(t, err, c.code)
	}
	require.Eventually(t, func() bool { return strings.Contains(metrics(t, g), "tandem_rtp_ports_open 0") }, harness.Patience, 20*time.Millisecond)
}

// TestWhoMayCallNumbers is a stranger who belongs to no trunk: it learns nothing of the numbers.
func TestWhoMayCallNumbers(t *testing.T) {
	trunk := harness.StartLab(t, lab.Config{})
	cfg := harness.Config(t)
	cfg.Numbers = []gateway.NumberConfig{{Number: hotline, Account: harness.Account}}
	g := harness.Start(t, cfg)
	_, err := dialHotline(t, g, trunk)
	requireRefused(t, err, 404)
	_, err = trunk.Call(t.Context(), lab.CallRequest{To: "sip:+15550000@" + g.SIPAddr(t, "udp"), From: caller})
	requireRefused(t, err, 404)
}

// TestRingbackBeforeTheAnswer lets the caller hear a tone while it rings, answers by REST, and plays a file.
func TestRingbackBeforeTheAnswer(t *testing.T) {
	app := newPhoneApp(t, onCall(harness.Object{"play": "tone:ringback"}))
	g, trunk := withHotline(t, gateway.NumberConfig{CallbackURL: app.URL})
	call, answered := ring(t.Context(), t, g, trunk)
	asked := app.waitEvent(t, "onIncomingCall")
	path := "/participants/" + asked.Text("participantId") + "/dialogs/" + asked.Text("dialogId")
	heard := harness.WaitRecorded(t, call, 0, 1500*time.Millisecond)[harness.Rate/2:]
	for _, hz := range []float64{440, 480} {
		require.InDelta(t, -22.1, audio.Goertzel(heard, harness.Rate, hz), 1, "%g Hz of the ringback tone", hz)
	}
	require.False(t, call.Status().Answered)

	o := g.Must(t, http.MethodPatch, path, harness.Object{"state": "ANSWERED", "play": "welcome.wav"})
	require.Equal(t, "ANSWERED", o.Text("state"))
	require.NoError(t, <-answered)
	from := len(call.Recorded())
	length := requireSound(t, harness.WaitRecorded(t, call, from, 4*time.Second), 1500, -15)
	require.InDelta(t, 3.0, length.Seconds(), 0.3, "all of it, once")
	g.Must(t, http.MethodPatch, path, harness.Object{"state": "TERMINATED"})
}

// TestMusicEndsInASession puts a caller into a session who hears ringback, then music: each ends there, whether the caller
// comes by the answer, by PATCH or by PUT; a sound that comes with the answer is heard first.
func TestMusicEndsInASession(t *testing.T) {
	app := newPhoneApp(t, onCall(harness.Object{"play": "tone:ringback"}))
	g, trunk := withHotline(t, gateway.NumberConfig{CallbackURL: app.URL})
	rooms := []string{g.Session(t), g.Session(t), g.Session(t)}
	for i, room := range rooms {
		agent, token := g.Participant(t, "")
		g.Join(t, room, agent)
		harness.Connect(t, g, agent, token).PublishTone(1300+200*float64(i), -12, "")
	}
	call, answered := ring(t.Context(), t, g, trunk)
	asked := app.waitEvent(t, "onIncomingCall")
	phone := asked.Text("participantId")
	path := "/participants/" + phone + "/dialogs/" + asked.Text("dialogId")
	fresh := func() []int16 {
		return tail(harness.WaitRecorded(t, call, len(call.Recorded()), listen+listen/2))
	}
	require.InDelta(t, -22.1, audio.Goertzel(fresh(), harness.Rate, 480), 1, "ringback")
	g.Must(t, http.MethodPatch, path, harness.Object{
		"state": "ANSWERED", "sessionId": rooms[0], "subscriptions": harness.Object{"sessionId": rooms[0]},
	})
	require.NoError(t, <-answered)
	requireTone(t, fresh(), 1300, 480, 440)

	g.Must(t, http.MethodPatch, path, harness.Object{"play": "music.wav", "loop": true})
	requireTone(t, fresh(), 800, 1300)
	g.Must(t, http.MethodDelete, "/sessions/"+rooms[0]+"/participants/"+phone, nil)
	requireTone(t, fresh(), 800, 1300)
	g.Join(t, rooms[1], phone)
	requireTone(t, fresh(), 1500, 800)

	g.Must(t, http.MethodDelete, "/sessions/"+rooms[1]+"/participants/"+phone, nil)
	from := len(call.Recorded())
	g.Must(t, http.MethodPatch, path, harness.Object{
		"sessionId": rooms[2], "subscriptions": harness.Object{"sessionId": rooms[2]}, "play": "welcome.wav",
	})
	heard := harness.WaitRecorded(t, call, from, 5*time.Second)
	length := requireSound(t, heard[:4*harness.Rate], 1500, -15)
	require.InDelta(t, 3.0, length.Seconds(), 0.3, "all of it")
	requireTone(t, tail(heard), 1700, 800)
	g.Must(t, http.MethodPatch, path, harness.Object{"state": "TERMINATED"})
}

// TestCallerOnMusicIsTransferred joins a caller who hears music, or is asked for a PIN, with the target, which sends back
// what it hears: there is no music any more, and nobody waits for a PIN.
func TestCallerOnMusicIsTransferred(t *testing.T) {
	for name, body := range map[string]harness.Object{
		"music": {"state": "ANSWERED", "play": "music.wav", "loop": true},
		"PIN":   {"gather": harness.Object{"digits": 4, "timeout": 60, "prompt": "music.wav"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := newPhoneApp(t, onCall(body))
			g, trunk := withHotline(t, gateway.NumberConfig{CallbackURL: app.URL})
			call, err := dialHotline(t, g, trunk)
			require.NoError(t, err)
			call.SetSource(lab.Tone(0.25, 1000))
			asked := app.waitEvent(t, "onIncomingCall")
			path := "/participants/" + asked.Text("participantId") + "/dialogs/" + asked.Text("dialogId")
			fresh := func(c *lab.Call) []int16 {
				return tail(harness.WaitRecorded(t, c, len(c.Recorded()), listen+listen/2))
			}
			requireTone(t, fresh(call), 800, 1000)
			status, text := g.Do(t, http.MethodPost, path+"/transfer", harness.Object{"to": "+15550100", "mode": "bridge"})
			require.Equal(t, http.StatusAccepted, status, "%s", text)
			target := trunk.NextCall(t)
			told := app.waitEvent(t, "onTransfer")
			require.Equal(t, "SUCCEEDED", told.Text("state"))
			requireTone(t, fresh(target), 1000, 800)
			requireTone(t, fresh(call), 1000, 800)
			if name == "PIN" {
				require.Equal(t, "cancelled", app.waitEvent(t, "onDtmf").Text("terminatedBy"))
			}
			require.NoError(t, target.Hangup())
			app.waitState(t, "TERMINATED")
		})
	}
}

// TestAnnouncement is an application that does not answer: the caller hears why, before the answer or after it.
func TestAnnouncement(t *testing.T) {
	for name, answers := range map[string]bool{"early media": false, "answered": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := newPhoneApp(t, func(harness.Object) any { return nil })
			g, trunk := withHotline(t, gateway.NumberConfig{
				CallbackURL: app.URL, AnswerTimeout: "300ms", OnNoAnswer: "announcement", Announcement: "closed.wav", AnnouncementAnswer: answers,
			})
			call, err := dialHotline(t, g, trunk)
			if answers {
				require.NoError(t, err)
				<-call.Ended()
			} else {
				requireRefused(t, err, 480)
			}
			length := requireSound(t, call.Recorded(), 1000, -15)
			require.InDelta(t, 3.0, length.Seconds(), 0.3, "all of it")
			end := app.waitState(t, "TERMINATED")
			require.Equal(t, "the application did not answer within 300ms", end.Text("eventData", "details"))
		})
	}
}

// TestPIN asks for a PIN twice, with a prompt that the first key ends, and puts the caller through.
func TestPIN(t *testing.T) {
	var session string
	app := newPhoneApp(t, func(e harness.Object) any {
		switch {
		case e.Text("event") == "onIncomingCall":
			return harness.Object{"gather": harness.Object{"digits": 6, "timeout": 5, "prompt": "pin.wav"}}
		case e.Text("event") == "onDtmf" && e.Text("digits") == "1234":
			return harness.Object{"gather": harness.Object{"digits": 6, "timeout": 5}}
		case e.Text("event") == "onDtmf" && e.Text("digits") == "471108":
			return harness.Object{"state": "ANSWERED", "sessionId": session, "play": "welcome.wav"}
		}
		return nil
	})
	g, trunk := withHotline(t, gateway.NumberConfig{CallbackURL: app.URL})
	session = g.Session(t)
	call, err := dialHotline(t, g, trunk)
	require.NoError(t, err, "a gather answers the call")
	requireTone(t, tail(harness.WaitRecorded(t, call, 0, listen+listen/2)), 600)
	require.NoError(t, call.SendKeys("1234#"))
	app.wait(t, "the first PIN", func(e harness.Object) bool {
		return e.Text("digits") == "1234" && e.Text("terminatedBy") == "terminator"
	})
	require.Less(t, audio.Level(tail(harness.WaitRecorded(t, call, len(call.Recorded()), listen+listen/2))), -60.0, "the prompt is over")
	require.NoError(t, call.SendKeys("471108"))
	app.wait(t, "the second PIN", func(e harness.Object) bool {
		return e.Text("digits") == "471108" && e.Text("terminatedBy") == "digits"
	})
	from := len(call.Recorded())
	requireSound(t, harness.WaitRecorded(t, call, from, 3*time.Second), 1500, -15)
	members := string(body(t, g, "/sessions/"+session+"/participants"))
	require.Contains(t, members, app.waitEvent(t, "onIncomingCall").Text("participantId"))
	require.NoError(t, call.Hangup())
	app.waitEvent(t, "onLeave")
	dtmf := 0
	for _, w := range app.words() {
		if w == "onDtmf" {
			dtmf++
		}
	}
	require.Equal(t, 2, dtmf, "one for each PIN, and none for a single key")
	require.Eventually(t, func() bool { return strings.Contains(g.Logged(), "call ended") }, harness.Patience, harness.Patience/1000, "the log of this call")
	require.NotContains(t, g.Logged(), "471108")
}

// TestSoundFromAnAddress plays Ogg/Opus that another program's writer made, from an allowed address; any other is refused.
func TestSoundFromAnAddress(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tone.ogg")
	writeOgg(t, file, audio.Tone(1200, -12, 48000, 2*time.Second))
	files := http.NewServeMux()
	files.HandleFunc("/sounds/tone.ogg", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) })
	files.HandleFunc("/private/tone.ogg", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) })
	server := httptest.NewServer(files)
	t.Cleanup(server.Close)
	app := newPhoneApp(t, onCall(harness.Object{"state": "ANSWERED", "play": server.URL + "/sounds/tone.ogg?key=hush"}))
	g, trunk := withHotline(t, gateway.NumberConfig{CallbackURL: app.URL}, func(c *gateway.Config) {
		c.Sounds.Allow = []string{server.URL + "/sounds/"}
	})
	call, err := dialHotline(t, g, trunk)
	require.NoError(t, err)
	require.InDelta(t, 2.0, requireSound(t, harness.WaitRecorded(t, call, 0, 4*time.Second), 1200, -12).Seconds(), 0.3)

	asked := app.waitEvent(t, "onIncomingCall")
	path := "/participants/" + asked.Text("participantId") + "/dialogs/" + asked.Text("dialogId")
	g.Must(t, http.MethodPatch, path, harness.Object{"play": server.URL + "/private/tone.ogg"})
	require.Less(t, audio.Level(harness.WaitRecorded(t, call, len(call.Recorded()), listen)), -60.0)

	// What goes wrong with an address is logged, without its query.
	for _, address := range []string{"/sounds/gone.ogg", "/private/other.ogg"} {
		g.Must(t, http.MethodPatch, path, harness.Object{"play": server.URL + address + "?key=hush"})
		require.Eventually(t, func() bool { return strings.Contains(g.Logged(), address) }, harness.Patience, harness.Patience/1000, address)
	}
	require.NoError(t, call.Hangup())
	app.waitEvent(t, "onLeave")
	require.NotContains(t, g.Logged(), "hush")
}

// writeOgg encodes 48 kHz samples with libopus and writes them with pion's Ogg writer.
func writeOgg(t *testing.T, path string, samples []int16) {
	t.Helper()
	f, err := os.Create(path)
	require.NoError(t, err)
	w, err := oggwriter.NewWith(f, 48000, 1)
	require.NoError(t, err)
	encoder, err := opus.NewEncoder(48000, 1, opus.AppAudio)
	require.NoError(t, err)
	packet := rtp.Packet{Header: rtp.Header{Version: 2}}
	for ; len(samples) >= 960; samples = samples[960:] {
		payload := make([]byte, 1500)
		n, err := encoder.Encode(samples[:960], payload)
		require.NoError(t, err)
		packet.Payload = payload[:n]
		packet.SequenceNumber++
		packet.Timestamp += 960
		require.NoError(t, w.WriteRTP(&packet))
	}
	require.NoError(t, w.Close())
}

// TestCallerGoes hangs up while it rings, and while a PIN is asked for: each has one end.
func TestCallerGoes(t *testing.T) {
	app := newPhoneApp(t, onCall(harness.Object{"play": "tone:ringback"}))
	g, trunk := withHotline(t, gateway.NumberConfig{CallbackURL: app.URL})
	ctx, cancel := context.WithCancel(t.Context())
	_, answered := ring(ctx, t, g, trunk)
	app.waitEvent(t, "onIncomingCall")
	cancel()
	require.Error(t, <-answered)
	end := app.waitState(t, "TERMINATED")
	require.Empty(t, end.Text("eventData", "reason"))
	require.Equal(t, []string{"onIncomingCall", "RINGING", "TERMINATED"}, app.words())
	require.Eventually(t, func() bool { return strings.Contains(metrics(t, g), "tandem_rtp_ports_open 0") }, harness.Patience, 20*time.Millisecond)
}

// TestSlowApplication answers at the third attempt: it counts, because the call still rings.
func TestSlowApplication(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	tries := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		mu.Lock()
		defer mu.Unlock()
		if tries++; tries < 3 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_, _ = io.WriteString(w, `{"state":"ANSWERED"}`)
	}))
	t.Cleanup(server.Close)
	g, trunk := withHotline(t, gateway.NumberConfig{CallbackURL: server.URL})
	call, err := dialHotline(t, g, trunk)
	require.NoError(t, err)
	require.NoError(t, call.Hangup())
}

// TestNumbersBySIPp calls the number as a carrier does, over UDP, TCP and TLS: it rings at once, while the application has not
// even been asked, and ends as the application says.
func TestNumbersBySIPp(t *testing.T) {
	for _, c := range []struct {
		scenario string
		answer   harness.Object
	}{
		{"uac_number", harness.Object{"state": "ANSWERED"}},
		{"uac_announcement", nil},
		{"uac_declined", harness.Object{"state": "TERMINATED", "reason": "FAR END BUSY"}},
	} {
		for _, transport := range []string{"udp", "tcp", "tls"} {
			t.Run(c.scenario+" "+transport, func(t *testing.T) {
				t.Parallel()
				way, rung := harness.NewWay(t, transport), make(chan struct{})
				app := newPhoneApp(t, func(e harness.Object) any {
					if e.Text("event") != "onIncomingCall" || c.answer == nil {
						return nil
					}
					<-rung // the 180 does not wait for this
					return c.answer
				})
				g, _ := withHotline(t, gateway.NumberConfig{
					CallbackURL: app.URL, AnswerTimeout: "2s", OnNoAnswer: "announcement", Announcement: "tone:busy",
				}, func(cfg *gateway.Config) { cfg.Sounds.Folder = ""; way.Prepare(t, cfg) })
				sipp := way.Caller(t, g, c.scenario, "-s", hotline, "-key", "caller", caller)
				app.waitEvent(t, "onIncomingCall")
				require.Eventually(t, func() bool { return strings.Contains(sipp.Messages(), "SIP/2.0 180") }, harness.Patience, 5*time.Millisecond)
				close(rung)
				if c.scenario == "uac_number" {
					e := app.waitState(t, "ANSWERED")
					g.HangUp(t, e.Text("participantId"), e.Text("dialogId"))
				}
				sipp.Passed()
				app.waitState(t, "TERMINATED")
			})
		}
	}
}

// TestHoldMusic is a phone that we put on hold: it hears the music of its number, and then the session again.
func TestHoldMusic(t *testing.T) {
	app := newPhoneApp(t, onCall(harness.Object{"state": "ANSWERED"}))
	g, trunk := withHotline(t, gateway.NumberConfig{CallbackURL: app.URL, HoldMusic: "music.wav"})
	call, err := dialHotline(t, g, trunk)
	require.NoError(t, err)
	asked := app.waitEvent(t, "onIncomingCall")
	path := "/participants/" + asked.Text("participantId") + "/dialogs/" + asked.Text("dialogId")
	fresh := func() []int16 {
		return tail(harness.WaitRecorded(t, call, len(call.Recorded()), listen+listen/2))
	}
	require.Less(t, audio.Level(fresh()), -60.0)
	g.Must(t, http.MethodPost, path+"/hold", nil)
	app.wait(t, "HELD", func(e harness.Object) bool { return e.Text("eventData", "details") == "HELD" })
	requireTone(t, fresh(), 800)
	g.Must(t, http.MethodPost, path+"/resume", nil)
	app.wait(t, "RESUMED", func(e harness.Object) bool { return e.Text("eventData", "details") == "RESUMED" })
	require.Less(t, audio.Level(fresh()), -60.0)
	require.NoError(t, call.Hangup())
}
