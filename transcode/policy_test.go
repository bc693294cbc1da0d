package transcode

import (
	"context"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hraban/opus"
	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/test/audio"
)

// TestEncodersFollowTheLoad: cheaper at once, better again only when the load has been low for a while.
func TestEncodersFollowTheLoad(t *testing.T) {
	var p pressure
	require.Zero(t, p.second(0.5, 0))
	require.Equal(t, 1, p.second(0.9, 0))
	require.Equal(t, 2, p.second(0.9, 0))
	require.Equal(t, 3, p.second(0.9, 0))
	require.Equal(t, 3, p.second(1.0, 0), "there is nothing cheaper")
	for range easyFor - 1 {
		require.Equal(t, 3, p.second(0.3, 0))
	}
	require.Equal(t, 3, p.second(0.7, 0), "not low")
	for range easyFor - 1 {
		require.Equal(t, 3, p.second(0.3, 0))
	}
	for want := 2; want >= 0; want-- {
		require.Equal(t, want, p.second(0.3, 0))
		for range easyFor - 1 {
			require.Equal(t, want, p.second(0.3, 0))
		}
	}
	require.Equal(t, 1, p.second(0.3, 0.2), "others have the cores")
	for range 2 * easyFor {
		require.Equal(t, 1, p.second(0.3, 0.05), "the clock is not as it should be")
	}
	require.Equal(t, []int{5, 3, 1, 0}, []int{complexityAt(5, 0), complexityAt(5, 1), complexityAt(5, 2), complexityAt(5, 3)})
	require.Equal(t, []int{10, 3, 1, 0}, []int{complexityAt(10, 0), complexityAt(10, 1), complexityAt(10, 2), complexityAt(10, 3)})
	require.Equal(t, []int{1, 0, 0, 0}, []int{complexityAt(1, 0), complexityAt(1, 1), complexityAt(1, 2), complexityAt(1, 3)},
		"the default has a first step, too")
	require.Equal(t, []int{2, 1, 0}, []int{complexityAt(2, 0), complexityAt(2, 1), complexityAt(2, 2)}, "never dearer than configured")
}

// TestEncoderIsTuned: within a second of sound an encoder has the complexity that the load leaves, and FEC for the loss that
// listeners report.
func TestEncoderIsTuned(t *testing.T) {
	c := newClock()
	e := testEngine(c, Config{OpusComplexity: 5})
	b, _ := testBridge(t, e, c, pcmu, nil)
	ear := &opusEar{}
	b.Source().Audio().Add(ear)
	voice := newPhoneVoice(media.PCMU)
	second := func() (complexity, loss int) {
		for range tuneEvery {
			b.up.ReceiveRTP(voice.make(audio.Tone(400, -20, narrow, frameTime)), c.now())
			c.add(frameTime)
		}
		complexity, err := b.up.opus.used.Complexity()
		require.NoError(t, err)
		loss, err = b.up.opus.used.PacketLossPerc()
		require.NoError(t, err)
		return complexity, loss
	}
	complexity, loss := second()
	require.Equal(t, []int{5, 0}, []int{complexity, loss})
	e.pressure.Store(2)
	b.Source().Audio().ReportLoss(ear, 0.12)
	complexity, loss = second()
	require.Equal(t, []int{1, 12}, []int{complexity, loss})
	e.pressure.Store(0)
	b.Source().Audio().ReportLoss(ear, 0.9)
	complexity, loss = second()
	require.Equal(t, []int{5, mostLoss}, []int{complexity, loss})
	for range 60 {
		b.Source().Audio().ReportLoss(ear, 0)
	}
	_, loss = second()
	require.Zero(t, loss, "it is forgotten")
}

