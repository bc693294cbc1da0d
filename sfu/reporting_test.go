package sfu

import (
	"io"
	"testing"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/stretchr/testify/require"
)

// fed is what an interceptor reads from.
type fed struct{ next []byte }

func (f *fed) read(b []byte, a interceptor.Attributes) (int, interceptor.Attributes, error) {
	if f.next == nil {
		return 0, nil, io.EOF
	}
	return copy(b, f.next), a, nil
}

// TestReporting: each second a browser hears how many of a stream's packets came, how much they are jittered, and how long ago its
// own report was.
func TestReporting(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	var sent []*rtcp.ReceiverReport
	i, err := reporting{func() time.Time { return now }}.NewInterceptor("")
	require.NoError(t, err)
	var rtpIn, rtcpIn fed
	stream := &interceptor.StreamInfo{SSRC: 70, ClockRate: 48000}
	reader := i.BindRemoteStream(stream, interceptor.RTPReaderFunc(rtpIn.read))
	reports := i.BindRTCPReader(interceptor.RTCPReaderFunc(rtcpIn.read))
	buf := make([]byte, 1500)
	packet := func(n int) {
		p := rtp.Packet{Header: rtp.Header{Version: 2, SSRC: 70, SequenceNumber: uint16(65500 + n), Timestamp: 0xffff_f000 + uint32(n)*960}}
		var err error
		rtpIn.next, err = p.Marshal()
		require.NoError(t, err)
		read, _, err := reader.Read(buf, nil)
		require.NoError(t, err)
		require.Equal(t, rtpIn.next, buf[:read])
		now = now.Add(20 * time.Millisecond)
	}
	for n := range 60 { // there is nobody to report to yet
		packet(n)
	}
	i.BindRTCPWriter(interceptor.RTCPWriterFunc(func(packets []rtcp.Packet, _ interceptor.Attributes) (int, error) {
		require.Len(t, packets, 1)
		rr, ok := packets[0].(*rtcp.ReceiverReport)
		require.True(t, ok)
		sent = append(sent, rr)
		return 0, nil
	}))
	for n := 60; n < 110; n++ {
		packet(n)
	}
	require.Len(t, sent, 1)
	first := sent[0]
	require.Len(t, first.Reports, 1)
	about := first.Reports[0]
	require.Zero(t, about.FractionLost)
	require.EqualValues(t, 70, about.SSRC)
	require.Zero(t, about.LastSenderReport)
	require.Less(t, about.Jitter, uint32(48), "1 ms, though the timestamps wrapped")

	rtcpIn.next, err = (&rtcp.SenderReport{SSRC: 70, NTPTime: 0x1111_2222_3333_4444}).Marshal()
	require.NoError(t, err)
	_, _, err = reports.Read(buf, nil)
	require.NoError(t, err)
	for n := 110; n < 160; n++ {
		if n%4 != 0 {
			packet(n)
		} else {
			now = now.Add(20 * time.Millisecond)
		}
	}
	require.Len(t, sent, 2)
	about = sent[1].Reports[0]
	require.Equal(t, first.SSRC, sent[1].SSRC)
	require.InDelta(t, 256/5, int(about.FractionLost), 2, "a quarter, but not of the first ten")
	require.EqualValues(t, 10, about.TotalLost)
	require.EqualValues(t, 0x2222_3333, about.LastSenderReport)
	require.Positive(t, about.Delay)
	require.Less(t, about.Delay, uint32(65536))

	i.UnbindRemoteStream(stream)
	_, _, err = reports.Read(buf, nil) // of nobody any more
	require.NoError(t, err)
	for _, bad := range [][]byte{nil, {0x80}, {0xff, 0xff, 0xff}} {
		rtpIn.next, rtcpIn.next = bad, bad
		_, _, _ = reader.Read(buf, nil)
		_, _, err = reports.Read(buf, nil)
		require.Error(t, err)
	}
	require.Len(t, sent, 2)
}

// TestReportingAllocatesNothing for a packet.
func TestReportingAllocatesNothing(t *testing.T) {
	i, err := reporting{time.Now}.NewInterceptor("")
	require.NoError(t, err)
	p := rtp.Packet{Header: rtp.Header{Version: 2, SSRC: 70}, Payload: make([]byte, 80)}
	raw, err := p.Marshal()
	require.NoError(t, err)
	in := fed{next: raw}
	reader := i.BindRemoteStream(&interceptor.StreamInfo{SSRC: 70, ClockRate: 48000}, interceptor.RTPReaderFunc(in.read))
	buf := make([]byte, 1500)
	require.Zero(t, testing.AllocsPerRun(1000, func() { _, _, _ = reader.Read(buf, nil) }))
}
