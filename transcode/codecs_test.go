package transcode

import (
	"testing"
	"time"

	"github.com/gotranspile/g722"
	"github.com/hraban/opus"
	"github.com/pion/rtp"
	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/test/audio"
)

var (
	g722Phone = media.PortMedia{Speech: media.G722, EventType: 101, Send: true, Receive: true}
	opusPhone = media.PortMedia{Speech: media.Opus, PayloadType: 107, EventType: 101, Send: true, Receive: true}
)

// wideSpeaker lets a phone say a tone at 16 kHz, on and on, 20 ms a time.
func wideSpeaker(t *testing.T, b *Bridge, c *clock, speech media.Speech, freq, level float64) func() {
	t.Helper()
	tone := audio.Tone(freq, level, wide, loop)
	p := rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: uint8(speech), SequenceNumber: 65500, Timestamp: 0xffff_f000, SSRC: 5}}
	coder := g722.NewEncoder(g722.Rate64000, 0)
	enc, err := opus.NewEncoder(wide, 1, opus.AppVoIP)
	require.NoError(t, err)
	payload := make([]byte, 1500)
	at := 0
	return func() {
		pcm := tone[at : at+320]
		at = (at + 320) % len(tone)
		step := uint32(160)
		var n int
		if speech == media.Opus {
			n, err = enc.Encode(pcm, payload)
			require.NoError(t, err)
			p.PayloadType, step = opusPhone.PayloadType, 960
		} else {
			n = coder.Encode(payload, pcm)
		}
		p.Payload = payload[:n]
		b.up.ReceiveRTP(&p, c.now())
		p.SequenceNumber++
		p.Timestamp += step
	}
}

// wideSound is what a phone heard at 16 kHz, in its packets' order.
func wideSound(t *testing.T, ear *phoneEar, speech media.Speech) []int16 {
	t.Helper()
	var out []int16
	buf := make([]int16, 1920)
	g := g722.NewDecoder(g722.Rate64000, 0)
	o, err := opus.NewDecoder(wide, 1)
	require.NoError(t, err)
	for _, k := range ear.got {
		var n int
		switch {
		case speech == media.G722 && k.pt == uint8(media.G722):
			n = g.Decode(buf, k.payload)
		case speech == media.Opus && k.pt == opusPhone.PayloadType:
			n, err = o.Decode(k.payload, buf)
			require.NoError(t, err)
		}
		out = append(out, buf[:n]...)
	}
	return out
}

// TestWidebandPhones: what is above 4 kHz gets through between wideband phones and browsers, both ways, directly and mixed.
func TestWidebandPhones(t *testing.T) {
	for _, m := range []media.PortMedia{g722Phone, opusPhone} {
		for _, others := range []int{0, 1} {
			t.Run(m.Speech.String()+map[int]string{0: ", directly", 1: ", mixed"}[others], func(t *testing.T) {
				c := newClock()
				b, ear := testBridge(t, testEngine(c, Config{Bitrate: 40000}), c, m, nil)
				var web opusEar
				b.Source().Audio().Add(&web)
				browser := newBrowser(t, "w", 1)
				b.Subscribe(browser.src)
				says := []func(){browser.speaker(6000, -20), wideSpeaker(t, b, c, m.Speech, 5000, -20)}
				for range others {
					other := newBrowser(t, "o", 1)
					b.Subscribe(other.src)
					says = append(says, other.speaker(600, -20))
				}
				for range 150 {
					step(c, []*Bridge{b}, says...)
				}
				pcm := wideSound(t, ear, m.Speech)
				pcm = pcm[len(pcm)-wide:]
				require.InDelta(t, -20, audio.Goertzel(pcm, wide, 6000), 1.5)
				if others > 0 {
					require.InDelta(t, -20, audio.Goertzel(pcm, wide, 600), 1.5)
				}
				require.Less(t, audio.Goertzel(pcm, wide, 5000), -60.0, "never itself")
				heard := web.pcm(t)
				require.InDelta(t, -20, audio.Goertzel(heard[len(heard)-48000:], 48000, 5000), 1.5)
			})
		}
	}
}

