package transcode

import (
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/stretchr/testify/require"
)

// orderTape records what is given on.
type orderTape struct{ got []uint16 }

func (o *orderTape) inOrder(p *rtp.Packet, _ time.Time) { o.got = append(o.got, p.SequenceNumber) }

func TestOrder(t *testing.T) {
	for name, c := range map[string]struct{ come, got []uint16 }{
		"as it is":                    {[]uint16{1, 2, 3}, []uint16{1, 2, 3}},
		"a loss, and nothing waits":   {[]uint16{1, 3, 4}, []uint16{1, 3, 4}},
		"the first disorder":          {[]uint16{1, 3, 2, 4}, []uint16{1, 3, 2, 4}},
		"the second":                  {[]uint16{1, 3, 2, 4, 6, 5, 7}, []uint16{1, 3, 2, 4, 5, 6, 7}},
		"overtaken by two":            {[]uint16{1, 3, 2, 4, 6, 7, 5, 8}, []uint16{1, 3, 2, 4, 5, 6, 7, 8}},
		"overtaken by three":          {[]uint16{1, 3, 2, 4, 6, 7, 8, 5}, []uint16{1, 3, 2, 4, 6, 7, 8, 5}},
		"backwards":                   {[]uint16{1, 3, 2, 6, 5, 4, 7}, []uint16{1, 3, 2, 4, 5, 6, 7}},
		"a loss after disorder":       {[]uint16{1, 3, 2, 5, 6, 7, 8}, []uint16{1, 3, 2, 5, 6, 7, 8}},
		"two apart":                   {[]uint16{1, 3, 2, 5, 7, 9, 11}, []uint16{1, 3, 2, 5, 7}},
		"one that waits comes twice":  {[]uint16{1, 3, 2, 5, 5, 4, 6}, []uint16{1, 3, 2, 4, 5, 6}},
		"a repetition is no disorder": {[]uint16{1, 1, 3, 2}, []uint16{1, 1, 3, 2}},
		"over the end of the numbers": {[]uint16{65534, 0, 65535, 2, 1, 3}, []uint16{65534, 0, 65535, 1, 2, 3}},
		"from the beginning":          {[]uint16{1, 3, 2, 5, 30000, 30001}, []uint16{1, 3, 2, 5, 30000, 30001}},
	} {
		t.Run(name, func(t *testing.T) {
			var o order
			var tape orderTape
			now := time.Unix(1000, 0)
			for _, seq := range c.come {
				o.take(&rtp.Packet{Header: rtp.Header{SequenceNumber: seq, SSRC: 1}}, now, &tape)
				now = now.Add(5 * time.Millisecond)
			}
			require.Equal(t, c.got, tape.got)
		})
	}
}

// What waits does so for a moment only, and is forgotten where nothing came for long; disorder is forgotten too.
func TestOrderIsImpatient(t *testing.T) {
	var o order
	var tape orderTape
	now := time.Unix(1000, 0)
	come := func(seq uint16, later time.Duration) {
		now = now.Add(later)
		o.take(&rtp.Packet{Header: rtp.Header{SequenceNumber: seq, SSRC: 1}}, now, &tape)
	}
	for _, seq := range []uint16{1, 3, 2} {
		come(seq, 0)
	}
	come(5, 0)
	come(6, orderWait+1)
	require.Equal(t, []uint16{1, 3, 2, 5, 6}, tape.got)
	come(8, 0)
	come(9, stall+1)
	require.Equal(t, []uint16{1, 3, 2, 5, 6}, tape.got, "9 waits, 8 is forgotten")
	come(10, orderWait+1)
	require.Equal(t, []uint16{1, 3, 2, 5, 6, 9, 10}, tape.got)
	come(12, orderKept)
	require.Equal(t, []uint16{1, 3, 2, 5, 6, 9, 10, 12}, tape.got)
	o.until = now.Add(time.Second)
	come(14, 0)
	o.beside(&rtp.Packet{Header: rtp.Header{SequenceNumber: 15, SSRC: 1}}, now, &tape)
	come(16, 0)
	require.Equal(t, []uint16{1, 3, 2, 5, 6, 9, 10, 12, 14, 16}, tape.got)
}
