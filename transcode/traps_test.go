package transcode

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestKeysCrossAConference: a key that one of three phones presses reaches both others as a key, while the third one
// talks, too.
func TestKeysCrossAConference(t *testing.T) {
	u := newUpstream(t)
	talker, talkerEar := testBridge(t, u.b.engine, u.c, pcmu, nil)
	listener, listenerEar := testBridge(t, u.b.engine, u.c, pcmu, nil)
	voice := newPhoneVoice(0)
	for _, to := range []*Bridge{talker, listener} {
		to.Subscribe(u.b.Source())
	}
	u.b.Subscribe(talker.Source())
	listener.Subscribe(talker.Source())
	step := func() {
		talker.up.ReceiveRTP(voice.make(u.tone[:160]), u.c.now())
		u.c.add(frameTime)
		for _, b := range []*Bridge{u.b, talker, listener} {
			b.tick(u.c.now())
		}
	}
	for range 5 {
		u.take(u.next(160))
		step()
	}
	ts := u.voice.packet.Timestamp
	for i := range uint16(5) {
		u.take(u.event(ts, 7, i == 4, 160*(i+1)))
		step()
	}
	for range 10 {
		step()
	}
	for name, ear := range map[string]*phoneEar{"who talks": talkerEar, "who listens": listenerEar} {
		digits, _ := keysOf(t, ear.events())
		require.Equal(t, "7", digits, name)
	}
}
