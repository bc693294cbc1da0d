package load

import (
	"log/slog"
	"testing"
	"time"

	"github.com/hraban/opus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOpusParameters(t *testing.T) {
	const head = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111 110\r\n"
	for text, want := range map[string]string{
		head + "a=rtpmap:111 OPUS/48000/2\r\na=fmtp:110 0-16\r\na=fmtp:111 minptime=10; maxplaybackrate=8000\r\n": "minptime=10; maxplaybackrate=8000",
		head + "a=rtpmap:110 telephone-event/8000\r\na=fmtp:110 0-16\r\n":                                         "",
		head + "a=rtpmap:111 opus/48000/2\r\n":                                                                    "",
		"nothing":                                                                                                 "",
	} {
		assert.Equal(t, want, opusParameters(text), text)
	}
	for asked, narrow := range map[string]bool{
		"minptime=10; maxplaybackrate=8000": true, "minptime=10;maxplaybackrate=16000": false, "maxplaybackrate=80000": false, "": false,
	} {
		var b browser
		assert.False(t, b.heldNarrow(), "nothing was asked")
		b.asked.Store(&asked)
		assert.Equal(t, narrow, b.heldNarrow(), asked)
	}
}

// TestBrowsersFollow: a browser is told that 8 kHz are enough, obeys, and is heard; others are not told and are heard too.
func TestBrowsersFollow(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program and holds calls")
	}
	says, err := allSounds()
	require.NoError(t, err)
	program := builtProgram(t)
	for _, follows := range []bool{true, false} {
		says := *says
		enc, err := browserEncoder(narrowBitrate, opus.Narrowband)
		require.NoError(t, err)
		says.narrow, err = encodeMarks(enc)
		require.NoError(t, err)
		cfg := Config{
			Gateway: []string{program, "serve"}, Calls: 2, Duration: 2 * time.Second, Idle: time.Millisecond, Follows: follows,
			Log: slog.New(slog.DiscardHandler),
		}
		var asked string
		r, err := hold(t.Context(), ours, cfg, nil, &says, func(b *bench) {
			b.check = func(b *bench) error {
				asked = *b.pairs[0].browser.asked.Load()
				return nil
			}
		})
		require.NoError(t, err)
		t.Log(asked)
		assert.Equal(t, follows, hasParameter(asked, narrowFmtp))
		assert.Positive(t, r.ToPhone.Received)
	}
}
