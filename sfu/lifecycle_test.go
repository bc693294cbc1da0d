package sfu_test

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/sessions"
	"tandem/sfu"
)

const short = 200 * time.Millisecond

func (r *room) waitFor(t *testing.T, events ...string) {
	t.Helper()
	require.Eventually(t, func() bool { return slices.Equal(r.log(), events) }, patience, time.Millisecond, "events: %v", events)
}

// greet connects a client that makes its first call and then does nothing: it does not even read.
func greet(t *testing.T, g *gateway, path string) *websocket.Conn {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), g.url+path, &websocket.DialOptions{ //nolint:bodyclose // the WebSocket has it
		HTTPHeader: http.Header{"Origin": {"https://app.example.com"}},
	})
	require.NoError(t, err)
	require.NoError(t, conn.Write(t.Context(), websocket.MessageText, []byte(`{"jsonrpc":"2.0","id":1,"method":"setMediaPreferences"}`)))
	return conn
}

func TestABadTokenEndsForGood(t *testing.T) {
	g := serve(t, anybody("ann"), sfu.Config{})
	b := newBrowser(t, g)
	b.dial("stranger", "x")
	require.Equal(t, websocket.StatusNormalClosure, b.waitClosed(), "any other code makes the client knock every second")
	require.Equal(t, "the token has expired", b.told())
	require.Empty(t, g.room.log())

	long := newBrowser(t, g)
	long.dial("ann", strings.Repeat("x", 1000))
	require.Equal(t, websocket.StatusNormalClosure, long.waitClosed())
}

func TestAFaultOfOursLetsTheDeviceTryAgain(t *testing.T) {
	r := anybody("ann")
	r.failing = errors.New("database is down")
	g := serve(t, r, sfu.Config{})
	b := newBrowser(t, g)
	b.dial("ann", "x")
	refused := b.request("setMediaPreferences", map[string]string{"protocol": "WEBRTC"})
	require.Equal(t, -32603, refused.Error.Code)
	require.Equal(t, "internal error", refused.Error.Message)
	require.Equal(t, websocket.StatusTryAgainLater, b.waitClosed())
}

func TestAnyOriginAndNoUniqueID(t *testing.T) {
	g := serve(t, anybody("ann"), sfu.Config{})
	conn := greet(t, g, "/v3/?token=token-ann")
	_, answer, err := conn.Read(t.Context())
	require.NoError(t, err)
	require.JSONEq(t, `{"jsonrpc":"2.0","id":1,"result":{}}`, string(answer))
	require.NoError(t, conn.CloseNow())
}

func TestMessagesUpToOneMebibyte(t *testing.T) {
	g := serve(t, anybody("ann"), sfu.Config{})
	ann := g.browser(t, "ann", "a1")
	ann.call("ping", map[string]string{"pad": strings.Repeat("x", 1<<20-200)})
	ann.write(ann.conn, "ping", 5, map[string]string{"pad": strings.Repeat("x", 1<<20)})
	require.Equal(t, websocket.StatusMessageTooBig, ann.waitClosed())
}

func TestLeave(t *testing.T) {
	g := serve(t, anybody("ann"), sfu.Config{})
	ann := g.browser(t, "ann", "a1")
	ann.track(webrtc.MimeTypeOpus, "s", "mic")
	ann.offerPublish(nil, nil)
	require.Len(t, g.room.sources("ann"), 1)
	ann.write(ann.conn, "leave", 0, nil)
	require.Equal(t, websocket.StatusNormalClosure, ann.waitClosed())
	g.room.waitFor(t, "ann connected a1", "ann left")
	require.Empty(t, g.room.sources("ann"))
	require.Eventually(t, func() bool { return g.Devices() == 0 }, patience, time.Millisecond)
}

func TestTheGatewayStops(t *testing.T) {
	g := serve(t, anybody("ann"), sfu.Config{})
	ann := g.browser(t, "ann", "a1")
	g.stop()
	require.Equal(t, websocket.StatusServiceRestart, ann.waitClosed())
	g.room.waitFor(t, "ann connected a1", "ann left")
}

