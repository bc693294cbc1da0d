package sfu

import (
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/stretchr/testify/require"

	"tandem/media"
)

// TestReports: each second a browser hears how many of a stream's packets came, how much they are jittered, and how long ago its own
// report was.
func TestReports(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	r := reports{ours: 7, came: media.NewReception(48000)}
	var sent []*rtcp.ReceiverReport
	packet := func(n int) {
		if report := r.packet(70, uint16(65500+n), 0xffff_f000+uint32(n)*960, now); report != nil {
			sent = append(sent, report)
		}
		now = now.Add(20 * time.Millisecond)
	}
	for n := range 60 {
		packet(n)
	}
	require.Len(t, sent, 1)
	require.EqualValues(t, 7, sent[0].SSRC)
	require.Len(t, sent[0].Reports, 1)
	about := sent[0].Reports[0]
	require.Zero(t, about.FractionLost)
	require.EqualValues(t, 70, about.SSRC)
	require.Zero(t, about.LastSenderReport)
	require.Less(t, about.Jitter, uint32(48), "1 ms, though the timestamps wrapped")

	r.senderReport(&rtcp.SenderReport{SSRC: 70, NTPTime: 0x1111_2222_3333_4444}, now)
	for n := 60; n < 110; n++ {
		if n%4 != 0 {
			packet(n)
		} else {
			now = now.Add(20 * time.Millisecond)
		}
	}
	require.Len(t, sent, 2)
	about = sent[1].Reports[0]
	require.EqualValues(t, 256*11/51, about.FractionLost, "a quarter, but not of the first ten")
	require.EqualValues(t, 11, about.TotalLost)
	require.EqualValues(t, 0x2222_3333, about.LastSenderReport)
	require.Positive(t, about.Delay)
	require.Less(t, about.Delay, uint32(65536))
}

// TestReportsAllocateNothing for a packet.
func TestReportsAllocateNothing(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	r := reports{came: media.NewReception(48000)}
	sequence := uint16(0)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		sequence++
		r.packet(70, sequence, uint32(sequence)*960, now)
	}))
}

// TestSenderReports: who hears a stream is told at its first packet, and then each second, what was sent, and what time it was.
func TestSenderReports(t *testing.T) {
	now := time.Date(2036, 2, 7, 6, 28, 15, 500_000_000, time.UTC) // the last second of the era (RFC 5905 §6)
	var s sent
	var all []*rtcp.SenderReport
	for n := range uint32(120) {
		h := rtp.Header{SSRC: 9, SequenceNumber: uint16(n), Timestamp: 1000 + n*960}
		if report := s.packet(&h, 80, now); report != nil {
			all = append(all, report)
		}
		now = now.Add(20 * time.Millisecond)
	}
	require.Equal(t, []*rtcp.SenderReport{
		{SSRC: 9, NTPTime: 0xffffffff_80000000, RTPTime: 1000, PacketCount: 1, OctetCount: 80},
		{SSRC: 9, NTPTime: 0x00000000_80000000, RTPTime: 1000 + 48000, PacketCount: 51, OctetCount: 51 * 80},
		{SSRC: 9, NTPTime: 0x00000001_80000000, RTPTime: 1000 + 96000, PacketCount: 101, OctetCount: 101 * 80},
	}, all)
}
