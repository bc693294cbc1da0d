package sfu

import (
	"testing"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/stretchr/testify/require"
)

// TestNaming gives every report a name in the same packet, and lets both ends of a stream say goodbye.
func TestNaming(t *testing.T) {
	var sent []rtcp.Packet
	wire := interceptor.RTCPWriterFunc(func(packets []rtcp.Packet, _ interceptor.Attributes) (int, error) {
		_, err := rtcp.Marshal(packets)
		sent = packets
		return 0, err
	})
	n, err := naming{}.NewInterceptor("")
	require.NoError(t, err)
	n.UnbindLocalStream(&interceptor.StreamInfo{SSRC: 1}) // before there is a connection
	w := n.BindRTCPWriter(wire)
	write := func(p rtcp.Packet) []rtcp.Packet {
		_, err := w.Write([]rtcp.Packet{p}, nil)
		require.NoError(t, err)
		return sent
	}
	sr := &rtcp.SenderReport{SSRC: 7}
	got := write(sr)
	require.Len(t, got, 2)
	require.Same(t, sr, got[0])
	description, ok := got[1].(*rtcp.SourceDescription)
	require.True(t, ok)
	cname := description.Chunks[0].Items[0].Text
	require.GreaterOrEqual(t, len(cname), 16)
	require.Equal(t, rtcp.NewCNAMESourceDescription(7, cname), description)
	rr := &rtcp.ReceiverReport{SSRC: 8, Reports: []rtcp.ReceptionReport{{SSRC: 70}}}
	require.Equal(t, []rtcp.Packet{rr, rtcp.NewCNAMESourceDescription(8, cname)}, write(rr))
	pli := &rtcp.PictureLossIndication{MediaSSRC: 70}
	require.Equal(t, []rtcp.Packet{pli}, write(pli), "feedback may go alone (RFC 5506)")

	bye := func(ssrc uint32) []rtcp.Packet {
		return []rtcp.Packet{&rtcp.ReceiverReport{SSRC: ssrc}, rtcp.NewCNAMESourceDescription(ssrc, cname), &rtcp.Goodbye{Sources: []uint32{ssrc}}}
	}
	n.UnbindLocalStream(&interceptor.StreamInfo{SSRC: 7})
	require.Equal(t, bye(7), sent)
	n.UnbindRemoteStream(&interceptor.StreamInfo{SSRC: 70})
	require.Equal(t, bye(8), sent, "who reported about it")
	sent = nil
	n.UnbindRemoteStream(&interceptor.StreamInfo{SSRC: 70})
	require.Nil(t, sent)

	other, err := naming{}.NewInterceptor("")
	require.NoError(t, err)
	_, err = other.BindRTCPWriter(wire).Write([]rtcp.Packet{sr}, nil)
	require.NoError(t, err)
	require.NotEqual(t, got, sent, "another connection has another name")
}
