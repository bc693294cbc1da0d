package dialogs_test

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/stretchr/testify/require"

	"tandem/dialogs"
	"tandem/media"
	"tandem/sessions"
)

const patience = 15 * time.Second // how long a test on sockets waits for what must come

// handset is a telephone with a socket, and the leg's port that it talks to.
type handset struct {
	t     *testing.T
	conn  *net.UDPConn
	port  *media.Port
	media media.PortMedia
	rtp   rtp.Packet
	keys  media.KeyReader // of readKeys

	payloadType uint8 // of what it speaks
}

func newHandset(t *testing.T) *handset {
	t.Helper()
	loopback := netip.MustParseAddr("127.0.0.1")
	ports, err := media.NewPorts(media.PortsConfig{Listen: []netip.Addr{loopback}, From: 34000, To: 34999})
	require.NoError(t, err)
	port, err := ports.Open()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, port.Close()) })
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	h := &handset{t: t, conn: conn, port: port}
	h.media = media.PortMedia{
		Remote: conn.LocalAddr().(*net.UDPAddr).AddrPort(), Speech: media.PCMU, EventType: 101, Send: true, Receive: true,
	}
	h.rtp.Version, h.rtp.SSRC = 2, 7
	return h
}

func (h *handset) send(payloadType uint8, payload []byte) {
	h.t.Helper()
	h.rtp.PayloadType, h.rtp.Payload = payloadType, payload
	h.rtp.SequenceNumber++
	b, err := h.rtp.Marshal()
	require.NoError(h.t, err)
	_, err = h.conn.WriteToUDPAddrPort(b, h.port.Local())
	require.NoError(h.t, err)
}

// press presses and releases a key for 100 ms (RFC 4733 §2.5).
func (h *handset) press(digit byte) {
	h.t.Helper()
	h.rtp.Timestamp += 1600
	event := byte(strings.IndexByte("0123456789*#", digit))
	h.send(101, []byte{event, 10, 0, 160})
	for range 3 {
		h.send(101, []byte{event, 0x80 | 10, 800 >> 8, 800 & 0xff})
	}
}

// keys tells of the keys that a source publishes.
type keys chan byte

func (k keys) WriteKey(key media.Key) {
	if key.Ended {
		k <- key.Digit
	}
}

// ear is a device that tells of the sources that it is given, and of those that are taken away.
type ear struct{ given, taken chan *media.Source }

func newEar() *ear {
	return &ear{given: make(chan *media.Source, 16), taken: make(chan *media.Source, 16)}
}

func (e *ear) Subscribe(src *media.Source)   { e.given <- src }
func (e *ear) Unsubscribe(src *media.Source) { e.taken <- src }
func (e *ear) Mute(*media.Source, bool)      {}
func (e *ear) Close(error)                   {}

// next waits for what must come.
func next[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		require.FailNow(t, "it did not come")
		panic("not reached")
	}
}

// eventually waits until the events about a participant are these.
func (h *house) eventually(t *testing.T, participant, words string) {
	t.Helper()
	require.Eventually(t, func() bool { return h.words(t, participant) == words }, patience, 5*time.Millisecond,
		"want %s", words)
}

// conversation is an agent's browser and a phone in one session, over real sockets.
func conversation(t *testing.T, more ...func(*dialogs.Config)) (h *house, phone *handset, browser *ear, voice *media.Source, ref dialogs.Ref, l *leg) {
	t.Helper()
	h = open(t, more...)
	t.Cleanup(func() { h.close(t) })
	ctx, cancel := context.WithCancel(t.Context())
	clock := make(chan error, 1)
	go func() { clock <- h.engine.Run(ctx) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-clock) })

	s, err := h.people.CreateSession(t.Context(), account, sessions.NewSession{})
	require.NoError(t, err)
	agent, _ := h.participant(t)
	caller, _ := h.participant(t)
	for _, id := range []string{agent, caller} {
		require.NoError(t, h.people.Join(t.Context(), account, s.ID, id, sessions.Subscriptions{Session: s.ID}))
	}
	p, err := h.people.Participant(t.Context(), account, agent)
	require.NoError(t, err)
	browser = newEar()
	device, err := h.people.Connect(t.Context(), p, "d", browser)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, device.Leave(context.WithoutCancel(t.Context()))) })
	voice = &media.Source{Participant: agent, Stream: "agent", Tracks: []*media.Track{
		media.NewTrack("audio", media.Audio, media.BrowserOpus(), nil),
	}}
	device.Publish(voice)
	phone = newHandset(t)
	ref, l = h.dialAs(t, caller, func(c *dialogs.Create) { c.Session = s.ID })
	ref.Session = s.ID
	return h, phone, browser, voice, ref, l
}

