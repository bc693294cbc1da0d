package lab

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestReadSDP(t *testing.T) {
	const head = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
	cases := []struct {
		name, body string
		want       agreed
		err        bool
	}{
		{
			"first codec wins", head + "m=audio 4000 RTP/AVP 96 8 0 101\r\na=rtpmap:96 opus/48000/2\r\na=rtpmap:101 telephone-event/8000\r\n",
			agreed{law: pcma, events: 101, send: true, receive: true},
			false,
		},
		{"no events", head + "m=audio 4000 RTP/AVP 0\r\n", agreed{law: pcmu, events: -1, send: true, receive: true}, false},
		{"they only send", head + "m=audio 4000 RTP/AVP 0\r\na=sendonly\r\n", agreed{events: -1, receive: true}, false},
		{"they only receive", head + "a=recvonly\r\nm=audio 4000 RTP/AVP 0\r\n", agreed{events: -1, send: true}, false},
		{"held", head + "m=audio 4000 RTP/AVP 0\r\na=inactive\r\n", agreed{events: -1}, false},
		{"no codec of ours", head + "m=audio 4000 RTP/AVP 18\r\n", agreed{}, true},
		{"audio refused", head + "m=audio 0 RTP/AVP 0\r\n", agreed{}, true},
		{"no address", "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n", agreed{}, true},
		{"not SDP", "hello", agreed{}, true},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			got, err := readSDP([]byte(tc.body))
			if tc.err {
				require.Error(t, err)
				return
			}
			require.NoError(t, err)
			tc.want.remote = netip.MustParseAddrPort("127.0.0.1:4000")
			assert.Equal(t, tc.want, got)
		})
	}
}

// What we write, the other side of us can read, and the direction comes out turned round.
func TestWriteSDP(t *testing.T) {
	local := netip.MustParseAddrPort("127.0.0.1:4000")
	for _, with := range []*agreed{
		nil,
		{law: pcma, events: 96, send: true, receive: true},
		{law: pcmu, events: -1, send: true},
		{law: pcmu, events: 101, receive: true},
		{law: pcmu, events: 101},
	} {
		got, err := readSDP(writeSDP(local, 1, 1, []law{pcma, pcmu}, with))
		require.NoError(t, err)
		want := agreed{remote: local, law: pcma, events: ptEvents, send: true, receive: true}
		if with != nil {
			want = agreed{remote: local, law: with.law, events: with.events, send: with.receive, receive: with.send}
		}
		assert.Equal(t, want, got)
	}
}

func TestRecorderLaysOutByTimestamp(t *testing.T) {
	r := newRecorder(time.Second)
	frame := func(v int16) []int16 {
		f := make([]int16, 160)
		for i := range f {
			f[i] = v
		}
		return f
	}
	base := uint32(0xffffff60) // wraps after the first frame
	r.write(1, base, frame(1))
	r.write(1, base+480, frame(4)) // 2 and 3 are late or lost
	r.write(1, base+160, frame(2))
	got := r.recorded()
	require.Len(t, got, 640)
	assert.Equal(t, []int16{1, 2, 0, 4}, []int16{got[0], got[160], got[320], got[480]})

	r.write(2, 77, frame(5)) // another stream goes on behind
	r.write(2, 77+1<<30, frame(6))
	got = r.recorded()
	require.Len(t, got, 960)
	assert.Equal(t, []int16{5, 6}, []int16{got[640], got[800]})
	for i := range 100 {
		r.write(2, 77+1<<30+uint32(i)*160, frame(7))
	}
	assert.LessOrEqual(t, len(r.recorded()), 8000, "bounded")

	none := newRecorder(-1)
	none.write(1, 0, frame(1))
	assert.Empty(t, none.recorded())
}

func TestKeysSurviveLoss(t *testing.T) {
	events, ok := keyEvents("5#")
	require.True(t, ok)
	s := keySender{queue: events}
	type packet struct {
		timestamp uint32
		payload   [4]byte
	}
	var sent []packet
	start := uint32(0)
	for now := uint32(1000); len(s.queue) > 0 || s.gap > 0; now += frameSamples {
		var p [4]byte
		first, ok := s.next(&p)
		if first {
			start = now
		}
		if ok {
			sent = append(sent, packet{start, p})
		}
	}
	require.Len(t, sent, 2*(keyFrames+keyEnds))
	assert.Equal(t, [4]byte{5, keyVolume, 0, 160}, sent[0].payload)
	assert.Equal(t, [4]byte{5, keyVolume | endBit, 800 >> 8, 800 & 255}, sent[7].payload)
	for lost := range sent { // any one packet, and then everything but one of each key
		for _, only := range []bool{false, true} {
			var r keyReader
			got := ""
			for i, p := range sent {
				if !only && i == lost || only && i%8 != lost%8 {
					continue
				}
				if d, ok := r.read(p.timestamp, p.payload[:]); ok {
					got += string(d)
				}
			}
			assert.Equal(t, "5#", got, "lost %d only %v", lost, only)
		}
	}
	var r keyReader
	for _, junk := range [][]byte{nil, {1}, {16, 10, 0, 160}, {255, 0, 0, 0}} {
		_, ok := r.read(1, junk)
		assert.False(t, ok)
	}
}

func TestNonces(t *testing.T) {
	n := nonces{key: [32]byte{1}}
	now := time.Unix(1700000000, 0)
	nonce := n.make(now)
	assert.True(t, n.valid(nonce, now.Add(time.Minute)))
	assert.False(t, n.valid(nonce, now.Add(time.Hour)))
	other := nonces{key: [32]byte{2}}
	assert.False(t, other.valid(nonce, now))
	assert.False(t, n.valid("zz", now))
}

func FuzzReadSDP(f *testing.F) {
	f.Add([]byte("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"))
	f.Fuzz(func(_ *testing.T, body []byte) { _, _ = readSDP(body) })
}
