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