// TestSound lets a call get its media, and then leave its session: who hears whom follows, and all is let go in the end.
func TestSound(t *testing.T) {
	h, phone, browser, voice, ref, l := conversation(t)
	require.False(t, voice.Tracks[0].Wanted(), "the phone has no media yet")
	l.happens(dialogs.LegCalling, dialogs.LegRinging)
	l.events <- &dialogs.LegEvent{Kind: dialogs.LegMedia, Port: phone.port, Media: phone.media} // early media
	called := next(t, browser.given)
	require.Equal(t, ref.Participant, called.Participant)
	require.Equal(t, ref.Dialog, called.Stream, "a phone's msid is stable for its leg")
	require.True(t, voice.Tracks[0].Wanted(), "the phone hears what it was subscribed to before it had media")
	l.events <- &dialogs.LegEvent{Kind: dialogs.LegMedia, Port: phone.port, Media: phone.media} // the same again, with the 200
	l.happens(dialogs.LegAnswered)
	h.eventually(t, ref.Participant, "CALLING, RINGING, ANSWERED, onConnect")

	require.NoError(t, h.people.Leave(t.Context(), account, ref.Session, ref.Participant))
	require.Same(t, called, next(t, browser.taken))
	require.False(t, voice.Tracks[0].Wanted())
	require.Equal(t, 1, h.Live(), "the call stays up, off the air")
	_, err := h.Get(t.Context(), ref)
	require.Error(t, err, "the path names a session where it is not any more")
	require.NoError(t, h.people.Join(t.Context(), account, ref.Session, ref.Participant, sessions.Subscriptions{Session: ref.Session}))
	require.Same(t, called, next(t, browser.given), "published once, however often its media changed")
	require.Empty(t, browser.given)
	require.True(t, voice.Tracks[0].Wanted())

	l.end(byeBye())
	require.Same(t, called, next(t, browser.taken))
	h.eventually(t, ref.Participant, "CALLING, RINGING, ANSWERED, onConnect, TERMINATED, onLeave")
	require.False(t, voice.Tracks[0].Wanted())
}

// TestKeys presses keys on the phone: each is reported once, and those that were pressed before the end before it,
// whatever the database does.
func TestKeys(t *testing.T) {
	const up = "CALLING, ANSWERED, onConnect, "
	h, phone, browser, _, ref, l := conversation(t)
	l.happens(dialogs.LegCalling, dialogs.LegAnswered)
	l.events <- &dialogs.LegEvent{Kind: dialogs.LegMedia, Port: phone.port, Media: phone.media}
	heard := make(keys, 16)
	next(t, browser.given).AddKeys(heard)

	phone.press('5')
	require.Equal(t, byte('5'), next(t, heard))
	h.eventually(t, ref.Participant, up+"key 5")
	e := h.drain(t, ref.Participant)[3]
	require.Equal(t, ref.Dialog, e.DialogID)
	require.Equal(t, "rfc4733", e.Method)
	require.EqualValues(t, 100, e.Duration, "ms")

	h.db.set(1, 1) // away for one write; then the answer of one is lost
	h.db.mu.Lock() // the call's goroutine waits for the database with the first key; the others wait in line
	for _, digit := range []byte("12*#0") {
		phone.press(digit)
		require.Equal(t, digit, next(t, heard))
	}
	l.end(byeBye())
	h.db.mu.Unlock()
	// The last key was published, but is perhaps not yet in the call's line when the call ends.
	require.Eventually(t, func() bool { return strings.HasSuffix(h.words(t, ref.Participant), "TERMINATED, onLeave") }, patience, 5*time.Millisecond)
	words := strings.Replace(h.words(t, ref.Participant), "key 0, ", "", 1)
	require.Equal(t, up+"key 5, key 1, key 2, key *, key #, TERMINATED, onLeave", words)
	require.Eventually(t, func() bool { return h.Live() == 0 }, patience, time.Millisecond)
}
