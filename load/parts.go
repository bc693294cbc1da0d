package load

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/hraban/opus"
	"github.com/pion/rtp"
)

// parts is what the floor is made of, each in a warm loop of its own on this machine.
type parts struct {
	decode, encode time.Duration // 20 ms of Opus, full band to 8 kHz, and 8 kHz to Opus as the gateway's default is
	datagram       time.Duration // one sent and received
	srtp           time.Duration // one packet sealed or opened
}

// total is what they add up to, in milliseconds per call-second: 50 packets each way.
func (p parts) total() float64 {
	return 50 * float64(p.decode+p.encode+2*p.datagram+2*p.srtp) / float64(time.Millisecond)
}

// partsReference is what they took where they were first measured: a machine that needs much more is too busy, or another one.
func partsReference() parts {
	return parts{decode: 37 * time.Microsecond, encode: 26 * time.Microsecond, datagram: 8800 * time.Nanosecond, srtp: 350 * time.Nanosecond}
}

const (
	partsRounds = 15
	partsTimes  = 200 // what is done in a round
)

// measureParts takes the median of rounds, so that what else the machine does in one of them does not count.
func measureParts(s *sounds) (p parts, err error) {
	dec, err := opus.NewDecoder(phoneRate, 1)
	if err != nil {
		return p, fmt.Errorf("load: parts: %w", err)
	}
	voice, err := newFloorVoice(gatewayComplexity)
	if err != nil {
		return p, err
	}
	seal, err := newSRTP(floorSecret())
	if err != nil {
		return p, err
	}
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return p, fmt.Errorf("load: parts: %w", err)
	}
	defer func() { _ = conn.Close() }()
	self, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil {
		return p, fmt.Errorf("load: parts: %w", err)
	}
	var pcm [frameSamples]int16
	var buf, sealed [1500]byte
	packet := rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: opusPayloadType}, Payload: make([]byte, 60)}
	for _, one := range []struct {
		took *time.Duration
		do   func(i int) error
	}{
		{&p.decode, func(i int) error { _, err := dec.Decode(s.browser[i%len(s.browser)], pcm[:]); return err }},
		{&p.encode, func(i int) error {
			decodePhone(s.phone[i%len(s.phone)], &pcm)
			_, err := voice.enc.Encode(pcm[:], buf[:]) // all at one complexity, as the reference was
			return err
		}},
		{&p.datagram, func(int) error {
			if _, err := conn.WriteToUDPAddrPort(buf[:frameSamples+12], self); err != nil {
				return err
			}
			_, _, err := conn.ReadFromUDPAddrPort(buf[:])
			return err
		}},
		{&p.srtp, func(i int) error {
			packet.SequenceNumber = uint16(i)
			n, err := packet.MarshalTo(buf[:])
			if err != nil {
				return err
			}
			_, err = seal.EncryptRTP(sealed[:0], buf[:n], nil)
			return err
		}},
	} {
		var rounds []time.Duration
		for round := range partsRounds {
			began := time.Now()
			for i := range partsTimes {
				if err := one.do(round*partsTimes + i); err != nil {
					return p, fmt.Errorf("load: parts: %w", err)
				}
			}
			rounds = append(rounds, time.Since(began)/partsTimes)
		}
		slices.Sort(rounds)
		*one.took = rounds[len(rounds)/2]
	}
	return p, nil
}
