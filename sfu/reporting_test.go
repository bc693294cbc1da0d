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

// TestSenderReports: who hears a stream is told at its first packet, a second later, and then every five, what was sent, and what time it was; who sees
// one, each second.
func TestSenderReports(t *testing.T) {
	for kind, seconds := range map[media.Kind][]uint32{media.Audio: {0, 1, 6, 11}, media.Video: {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}} {
		now := time.Date(2036, 2, 7, 6, 28, 15, 500_000_000, time.UTC) // the last second of the era (RFC 5905 §6)
		var s sent
		var all []*rtcp.SenderReport
		for n := range uint32(12 * 50) {
			h := rtp.Header{SSRC: 9, SequenceNumber: uint16(n), Timestamp: 1000 + n*960}
			if report := s.packet(&h, 80, tellEvery(kind), now); report != nil {
				all = append(all, report)
			}
			now = now.Add(20 * time.Millisecond)
		}
		var expected []*rtcp.SenderReport
		for _, n := range seconds {
			expected = append(expected, &rtcp.SenderReport{
				SSRC: 9, NTPTime: uint64(n-1)<<32 | 0x80000000, RTPTime: 1000 + n*48000, PacketCount: 50*n + 1, OctetCount: (50*n + 1) * 80,
			})
		}
		require.Equal(t, expected, all)
	}
}
