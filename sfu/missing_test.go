package sfu

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/stretchr/testify/require"
)

// TestMissingVideoIsAskedFor: of a video, what is missing is asked for; sound costs no goroutine that looks.
func TestMissingVideoIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := newMissing()
		require.NoError(t, err)
		i, err := m.NewInterceptor("")
		require.NoError(t, err)
		var asked []rtcp.Packet
		i.BindRTCPWriter(interceptor.RTCPWriterFunc(func(packets []rtcp.Packet, _ interceptor.Attributes) (int, error) {
			asked = append(asked, packets...)
			return 0, nil
		}))
		sequences := []uint16{65534, 65535, 1, 2}
		streams := map[string]*interceptor.StreamInfo{
			"sound":         {SSRC: 7},
			"with pictures": {SSRC: 8, RTCPFeedback: []interceptor.RTCPFeedback{{Type: "nack", Parameter: "pli"}}},
			"video":         {SSRC: 9, RTCPFeedback: []interceptor.RTCPFeedback{{Type: "nack", Parameter: "pli"}, {Type: "nack"}}},
		}
		for _, name := range []string{"sound", "with pictures", "video"} {
			came := 0
			read := i.BindRemoteStream(streams[name], interceptor.RTPReaderFunc(
				func(b []byte, a interceptor.Attributes) (int, interceptor.Attributes, error) {
					h := rtp.Header{Version: 2, SSRC: streams[name].SSRC, SequenceNumber: sequences[came]}
					came++
					n, err := h.MarshalTo(b)
					return n, a, err
				}))
			for range sequences {
				_, _, err := read.Read(make([]byte, 100), nil)
				require.NoError(t, err)
			}
			time.Sleep(110 * time.Millisecond) // of the bubble's clock: past one look
			synctest.Wait()
			if name != "video" {
				require.Empty(t, asked, name)
				continue
			}
			require.Len(t, asked, 1)
			n, ok := asked[0].(*rtcp.TransportLayerNack)
			require.True(t, ok)
			require.EqualValues(t, 9, n.MediaSSRC)
			require.Equal(t, []uint16{0}, n.Nacks[0].PacketList())
		}
		require.NoError(t, i.Close())
	})
}

// TestSoundIsNotLookedThrough: a connection without video has no goroutine for it; closing it ends none.
func TestSoundIsNotLookedThrough(t *testing.T) {
	m, err := newMissing()
	require.NoError(t, err)
	i, err := m.NewInterceptor("")
	require.NoError(t, err)
	i.BindRTCPWriter(interceptor.RTCPWriterFunc(func([]rtcp.Packet, interceptor.Attributes) (int, error) { return 0, nil }))
	a, ok := i.(*asking)
	require.True(t, ok)
	require.NotNil(t, a.writer, "it has not begun")
	require.NoError(t, i.Close())
}
