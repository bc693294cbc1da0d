package browser_test

import (
	"context"
	"encoding/base64"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hraban/opus"
	"github.com/pion/rtp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/sessions"
	"tandem/sfu"
	"tandem/test/audio"
	"tandem/test/browser"
)

// studio is a server of devices in which the test itself listens.
type studio struct {
	url     string
	sources chan *media.Source
}

func (s *studio) Authenticate(context.Context, string) (sessions.Participant, error) {
	return sessions.Participant{ID: "singer", Permissions: []sessions.Permission{sessions.PublishAudio}}, nil
}

func (s *studio) Connect(context.Context, sessions.Participant, string, sessions.Endpoint) (sfu.Membership, error) {
	return s, nil
}

func (s *studio) Publish(src *media.Source)   { s.sources <- src }
func (s *studio) Unpublish(*media.Source)     {}
func (s *studio) Leave(context.Context) error { return nil }
func (s *studio) Lost(context.Context) error  { return nil }

func openStudio(t *testing.T) *studio {
	t.Helper()
	s := &studio{sources: make(chan *media.Source, 10)}
	loopback := netip.MustParseAddrPort("127.0.0.1:0")
	server, err := sfu.Listen(sfu.Config{UDP: loopback, BandPause: 100 * time.Millisecond}, s, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { assert.NoError(t, server.Run(ctx)) })
	web := httptest.NewServer(server)
	t.Cleanup(func() {
		cancel()
		running.Wait()
		web.Close()
	})
	<-server.Serving()
	s.url = "ws" + strings.TrimPrefix(web.URL, "http")
	return s
}

func (s *studio) voice(t *testing.T) *media.Track {
	t.Helper()
	select {
	case src := <-s.sources:
		return src.Audio()
	case <-time.After(patience):
		require.FailNow(t, "the microphone is not published")
		return nil
	}
}

// tape keeps packets of Opus.
type tape struct{ packets chan []byte }

func (k tape) WriteRTP(p *rtp.Packet) {
	select {
	case k.packets <- slices.Clone(p.Payload):
	default: // nobody waits for it any more
	}
}

// narrowPacket says whether a packet of Opus holds nothing above 4 kHz by its own word (RFC 6716 §3.1).
func narrowPacket(p []byte) bool {
	config := p[0] >> 3
	return config < 4 || config >= 16 && config < 20
}

// next takes whole seconds of packets, once they have begun to be narrow or not.
func (k tape) next(t *testing.T, narrow bool, n int) (pieces [][]byte) {
	t.Helper()
	deadline := time.After(patience)
	for len(pieces) < n {
		select {
		case p := <-k.packets:
			switch {
			case narrowPacket(p) == narrow:
				pieces = append(pieces, p)
			case len(pieces) > 0:
				require.FailNow(t, "the bandwidth changes by itself", "after %d packets", len(pieces))
			}
		case <-deadline:
			require.FailNow(t, "no such packets", "narrow: %v", narrow)
		}
	}
	return pieces
}

// decoded is what packets sound like, and how long decoding them to 8 kHz takes for each, the least of some turns.
func decoded(t *testing.T, packets [][]byte) (pcm []int16, each time.Duration) {
	t.Helper()
	full, err := opus.NewDecoder(browser.Rate, 1)
	require.NoError(t, err)
	buf := make([]int16, 5760)
	for _, p := range packets {
		n, err := full.Decode(p, buf)
		require.NoError(t, err)
		pcm = append(pcm, buf[:n]...)
	}
	each = time.Hour
	for range 5 {
		phone, err := opus.NewDecoder(8000, 1)
		require.NoError(t, err)
		began := time.Now()
		for _, p := range packets {
			_, err := phone.Decode(p, buf)
			require.NoError(t, err)
		}
		each = min(each, time.Since(began)/time.Duration(len(packets)))
	}
	return pcm, each
}

// bass and treble are tones on either side of what a telephone carries.
const (
	bass   = 1000
	treble = 6000
)

// microphone is a file with both.
func microphone(t *testing.T) string {
	t.Helper()
	path := t.TempDir() + "/both.wav"
	both := audio.Mix(audio.Tone(bass, -18, browser.Rate, time.Second), audio.Tone(treble, -18, browser.Rate, time.Second))
	require.NoError(t, audio.WriteWAV(path, both, browser.Rate))
	return path
}

// TestBrowserSendsNarrowband: while phones of G.711 alone hear a real browser, nothing above 4 kHz comes of it; as soon
// as somebody else listens, everything does.
func TestBrowserSendsNarrowband(t *testing.T) {
	s := openStudio(t)
	page := browser.Start(t, microphone(t)).Page(t)
	require.NoError(t, page.JoinAsDemo("token", s.url))
	track := s.voice(t)
	phone, listener := tape{make(chan []byte, 10000)}, tape{make(chan []byte, 10000)}
	treblesIn := func(packets [][]byte) (below float64, each time.Duration) {
		pcm, each := decoded(t, packets)
		pcm = pcm[len(pcm)/2:]
		bytes := 0
		for _, p := range packets {
			bytes += len(p)
		}
		below = audio.Goertzel(pcm, browser.Rate, treble) - audio.Goertzel(pcm, browser.Rate, bass)
		t.Logf("6 kHz %.1f dB beside 1 kHz; decoding to 8 kHz %v a packet of %d bytes", below, each, bytes/len(packets))
		return below, each
	}

	track.AddNarrow(phone)
	low, cheap := treblesIn(phone.next(t, true, 100))
	assert.Less(t, low, -40.0)
	track.Add(listener)
	high, dear := treblesIn(listener.next(t, false, 100))
	assert.Greater(t, high, -6.0)
	t.Logf("decoding costs %.2f of full band", cheap.Seconds()/dear.Seconds())
	track.Remove(listener)
	for len(phone.packets) > 0 {
		<-phone.packets
	}
	treblesIn(phone.next(t, true, 50))
}

// TestPublishedSDKIsNotHeldToNarrowband: it does not renegotiate when it is asked to.
func TestPublishedSDKIsNotHeldToNarrowband(t *testing.T) {
	s := openStudio(t)
	page := browser.Start(t, microphone(t)).Page(t)
	require.NoError(t, page.Connect("e30."+base64.RawURLEncoding.EncodeToString([]byte(`{"v":"v3"}`))+".", s.url))
	_, err := page.Publish(true, false, "microphone")
	require.NoError(t, err)
	track := s.voice(t)
	phone := tape{make(chan []byte, 10000)}
	track.AddNarrow(phone)
	_, err = page.Publish(true, false, "second") // another offer, and its answer
	require.NoError(t, err)
	for len(phone.packets) > 0 {
		<-phone.packets
	}
	phone.next(t, false, 50)
}