// TestOpusPhoneIsTuned: what a phone that speaks Opus hears has FEC for what its reports say is lost, and costs less under
// pressure, whether it hears one voice or a mix; at the highest there is no FEC.
func TestOpusPhoneIsTuned(t *testing.T) {
	c := newClock()
	e := testEngine(c, Config{OpusComplexity: 5})
	p := newTelephone(t)
	p.media.Speech, p.media.PayloadType = media.Opus, 111
	b, err := e.NewBridge(BridgeConfig{Participant: "p", Stream: "s", Port: p.port, Media: p.media})
	require.NoError(t, err)
	t.Cleanup(func() { b.Close(nil) })
	voices := []*browser{newBrowser(t, "1", 1), newBrowser(t, "2", 1)}
	for _, w := range voices {
		b.Subscribe(w.src)
	}
	tone := audio.Tone(400, -20, 48000, frameTime)
	second := func() (own, mixed []int) {
		for range 2 * tuneEvery {
			for _, w := range voices {
				w.say(tone)
			}
			c.add(frameTime)
			b.tick(c.now())
		}
		require.True(t, b.down.mixing)
		return settings(t, b.down.coder.opus), settings(t, b.down.mix.codes.coders[3].opus)
	}
	own, mixed := second()
	require.Equal(t, []int{5, 0}, own)
	require.Equal(t, []int{5, 0}, mixed)

	p.report(t, 32) // 1/8
	e.pressure.Store(2)
	own, mixed = second()
	require.Equal(t, []int{1, 13}, own)
	require.Equal(t, []int{1, 13}, mixed)

	e.pressure.Store(cheapest)
	own, mixed = second()
	require.Equal(t, []int{0, 0}, own)
	require.Equal(t, []int{0, 0}, mixed)

	e.pressure.Store(0)
	own, mixed = second()
	require.Equal(t, []int{5, 13}, own)
	require.Equal(t, []int{5, 13}, mixed)
}

// settings are an encoder's complexity and the loss that it makes FEC for.
func settings(t *testing.T, enc *opus.Encoder) []int {
	t.Helper()
	complexity, err := enc.Complexity()
	require.NoError(t, err)
	loss, err := enc.PacketLossPerc()
	require.NoError(t, err)
	return []int{complexity, loss}
}

// TestEngineFollowsTheLoad lets the process have all cores for a while, and then others: both times encoders get cheaper
// second by second, and better again when it is over. A processor more of Go's scheduler is no core more.
func TestEngineFollowsTheLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := NewEngine(Config{}, slog.New(slog.DiscardHandler))
		e.shards = e.shards[:1]
		var used atomic.Int64 // CPU
		e.used = func() time.Duration { return time.Duration(used.Load()) }
		cores := int64(runtime.GOMAXPROCS(0))
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(int(cores) + 1))
		phone := &starved{}
		b, err := e.newBridge(BridgeConfig{Media: pcmu}, phone)
		require.NoError(t, err)
		defer b.Close(nil)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { require.NoError(t, e.Run(ctx)) })
		time.Sleep(time.Millisecond) // behind the ticks of full seconds
		pass := func(seconds int, share float64) int32 {
			for range seconds {
				used.Add(int64(share * float64(cores) * float64(time.Second)))
				time.Sleep(time.Second)
			}
			return e.pressure.Load()
		}
		require.Zero(t, pass(3, 0.2))
		require.EqualValues(t, 1, pass(1, 0.9))
		require.EqualValues(t, 3, pass(2, 0.9))
		require.EqualValues(t, 0, pass(3*easyFor, 0.1))

		phone.late.Store(int64(12 * time.Millisecond)) // the clock cannot run when it should
		require.EqualValues(t, 3, pass(4, 0.1))
		phone.late.Store(0)
		require.EqualValues(t, 0, pass(3*easyFor+1, 0.1))
		cancel()
		wg.Wait()
	})
}

// starved is a phone whose clock gets no core for a while, again and again.
type starved struct {
	phoneDrop
	late atomic.Int64
}

func (s *starved) Send(uint8, bool, uint32, []byte) bool {
	if late := time.Duration(s.late.Load()); late > 0 {
		time.Sleep(frameTime + late) // of the bubble: it moves the clock
	}
	return true
}
