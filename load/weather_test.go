package load

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// pass sends count packets 20 ms apart and returns, for each, how many copies arrive and when.
func pass(w Weather, count int) (copies []int, at []time.Duration, n *Network) {
	n = NewNetwork(w)
	for i := range count {
		sent := time.Duration(i) * packetTime
		c, delay := n.Packet(sent)
		copies, at = append(copies, c), append(at, sent+delay)
	}
	return copies, at, n
}

func TestWeatherLoses(t *testing.T) {
	const count = 500_000
	for _, c := range []struct {
		name             string
		lost, burst, row float64 // how many are lost in a row
	}{
		{"random 1 %", 0.01, 0, 1 / 0.99},
		{"random 20 %", 0.2, 1, 1.25},
		{"bursts of 3, 1 %", 0.01, 3, 3},
		{"bursts of 3, 20 %", 0.2, 3, 3},
		{"bursts of 5, 10 %", 0.1, 5, 5},
	} {
		copies, _, n := pass(Weather{Lost: c.lost, Burst: c.burst, Seed: 1}, count)
		lost, rows := 0, 0
		for i, copied := range copies {
			if copied == 0 {
				lost++
				if i == 0 || copies[i-1] > 0 {
					rows++
				}
			}
		}
		assert.Equal(t, Count{Sent: count, Lost: lost}, n.Count(), c.name)
		assert.InEpsilon(t, c.lost, float64(lost)/count, 0.1, c.name)
		assert.InEpsilon(t, c.row, float64(lost)/float64(rows), 0.1, c.name)
	}
	copies, at, _ := pass(Weather{Seed: 1}, 100)
	for i := range copies {
		assert.Equal(t, 1, copies[i])
		assert.Equal(t, time.Duration(i)*packetTime, at[i])
	}
	copies, _, _ = pass(Weather{Lost: 1, Burst: 3}, 100)
	assert.NotContains(t, copies[1:], 1, "all is lost")
}

func TestWeatherIsTheSameAgain(t *testing.T) {
	w := Weather{Lost: 0.1, Burst: 2, Doubled: 0.1, Late: 0.1, Jitter: 50 * time.Millisecond, Seed: 9}
	copies, at, n := pass(w, 1000)
	again, atAgain, _ := pass(w, 1000)
	assert.Equal(t, copies, again)
	assert.Equal(t, at, atAgain)
	w.Seed = 10
	other, _, _ := pass(w, 1000)
	assert.NotEqual(t, copies, other)
	doubled := 0
	for _, c := range copies {
		if c == 2 {
			doubled++
		}
	}
	assert.Equal(t, n.Count().Doubled, doubled)
	assert.InDelta(t, 90, doubled, 30)
}

func TestWeatherKeepsTheOrderButForLatePackets(t *testing.T) {
	_, at, n := pass(Weather{Jitter: 60 * time.Millisecond, Seed: 2}, 5000)
	var longest time.Duration
	for i := range at {
		delay := at[i] - time.Duration(i)*packetTime
		assert.GreaterOrEqual(t, delay, time.Duration(0))
		longest = max(longest, delay)
		assert.True(t, i == 0 || at[i] >= at[i-1], "packet %d comes before the one before it", i)
	}
	assert.InDelta(t, 60, float64(longest.Milliseconds()), 3)
	assert.Zero(t, n.Count().Late)

	_, at, n = pass(Weather{Late: 0.05, LateBy: 70 * time.Millisecond, Seed: 2}, 5000)
	overtaken := 0
	for i := 1; i < len(at); i++ {
		if at[i] < at[i-1] {
			overtaken++
		}
	}
	assert.InDelta(t, 250, n.Count().Late, 50)
	assert.InDelta(t, float64(n.Count().Late)*5/7, overtaken, 30, "those that are more than 20 ms late")
}

func TestWeatherDrifts(t *testing.T) {
	const hour = 180_000
	for _, ppm := range []float64{100, -100} {
		_, at, _ := pass(Weather{DriftPPM: ppm}, hour)
		first, last := at[0], at[hour-1]-(hour-1)*packetTime
		assert.InDelta(t, ppm*3.6, ms(last-first), 0.1)
		assert.GreaterOrEqual(t, last, time.Duration(0))
	}
}