// TestOpusIsForwardedUntouched: between a phone that speaks Opus and a browser no packet is decoded or made anew, and what
// is lost before the gateway is seen as lost behind it.
func TestOpusIsForwardedUntouched(t *testing.T) {
	c := newClock()
	e := testEngine(c, Config{})
	b, ear := testBridge(t, e, c, opusPhone, nil)
	var web opusEar
	b.Source().Audio().Add(&web)
	browser := newBrowser(t, "w", 2)
	b.Subscribe(browser.src)
	tone := audio.Tone(1000, -20, 48000, time.Second)
	var said [][]byte
	for i := range 50 {
		p := browser.make(tone[i*960 : (i+1)*960])
		if i%10 != 7 {
			browser.track.WriteRTP(p)
			said = append(said, p.Payload)
			q := *p
			q.PayloadType = opusPhone.PayloadType
			b.up.ReceiveRTP(&q, c.now())
		}
		b.tick(c.now())
		c.add(frameTime)
	}
	require.Len(t, ear.got, len(said))
	require.Len(t, web.got, len(said))
	for i := range said {
		require.Equal(t, said[i], ear.got[i].payload, i)
		require.Equal(t, said[i], web.got[i].Payload, i)
		if i > 0 {
			require.Equal(t, web.got[i].Timestamp-web.got[i-1].Timestamp, ear.got[i].ts-ear.got[i-1].ts)
			require.EqualValues(t, (web.got[i].Timestamp-web.got[i-1].Timestamp)/960, web.got[i].SequenceNumber-web.got[i-1].SequenceNumber)
		}
	}
	require.Equal(t, 5, ear.lost)
	require.Zero(t, e.feeds[browser.track].decoder.decoded.Load())
}

// TestCodecChangesInACall: a re-INVITE takes the phone from one codec to another: time never goes back (phoneEar sees to
// it within one clock), and both ways are heard on.
func TestCodecChangesInACall(t *testing.T) {
	c := newClock()
	b, ear := testBridge(t, testEngine(c, Config{}), c, pcmu, nil)
	var web opusEar
	b.Source().Audio().Add(&web)
	browser, other := newBrowser(t, "w", 1), newBrowser(t, "o", 1)
	b.Subscribe(browser.src)
	b.Subscribe(other.src)
	says := []func(){browser.speaker(700, -20), newPhoneVoice(media.PCMU).speaker(b, c, 500, -20)}
	for range 50 {
		step(c, []*Bridge{b}, says...)
	}
	for _, m := range []media.PortMedia{g722Phone, opusPhone, g722Phone, pcmu} {
		b.Update(m)
		ear.got, web.got = nil, nil
		says[1] = wideSpeaker(t, b, c, m.Speech, 500, -20)
		if m.Speech == media.PCMU {
			says[1] = newPhoneVoice(media.PCMU).speaker(b, c, 500, -20)
		}
		for range 75 {
			step(c, []*Bridge{b}, says...)
		}
		rate := m.Speech.Rate()
		pcm := ear.pcm(media.PCMU)
		if rate == wide {
			pcm = wideSound(t, ear, m.Speech)
		}
		require.InDelta(t, -20, audio.Goertzel(pcm[len(pcm)-rate:], rate, 700), 1.5, m.Speech.String())
		heard := web.pcm(t)
		require.InDelta(t, -20, audio.Goertzel(heard[len(heard)-48000:], 48000, 500), 1.5, m.Speech.String())
	}
}

// TestOpusCopies: libopus makes copies of frames when it is told that packets are lost, and then each packet says that it has
// one; otherwise none does.
func TestOpusCopies(t *testing.T) {
	for _, channels := range []int{1, 2} {
		for _, ms := range []int{10, 20, 40, 60} {
			for _, fec := range []bool{false, true} {
				enc, err := opus.NewEncoder(wide, channels, opus.AppVoIP)
				require.NoError(t, err)
				require.NoError(t, enc.SetBitrate(24000*channels))
				require.NoError(t, enc.SetInBandFEC(fec))
				require.NoError(t, enc.SetPacketLossPerc(30))
				pcm := audio.Tone(300, -15, wide*channels, time.Second) // higher in stereo, and the same in no two samples
				size := wide / 1000 * ms * channels
				payload, copies := make([]byte, 1500), 0
				for at := 0; at+size <= len(pcm); at += size {
					n, err := enc.Encode(pcm[at:at+size], payload)
					require.NoError(t, err)
					if opusHasCopy(payload[:n]) {
						copies++
					}
				}
				if !fec {
					require.Zero(t, copies, "%d ms, %d channels", ms, channels)
				} else {
					require.Greater(t, copies, len(pcm)/size/10, "%d ms, %d channels", ms, channels)
				}
			}
		}
	}
	for _, none := range [][]byte{nil, {0x08}, {0x0b, 0xff}, {0xf8, 0xff}} {
		require.False(t, opusHasCopy(none))
	}
}
