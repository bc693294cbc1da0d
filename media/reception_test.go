package media

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestReception(t *testing.T) {
	at := time.Unix(1000, 0)
	var r Reception
	_, ok := r.Report()
	require.False(t, ok)

	// 100 packets over the wrap of the sequence number, every tenth lost, one reordered, one twice.
	feed := func(i int) { r.Packet(7, uint16(65500+i), uint32(i*160), at.Add(time.Duration(i)*20*time.Millisecond)) }
	for i := range 100 {
		if i%10 == 5 {
			continue
		}
		feed(i)
	}
	b, ok := r.Report()
	require.True(t, ok)
	require.EqualValues(t, 7, b.SSRC)
	require.EqualValues(t, 10, b.TotalLost)
	require.EqualValues(t, 65536+63, b.LastSequenceNumber)
	require.EqualValues(t, 25, b.FractionLost) // 10 of 100, in 1/256
	require.Zero(t, b.Jitter)

	// The next report's fraction counts from the last one; what comes late and twice is no loss.
	feed(100)
	feed(102)
	feed(101)
	feed(101)
	b, _ = r.Report()
	require.Zero(t, b.FractionLost)
	require.EqualValues(t, 9, b.TotalLost) // RFC 3550 A.3: a repetition makes up for a loss

	// 10 ms of alternating delay.
	for i := range 200 {
		r.Packet(7, uint16(65500+103+i), uint32((103+i)*160), at.Add(time.Duration(103+i)*20*time.Millisecond+time.Duration(i%2)*10*time.Millisecond))
	}
	b, _ = r.Report()
	require.InDelta(t, 80, b.Jitter, 2)

	// A jump and another SSRC begin anew.
	r.Packet(7, 20000, 5, at)
	b, _ = r.Report()
	require.EqualValues(t, 20000, b.LastSequenceNumber)
	require.Zero(t, b.TotalLost)
	r.Packet(8, 1, 5, at)
	b, _ = r.Report()
	require.EqualValues(t, 8, b.SSRC)
}