func TestADeletedParticipant(t *testing.T) {
	g := serve(t, anybody("ann"), sfu.Config{})
	ann := g.browser(t, "ann", "a1")
	g.room.delete("ann")
	require.Equal(t, websocket.StatusNormalClosure, ann.waitClosed())
	require.Equal(t, `participant "ann" was deleted`, ann.told())
	g.room.waitFor(t, "ann connected a1", "ann left")
}

func TestAnotherDeviceReplaces(t *testing.T) {
	g := serve(t, anybody("ann"), sfu.Config{})
	old := g.browser(t, "ann", "a1")
	g.browser(t, "ann", "a2")
	require.Equal(t, websocket.StatusNormalClosure, old.waitClosed())
	require.Contains(t, old.told(), "another device")
	g.room.waitFor(t, "ann connected a1", "ann left", "ann connected a2")
}

// A client whose device ended here (a restart, a grace period that was over) comes back without its first call. It
// cannot rebuild its connections, so it is sent away for good, and nobody is told that it had come.
func TestAClientThatIsNotKnownAnyMore(t *testing.T) {
	g := serve(t, anybody("ann"), sfu.Config{HelloTimeout: short})
	b := newBrowser(t, g)
	b.dial("ann", "a1")
	require.Equal(t, websocket.StatusNormalClosure, b.waitClosed())
	require.Contains(t, b.told(), "join again")

	b.dial("ann", "a1")
	refused := b.request("offerSdp", map[string]string{"sdpOffer": "v=0"})
	require.Contains(t, refused.Error.Message, "join again")
	require.Equal(t, websocket.StatusNormalClosure, b.waitClosed())
	require.Empty(t, g.room.log())
}

func TestALostDevice(t *testing.T) {
	g := serve(t, anybody("ann"), sfu.Config{Grace: short})
	ann := g.browser(t, "ann", "a1")
	ann.track(webrtc.MimeTypeOpus, "s", "mic")
	ann.offerPublish(nil, nil)
	require.NoError(t, ann.conn.CloseNow())
	g.room.waitFor(t, "ann connected a1", "ann lost")
	require.Empty(t, g.room.sources("ann"))
}

// The request that brought a socket is over as soon as the device has it: a call of hours keeps nothing of net/http. The
// device is ended as ever.
func TestTheRequestOfASocketEnds(t *testing.T) {
	g := serve(t, anybody("ann"), sfu.Config{})
	over := make(chan struct{})
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.ServeHTTP(w, r)
		close(over)
	}))
	defer web.Close()
	g.url = "ws" + strings.TrimPrefix(web.URL, "http")
	ann := g.browser(t, "ann", "a1")
	select {
	case <-over:
	case <-time.After(patience):
		require.Fail(t, "the request goes on")
	}
	ann.call("ping", nil)
	g.stop()
	require.Equal(t, websocket.StatusServiceRestart, ann.waitClosed())
	g.room.waitFor(t, "ann connected a1", "ann left")
}

// fragile is a listener that fails at its first packet.
type fragile struct{}

func (fragile) WriteRTP(*rtp.Packet) { panic("injected") }

// TestPanicEndsOneDevice: what a packet of a device sets off ends that device, which may come back, and no other.
func TestPanicEndsOneDevice(t *testing.T) {
	g := serve(t, anybody("ann", "bob", "cat"), sfu.Config{})
	ann, bob, cat := g.browser(t, "ann", "a1"), g.browser(t, "bob", "b1"), g.browser(t, "cat", "c1")
	mic, voice := ann.track(webrtc.MimeTypeOpus, "ann", "mic"), bob.track(webrtc.MimeTypeOpus, "bob", "voice")
	ann.offerPublish(nil, nil)
	bob.offerPublish(nil, nil)
	voice.until(t, "voice", func() bool { return cat.hears("bob", "voice").count("voice") >= 5 })
	g.room.sources("ann")[0].Audio().Add(fragile{})
	mic.until(t, "voice", func() bool { return slices.Contains(g.room.log(), "ann lost") })
	heard := cat.hears("bob", "voice").count("voice")
	voice.until(t, "voice", func() bool { return cat.hears("bob", "voice").count("voice") >= heard+5 })
}

