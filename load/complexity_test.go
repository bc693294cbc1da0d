package load

import (
	"fmt"
	"testing"
	"time"

	"github.com/hraban/opus"
	"github.com/stretchr/testify/require"

	"tandem/test/audio"
)

// BenchmarkComplexity is why the encoder's default complexities are what they are: how much of the voice of RunSpeech is
// understood after libopus alone, what that adds to it, at all and before onsets, and what 20 ms of it take to encode. It wants what
// scripts/install bench installs.
func BenchmarkComplexity(b *testing.B) {
	voice, err := readVoice(speechVoice)
	require.NoError(b, err)
	for _, width := range bands() {
		said := voice[0]
		if width.rate == phoneRate {
			said = audio.Resample(said, voiceRate, phoneRate)
		}
		for k := range 22 {
			mode, app, complexity := "speech", opus.AppVoIP, k%11
			if k > 10 {
				mode, app = "low delay", opus.AppRestrictedLowdelay
			}
			b.Run(fmt.Sprintf("%d Hz, mode for %s, complexity %d", width.rate, mode, complexity), func(b *testing.B) {
				enc, err := opus.NewEncoder(width.rate, 1, app)
				require.NoError(b, err)
				require.NoError(b, enc.SetComplexity(complexity))
				require.NoError(b, enc.SetBitrate(width.bitrate))
				complexityRun(b, said, width.rate, app, enc.Encode)
			})
		}
		if width.rate == phoneRate {
			b.Run(fmt.Sprintf("%d Hz, mode for low delay, complexity %d where sound begins, 0 elsewhere", width.rate, gatewayComplexity), func(b *testing.B) {
				voice, err := newFloorVoice(gatewayComplexity)
				require.NoError(b, err)
				complexityRun(b, said, width.rate, opus.AppRestrictedLowdelay, voice.encode)
			})
		}
	}
}

// complexityRun encodes what is said, and reports how it is heard and what 20 ms took.
func complexityRun(b *testing.B, said []int16, rate int, app opus.Application, encode func(pcm []int16, packet []byte) (int, error)) {
	b.Helper()
	dec, err := opus.NewDecoder(rate, 1)
	require.NoError(b, err)
	step := rate / 50
	packet, pcm := make([]byte, maxPayload), make([]int16, step)
	var heard []int16
	var spent time.Duration
	for b.Loop() {
		heard, spent = heard[:0], 0
		for at := 0; at+step <= len(said); at += step {
			began := time.Now()
			n, err := encode(said[at:at+step], packet)
			spent += time.Since(began)
			require.NoError(b, err)
			_, err = dec.Decode(packet[:n], pcm)
			require.NoError(b, err)
			heard = append(heard, pcm...)
		}
	}
	b.ReportMetric(understood(said, heard, rate), "STOI")
	if app == opus.AppRestrictedLowdelay { // the other delays by parts of a sample and turns phases: its wave is another
		aligned, _ := audio.Align(said, heard, rate, 2*packetTime)
		b.ReportMetric(audio.SegmentalSNR(said, aligned, rate), "dB-SNR")
		b.ReportMetric(audio.PreEcho(said, aligned, rate), "dB-pre-echo")
	}
	b.ReportMetric(float64(spent.Microseconds())/float64(len(said)/step), "µs/frame")
}
