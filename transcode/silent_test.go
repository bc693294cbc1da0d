package transcode

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/test/audio"
)

// TestSilentVoicesLeaveTheMix: who has spoken and is silent is in no mix any more, whatever its packets hold, and its phone shares
// what is encoded for the others. A word that begins then is whole, and so is its end.
func TestSilentVoicesLeaveTheMix(t *testing.T) {
	k := newConference(t, 3, 3)
	one, two := k.webs[0].speaker(500, -20), k.webs[1].speaker(900, -20)
	word, silent := k.webs[2].speaker(1300, -20), k.webs[2].pause()
	owns := make([]func(), 0, len(k.phones))
	for i, b := range k.phones {
		own, level := newPhoneVoice(media.PCMU), -20.0
		tone := audio.Tone(1700+200*float64(i), level, 8000, loop)
		at := 0
		owns = append(owns, func() {
			pcm := make([]int16, 160)
			if at < 50*160 { // for a second
				copy(pcm, tone[at:])
			}
			at += 160
			b.up.ReceiveRTP(own.make(pcm), k.c.now())
		})
	}
	says := append([]func(){one, two}, owns...)
	k.run(50, append(says, word)...)
	m := k.phones[0].down.mix
	used := func() (n int) {
		for _, v := range m.voices {
			if v.used.Load() {
				n++
			}
		}
		return n
	}
	require.Equal(t, 6, used())
	k.run(50, append(says, silent)...)
	require.Equal(t, 2, used(), "two speak")
	encoded := func() (n uint64) {
		for i := range m.codes.coders {
			n += m.codes.coders[i].packets
		}
		for _, b := range k.phones {
			n += b.down.coder.packets
		}
		return n
	}
	before := encoded()
	k.run(50, append(says, silent)...)
	require.EqualValues(t, 50, encoded()-before, "packets, once for all phones")

	from := len(k.ears[0].got)
	k.run(10, append(says, word)...)
	k.run(40, append(says, silent)...)
	pcm := k.ears[0].pcm(media.PCMU)[from*160:]
	heard := 0
	for i := 0; i+40 <= len(pcm); i += 40 {
		if audio.Goertzel(pcm[i:i+40], 8000, 1300) > -24 {
			heard += 5
		}
	}
	require.InDelta(t, 200, heard, 15, "ms of the word")
	require.Equal(t, 2, used())
}