// A peer that went away without a word: its socket stays open and says nothing.
func TestASilentSocket(t *testing.T) {
	g := serve(t, anybody("ann"), sfu.Config{Grace: short, PingInterval: short, PongTimeout: short})
	conn := greet(t, g, "/v3/?token=token-ann&uniqueId=a1")
	g.room.waitFor(t, "ann connected a1", "ann lost")
	require.NoError(t, conn.CloseNow())
}

func TestASlowSocket(t *testing.T) {
	g := serve(t, anybody("ann"), sfu.Config{Grace: short})
	conn := greet(t, g, "/v3/?token=token-ann&uniqueId=a1")
	g.room.waitFor(t, "ann connected a1")
	g.room.mu.Lock()
	device, ok := g.room.members["ann"].endpoint.(sessions.Observer)
	g.room.mu.Unlock()
	require.True(t, ok)
	require.Eventually(t, func() bool {
		for range 100 {
			device.DialogChanged(sessions.DialogChange{Details: strings.Repeat("x", 10000)})
		}
		return slices.Contains(g.room.log(), "ann lost")
	}, patience, time.Millisecond)
	require.NoError(t, conn.CloseNow())
}

func TestASlowDevice(t *testing.T) {
	r := anybody("ann")
	g := serve(t, r, sfu.Config{})
	busy := make(chan sessions.Endpoint)
	go func() {
		ep := <-busy
		for range 5000 {
			ep.Subscribe(&media.Source{})
		}
		close(busy)
	}()
	r.mu.Lock()
	r.entered = func(ep sessions.Endpoint) { busy <- ep; <-busy }
	r.mu.Unlock()
	b := newBrowser(t, g)
	b.dial("ann", "a1")
	b.write(b.conn, "setMediaPreferences", 1, nil)
	require.Equal(t, websocket.StatusNormalClosure, b.waitClosed())
	g.room.waitFor(t, "ann connected a1", "ann lost")
}

func TestDialogNotifications(t *testing.T) {
	g := serve(t, anybody("ann"), sfu.Config{})
	ann := g.browser(t, "ann", "a1")
	g.room.mu.Lock()
	device, ok := g.room.members["ann"].endpoint.(sessions.Observer)
	g.room.mu.Unlock()
	require.True(t, ok)
	device.DialogChanged(sessions.DialogChange{
		Dialog: "d", Participant: "p", State: "TERMINATED", To: "+1", From: "+2", Reason: "ERROR", Details: "480",
	})
	note := ann.nextNote()
	require.Equal(t, "dialogStateChange", note.Method)
	require.JSONEq(t, `{"dialogId":"d","participantId":"p","state":"TERMINATED","to":"+1","from":"+2","reason":"ERROR","details":"480"}`, string(note.Params))
}

// The same uniqueId within the grace period: nothing is published anew, and media goes on without a new offer.
func TestResume(t *testing.T) {
	g := serve(t, anybody("ann", "bob"), sfu.Config{})
	ann, bob := g.browser(t, "ann", "a1"), g.browser(t, "bob", "b1")
	mic := ann.track(webrtc.MimeTypeOpus, "s", "mic")
	ann.offerPublish(nil, nil)
	mic.until(t, "v", func() bool { return bob.hears("s", "mic").count("v") > 3 })
	source := g.room.sources("ann")[0]

	for _, b := range []*browser{ann, bob} {
		require.NoError(t, b.conn.CloseNow())
		<-b.closed
	}
	mic.until(t, "meanwhile", func() bool { return bob.hears("s", "mic").count("meanwhile") > 3 })
	ann.dial("ann", "a1")
	bob.dial("bob", "b1")
	require.Same(t, source, g.room.sources("ann")[0])
	mic.until(t, "after", func() bool { return bob.hears("s", "mic").count("after") > 3 })

	second := ann.track(webrtc.MimeTypeOpus, "s2", "mic2")
	ann.offerPublish(nil, nil)
	second.until(t, "2", func() bool { return bob.hears("s2", "mic2").count("2") > 3 })
	require.Equal(t, 1, bob.nextOffer().SDPRevision)
	require.Equal(t, 2, bob.nextOffer().SDPRevision)
	require.Equal(t, []string{"ann connected a1", "bob connected b1"}, g.room.log(), "a reconnect repeats no call")
}

