package load

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestEarTellsWhenAPacketCame: the time is the kernel's, from between the sending and the moment after it, however late the
// packet is read.
func TestEarTellsWhenAPacketCame(t *testing.T) {
	e, err := newEar(loopback(), nil)
	require.NoError(t, err)
	defer func() { _ = e.Close() }()
	from, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(e.local))
	require.NoError(t, err)
	defer func() { _ = from.Close() }()
	buf := make([]byte, 100)
	// The kernel begins to stamp packets as they come a moment after it was asked to, and as they are read until then.
	require.Eventually(t, func() bool {
		_, err := from.Write([]byte("first"))
		sent := time.Now()
		_, _, at, broken := e.receive(buf)
		return err == nil && broken == nil && at.Before(sent.Add(50*time.Microsecond))
	}, 5*time.Second, earPoll)
	const packets = 40
	var before, after [packets]time.Time
	for i := range packets {
		before[i] = time.Now()
		_, err = from.Write([]byte{byte(i), 2, 3})
		require.NoError(t, err)
		after[i] = time.Now()
	}
	for i := range packets {
		n, source, at, err := e.receive(buf)
		require.NoError(t, err)
		require.Equal(t, []byte{byte(i), 2, 3}, buf[:n])
		require.Equal(t, from.LocalAddr().String(), source.String())
		// The two clocks are read one after the other: a microsecond or two may lie between.
		assert.WithinRange(t, at, before[i].Add(-50*time.Microsecond), after[i].Add(50*time.Microsecond))
	}
	require.NoError(t, e.send([]byte("back"), netip.MustParseAddrPort(from.LocalAddr().String())))
	n, err := from.Read(buf)
	require.NoError(t, err)
	require.Equal(t, "back", string(buf[:n]))
	_, err = e.WriteTo(nil, &net.TCPAddr{})
	require.ErrorContains(t, err, "no UDP address")
}

// TestEarKeepsWhatIsNotRead: what its reader does not take waits in the socket, and comes in order.
func TestEarKeepsWhatIsNotRead(t *testing.T) {
	e, err := newEar(loopback(), nil)
	require.NoError(t, err)
	defer func() { _ = e.Close() }()
	from, err := newEar(loopback(), nil)
	require.NoError(t, err)
	defer func() { _ = from.Close() }()
	const packets = earWaiting + 40
	for i := range packets {
		require.NoError(t, from.send([]byte{byte(i), byte(i >> 8)}, e.local))
	}
	buf := make([]byte, 100)
	for i := range packets {
		n, _, _, err := e.receive(buf)
		require.NoError(t, err)
		require.Equal(t, []byte{byte(i), byte(i >> 8)}, buf[:n])
	}
	ended := make(chan error)
	go func() {
		_, _, _, err := e.receive(buf)
		ended <- err
	}()
	require.NoError(t, e.Close())
	require.NoError(t, e.Close())
	require.ErrorIs(t, <-ended, net.ErrClosed)
}

func TestArrivalTimes(t *testing.T) {
	var a arrivalTimes
	at := time.Now().Add(-time.Second)
	packet := rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: 111, SequenceNumber: 1030, SSRC: 7}, Payload: []byte{1}}
	raw, err := packet.Marshal()
	require.NoError(t, err)
	a.note(raw, at)
	require.Equal(t, at, a.of(7, 1030))
	raw[1] = 200 // RTCP: no packet of sound, whatever stands where its number would be
	a.note(raw, at.Add(time.Millisecond))
	a.note([]byte{0x80}, at)
	require.Equal(t, at, a.of(7, 1030))
	for _, unknown := range []time.Time{a.of(8, 1030), a.of(7, 6), a.of(0, 0)} {
		require.Less(t, time.Since(unknown), time.Minute)
		require.True(t, unknown.After(at.Add(900*time.Millisecond)))
	}
}
