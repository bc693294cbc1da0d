package media

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPortMediaTypes(t *testing.T) {
	static := PortMedia{Speech: PCMA, EventType: -1}
	dynamic := PortMedia{Speech: PCMU, PayloadType: 97, ComesAs: 98, EventType: 100, EventComesAs: 101}
	for _, c := range []struct {
		m            PortMedia
		pt           uint8
		audio, event bool
	}{
		{static, 8, true, false},
		{static, 0, false, false},
		{static, 101, false, false},
		{dynamic, 97, true, false},
		{dynamic, 98, true, false},
		{dynamic, 0, true, false},
		{dynamic, 8, false, false},
		{dynamic, 100, false, true},
		{dynamic, 101, false, true},
	} {
		require.Equal(t, c.audio, c.m.IsAudio(c.pt), "%d of %+v", c.pt, c.m)
		require.Equal(t, c.event, c.m.IsEvent(c.pt), "%d of %+v", c.pt, c.m)
		require.Equal(t, c.audio || c.event, c.m.expects(c.pt))
	}
	require.Equal(t, uint8(8), static.Audio())
	require.Equal(t, uint8(97), dynamic.Audio())
}

func TestPortMediaEqual(t *testing.T) {
	key := func(b byte) *SRTPKey { return &SRTPKey{Suite: "AES_CM_128_HMAC_SHA1_80", Key: []byte{b}} }
	a := PortMedia{Speech: PCMA, Inbound: key(1), Outbound: key(2)}
	require.True(t, a.Equal(PortMedia{Speech: PCMA, Inbound: key(1), Outbound: key(2)}))
	require.False(t, a.Equal(PortMedia{Speech: PCMU, Inbound: key(1), Outbound: key(2)}))
	require.False(t, a.Equal(PortMedia{Speech: PCMA, Inbound: key(1), Outbound: key(3)}))
	require.False(t, a.Equal(PortMedia{Speech: PCMA}))
	require.NotContains(t, fmt.Sprintf("%v %+v %#v", a.Inbound, a, a.Inbound), "[1]", "a key shows itself")
}