// An offer that was outstanding when the socket went is sent again with the next revision.
func TestResumeWithAnOutstandingOffer(t *testing.T) {
	g := serve(t, anybody("ann", "bob"), sfu.Config{})
	bob := g.browser(t, "bob", "b1", silent)
	p := newPhone("carl", "leg")
	g.room.publish(p.src)
	first := bob.nextOffer()
	require.NoError(t, bob.conn.CloseNow())
	<-bob.closed
	bob.mute.Store(false)
	bob.dial("bob", "b1")
	again := bob.nextOffer()
	require.Equal(t, 2, again.SDPRevision)
	require.Equal(t, first.SDPOffer, again.SDPOffer)
	p.until(t, "v", func() bool { return bob.hears("leg", "voice").count("v") > 3 })
}

// A client that leaves and joins again with the same uniqueId still ignores the revisions that it has seen.
func TestRevisionsGoOnAfterLeaving(t *testing.T) {
	g := serve(t, anybody("bob"), sfu.Config{})
	g.room.publish(newPhone("carl", "leg").src)
	bob := g.browser(t, "bob", "b1")
	require.Equal(t, 1, bob.nextOffer().SDPRevision)
	bob.write(bob.conn, "leave", 0, nil)
	bob.waitClosed()
	require.Eventually(t, func() bool { return g.Devices() == 0 }, patience, time.Millisecond)
	again := g.browser(t, "bob", "b1")
	require.Equal(t, 2, again.nextOffer().SDPRevision)
}

// The goroutines of devices that came and went are gone.
func TestNothingStays(t *testing.T) {
	g := serve(t, anybody("ann", "bob"), sfu.Config{Grace: short})
	round := func(i int) {
		ann, bob := g.browser(t, "ann", "a1"), g.browser(t, "bob", "b1")
		mic := ann.track(webrtc.MimeTypeOpus, "s", "mic")
		cam := ann.track(webrtc.MimeTypeVP8, "s", "cam")
		ann.offerPublish(nil, nil)
		mic.until(t, "v", func() bool {
			cam.say("p")
			return bob.hears("s", "mic").count("v") > 0 && bob.hears("s", "cam").count("p") > 0
		})
		if i%2 == 0 {
			ann.write(ann.conn, "leave", 0, nil)
			ann.waitClosed()
		}
		ann.close()
		bob.close()
		require.Eventually(t, func() bool { return g.Devices() == 0 }, patience, time.Millisecond)
	}
	round(0)
	before := runtime.NumGoroutine()
	for i := range 10 {
		round(i)
	}
	condition := 1 // runs on a goroutine of its own
	require.Eventually(t, func() bool { return runtime.NumGoroutine()-condition <= before }, patience, time.Millisecond)
}

func TestPortsInUse(t *testing.T) {
	g := serve(t, anybody("ann"), sfu.Config{})
	log := slog.New(slog.DiscardHandler)
	_, err := sfu.Listen(sfu.Config{UDP: g.UDPAddr()}, g.room, log)
	require.ErrorContains(t, err, "listen for browsers' media")
	_, err = sfu.Listen(sfu.Config{TCP: g.TCPAddr()}, g.room, log)
	require.ErrorContains(t, err, "over TCP")
	alone, err := sfu.Listen(sfu.Config{}, g.room, log)
	require.NoError(t, err)
	require.False(t, alone.TCPAddr().IsValid())
	require.NoError(t, alone.Close())
}