// relayed sends count packets with marks through a relay and returns them as the analyser's flow, with the relay.
func relayed(t *testing.T, w Weather, count int, prepare func(*Relay)) (*flow, *Relay) {
	t.Helper()
	s, err := allSounds()
	require.NoError(t, err)
	var sockets [2]*net.UDPConn
	for i := range sockets {
		sockets[i], err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		require.NoError(t, err)
		require.NoError(t, sockets[i].SetReadBuffer(1<<20))
		defer func() { _ = sockets[i].Close() }()
	}
	there, err := netip.ParseAddrPort(sockets[1].LocalAddr().String())
	require.NoError(t, err)
	r, err := NewRelay(netip.AddrPort{}, there, w, Weather{})
	require.NoError(t, err)
	defer r.Close()
	if prepare != nil {
		prepare(r)
	}
	start := time.Now()
	f := newFlow(frameSamples, phoneScore, count, frameSamples)
	end := make(chan struct{})
	go func() {
		defer close(end)
		buf := make([]byte, 1500)
		var p rtp.Packet
		ends := 0
		for {
			n, err := sockets[1].Read(buf)
			if err != nil || p.Unmarshal(buf[:n]) != nil {
				return
			}
			if p.Marker { // a millisecond apart, so that what is late still comes
				if ends++; ends == 50 {
					return
				}
				continue
			}
			f.arrived(time.Since(start), p.SSRC, p.Timestamp, p.SequenceNumber, p.Payload)
		}
	}()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for i := range count {
		p := rtp.Packet{Header: rtp.Header{Version: 2, SSRC: 1, SequenceNumber: uint16(i), Timestamp: uint32(i) * frameSamples}, Payload: s.phone[i%phoneLoop]}
		raw, err := p.Marshal()
		require.NoError(t, err)
		<-tick.C
		f.next(time.Since(start), false)
		_, err = sockets[0].WriteToUDPAddrPort(raw, r.First())
		require.NoError(t, err)
	}
	last := rtp.Packet{Header: rtp.Header{Version: 2, Marker: true}}
	raw, err := last.Marshal()
	require.NoError(t, err)
	for open := true; open; { // until enough of them got through
		_, err = sockets[0].WriteToUDPAddrPort(raw, r.First())
		require.NoError(t, err)
		select {
		case <-end:
			open = false
		case <-tick.C:
		}
	}
	return f, r
}

// The negative control: what the relay says that it did is what the analyser counts, to the packet.
func TestTheAnalyserCountsWhatTheRelayDid(t *testing.T) {
	const count = 2000
	for name, w := range map[string]Weather{
		"nothing":     {},
		"1 % random":  {Lost: 0.01, Seed: 3},
		"5 % bursts":  {Lost: 0.05, Burst: 4, Seed: 4},
		"2 % doubled": {Doubled: 0.02, Seed: 5},
		"both":        {Lost: 0.02, Doubled: 0.02, Seed: 6},
	} {
		t.Run(name, func(t *testing.T) {
			var expected Count // of the packets before the end marks
			n := NewNetwork(w)
			for i := range count {
				n.Packet(time.Duration(i) * packetTime)
			}
			expected = n.Count()
			f, relay := relayed(t, w, count, nil)
			there, back := relay.Counts()
			assert.GreaterOrEqual(t, there.Sent, count+1)
			assert.GreaterOrEqual(t, there.Lost, expected.Lost)
			assert.Zero(t, back)
			r, _ := f.analyse(newMarks(), decodePhone, 0, time.Hour, nil)
			r.finish(nil)
			t.Logf("%+v: %+v", expected, r)
			assert.Equal(t, expected.Lost, r.Lost)
			assert.Equal(t, expected.Doubled, r.Duplicated)
			assert.InDelta(t, 100*w.Lost, r.LossPct, 100*w.Lost/2)
			assert.Zero(t, r.Reordered)
		})
	}
}

func TestTheAnalyserSeesLatePackets(t *testing.T) {
	f, relay := relayed(t, Weather{Late: 0.05, LateBy: 30 * time.Millisecond, Seed: 7}, 2000, nil)
	there, _ := relay.Counts()
	r, delays := f.analyse(newMarks(), decodePhone, 0, time.Hour, nil)
	r.finish(delays)
	assert.Zero(t, r.Lost)
	assert.InDelta(t, there.Late, r.Reordered, 15, "but for those that were late by less than a packet")
	assert.Greater(t, r.DelayP99Ms, 20.0)
}

// A hole of 30 ms in packets that are a millisecond apart is some 30 packets in a row.
func TestTheAnalyserSeesAHole(t *testing.T) {
	f, relay := relayed(t, Weather{}, 500, func(r *Relay) { r.Hole(100*time.Millisecond, 30*time.Millisecond) })
	there, _ := relay.Counts()
	require.Positive(t, there.Lost)
	r, _ := f.analyse(newMarks(), decodePhone, 0, time.Hour, nil)
	assert.Equal(t, there.Lost, r.Lost)
	var widest uint16
	for k := 1; k < len(f.arrivals); k++ {
		widest = max(widest, f.arrivals[k].sequence-f.arrivals[k-1].sequence-1)
	}
	assert.Equal(t, there.Lost, int(widest), "in one piece")
}

func TestRelayBothWays(t *testing.T) {
	a, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer func() { _ = a.Close() }()
	b, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer func() { _ = b.Close() }()
	r, err := NewRelay(netip.AddrPort{}, netip.AddrPort{}, Weather{}, Weather{Jitter: 5 * time.Millisecond})
	require.NoError(t, err)
	defer r.Close()
	send := func(conn *net.UDPConn, to netip.AddrPort, i uint32) {
		_, err := conn.WriteToUDPAddrPort(binary.BigEndian.AppendUint32(nil, i), to)
		require.NoError(t, err)
	}
	expect := func(conn *net.UDPConn, i uint32) {
		buf := make([]byte, 10)
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
		n, err := conn.Read(buf)
		require.NoError(t, err)
		assert.Equal(t, binary.BigEndian.AppendUint32(nil, i), buf[:n])
	}
	send(a, r.First(), 0) // nobody is there yet, but a is known from now on
	require.Eventually(t, func() bool { there, _ := r.Counts(); return there.Sent == 1 }, patience, time.Millisecond)
	for i := range uint32(20) {
		send(b, r.Second(), 2+i)
	}
	for i := range uint32(20) {
		expect(a, 2+i)
	}
	send(a, r.First(), 1)
	expect(b, 1)
}
