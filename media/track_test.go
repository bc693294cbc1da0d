package media

import (
	"testing"

	"github.com/pion/rtp"
	"github.com/stretchr/testify/require"
)

type ear struct{ _ byte }

func (*ear) WriteRTP(*rtp.Packet) {}

// OnBand is told of changes alone, and of nothing while nobody listens.
func TestBandOfATrack(t *testing.T) {
	var told []bool
	track := NewTrack("t", Audio, BrowserOpus(), nil)
	track.OnBand = func(narrow bool) { told = append(told, narrow) }
	a, b, c := &ear{}, &ear{}, &ear{}
	for _, step := range []struct {
		what string
		do   func()
		want []bool
	}{
		{"the first needs everything, as is thought of all", func() { track.Add(a) }, nil},
		{"one of two is content", func() { track.AddNarrow(b) }, nil},
		{"only that one stays", func() { track.Remove(a) }, []bool{true}},
		{"two are content", func() { track.AddNarrow(c) }, nil},
		{"one is not any more", func() { track.Add(c) }, []bool{false}},
		{"it is again", func() { track.AddNarrow(c) }, []bool{true}},
		{"twice the same", func() { track.AddNarrow(c) }, nil},
		{"all go", func() { track.Remove(b); track.Remove(c) }, nil},
		{"somebody who never came goes", func() { track.Remove(a) }, nil},
		{"one is content", func() { track.AddNarrow(b) }, nil},
		{"one who needs everything comes", func() { track.Add(a) }, []bool{false}},
		{"all go, and it was the last", func() { track.Remove(b); track.Remove(a) }, nil},
		{"one who needs everything comes back", func() { track.Add(a) }, nil},
	} {
		told = nil
		step.do()
		require.Equal(t, step.want, told, step.what)
	}
}

// TestLossOfATrack: the worst counts, however many others lose nothing; it is forgotten slowly, and at once when that one goes.
func TestLossOfATrack(t *testing.T) {
	track := NewTrack("t", Audio, BrowserOpus(), nil)
	lossy := &ear{}
	track.Add(lossy)
	var others []*ear
	for range 9 {
		others = append(others, &ear{})
		track.Add(others[len(others)-1])
	}
	for range 10 {
		track.ReportLoss(lossy, 0.12)
		for _, o := range others {
			track.ReportLoss(o, 0)
			require.Equal(t, 12, track.Loss())
		}
	}
	track.AddNarrow(lossy)
	require.Equal(t, 12, track.Loss(), "it is the same one")
	for range 4 {
		track.ReportLoss(lossy, 0)
	}
	require.Equal(t, 8, track.Loss(), "7/8 of it are left by each report")
	track.ReportLoss(others[3], 0.03)
	track.Remove(lossy)
	require.Equal(t, 3, track.Loss())
	track.ReportLoss(lossy, 0.5)
	require.Equal(t, 3, track.Loss(), "who has gone tells nothing")
	for range 60 {
		track.ReportLoss(others[3], 0)
	}
	require.Zero(t, track.Loss())
}

// way is a way out that is corked or not.
type way struct{ corked, batches int }

func (w *way) Cork()   { w.corked++ }
func (w *way) Uncork() { w.corked--; w.batches++ }

// wayfarer is a sink that sends by a way.
type wayfarer struct {
	by     Batch
	corked []int // of its way, at each packet
}

func (s *wayfarer) Batch() Batch { return s.by }

func (s *wayfarer) WriteRTP(*rtp.Packet) {
	if w, ok := s.by.(*way); ok {
		s.corked = append(s.corked, w.corked)
	}
}

// TestBatchOfATrack: what those who share a way get of one packet goes out together; one alone has nobody to wait for.
func TestBatchOfATrack(t *testing.T) {
	track := NewTrack("t", Audio, BrowserOpus(), nil)
	one, other := &way{}, &way{}
	a, b, c := &wayfarer{by: one}, &wayfarer{by: one}, &wayfarer{by: other}
	track.Cork().Uncork() // nobody is there
	track.Add(a)
	track.Add(&ear{})
	track.Add(&wayfarer{})
	track.Add(c)
	track.WriteRTP(&rtp.Packet{})
	track.Add(b)
	track.WriteRTP(&rtp.Packet{})
	require.Equal(t, 1, one.batches)
	batch := track.Cork() // as those do who write to each by itself
	track.Remove(b)
	require.Equal(t, 1, one.corked)
	batch.Uncork()
	track.WriteRTP(&rtp.Packet{})
	require.Equal(t, []int{0, 1, 0}, a.corked)
	require.Equal(t, []int{1}, b.corked)
	require.Equal(t, []int{0, 0, 0}, c.corked)
	require.Equal(t, way{batches: 2}, *one)
	require.Equal(t, way{}, *other)
}
