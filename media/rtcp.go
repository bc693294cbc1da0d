package media

import (
	"crypto/rand"
	"encoding/hex"
	"net/netip"
	"slices"
	"time"

	"github.com/pion/rtcp"
)

// reports is what the far end's RTCP told.
type reports struct {
	from      netip.AddrPort // where its RTCP comes from
	lastSR    uint32         // middle 32 bits of its last sender report's NTP time
	lastSRAt  time.Time
	lost      int     // packets that it misses, whoever lost them
	share     float64 // of what we sent, without what had been lost before: 0 to 1
	recent    recentLoss
	jitter    time.Duration
	roundTrip time.Duration

	jitters, roundTrips mean // in seconds, of all reports
}

// newCNAME is a short-term persistent name (RFC 7022 §4.2): it tells nothing about us.
func newCNAME() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // crypto/rand never fails
	return hex.EncodeToString(b[:])
}

// runRTCP reads the far end's reports and, between them, sends ours.
func (p *Port) runRTCP() {
	defer p.survive()
	buf := make([]byte, maxDatagram)
	next := time.Now().Add(p.every)
	for {
		if now := time.Now(); !now.Before(next) {
			p.sendReport(now, false)
			next = now.Add(p.every)
		}
		_ = p.rtcp.SetReadDeadline(next) // fails only when closed: the read tells
		n, from, err := p.rtcp.ReadFromUDPAddrPort(buf)
		if err != nil {
			select {
			case <-p.done:
				return
			default:
			}
			if time.Now().Before(next) && p.pause() {
				return
			}
			continue
		}
		p.receiveRTCP(buf[:n], unmap(from), time.Now())
	}
}

// receiveRTCP takes a compound packet. Only the far end's address is listened to, so that a flood from elsewhere is
// not parsed.
func (p *Port) receiveRTCP(b []byte, from netip.AddrPort, at time.Time) {
	p.mu.Lock()
	known := from.Addr() == p.source.target().Addr() || from.Addr() == p.media.RemoteRTCP.Addr()
	p.mu.Unlock()
	if !known {
		p.ignored.Add(1)
		return
	}
	if b = p.openReport(b, at); b == nil {
		p.forged.Add(1)
		return
	}
	packets, err := rtcp.Unmarshal(b)
	if err != nil {
		p.malformed.Add(1)
		return
	}
	ours := p.out.report(at)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reports.from.IsValid() || from == p.rtcpSignalled() {
		p.reports.from = from
	}
	p.heard.RTCP = at
	for _, packet := range packets {
		switch r := packet.(type) {
		case *rtcp.SenderReport:
			p.reports.lastSR, p.reports.lastSRAt = uint32(r.NTPTime>>16), at
			p.reports.blocks(r.Reports, ours, at, p.quality.rate())
		case *rtcp.ReceiverReport:
			p.reports.blocks(r.Reports, ours, at, p.quality.rate())
		}
	}
}

// openReport returns a compound packet in its plain form; nil: it is not authentic.
func (p *Port) openReport(b []byte, at time.Time) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.media.Inbound == nil {
		return b
	}
	return slices.Clone(p.opening.rtcp(b, at)) // with RTCP on both sockets two goroutines may come here
}

// blocks reads what the far end says about our packets.
func (r *reports) blocks(list []rtcp.ReceptionReport, ours sent, at time.Time, clock int64) {
	for _, b := range list {
		if b.SSRC != ours.ssrc {
			continue
		}
		r.lost = int(int32(b.TotalLost<<8) >> 8) // a signed 24-bit number (RFC 3550 §6.4.1)
		if ours.packets > 0 {
			r.share = min(1, max(0, float64(r.lost-int(ours.left))/float64(ours.packets)))
		}
		r.recent.report(float64(b.FractionLost) / 256)
		r.jitter = time.Duration(b.Jitter) * time.Second / time.Duration(clock)
		r.jitters.add(r.jitter.Seconds())
		if b.LastSenderReport == 0 {
			continue
		}
		// RFC 3550 §6.4.1: A - LSR - DLSR, in 1/65536 s.
		if rtt := uint32(NTP(at)>>16) - b.LastSenderReport - b.Delay; rtt < 10<<16 {
			r.roundTrip = time.Duration(rtt) * time.Second >> 16
			r.roundTrips.add(r.roundTrip.Seconds())
		}
	}
}

// sayBye ends our SSRC (RFC 3550 §6.6).
func (p *Port) sayBye() {
	// The kernel takes a UDP packet at once; if ever it does not, Close must still come to an end.
	_ = p.rtcp.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	p.sendReport(time.Now(), true)
}

// sendReport sends SR or RR with the CNAME (RFC 3550 §6.1), and BYE if it is the last.
func (p *Port) sendReport(now time.Time, last bool) {
	to, packets := p.compound(now, last)
	if !to.IsValid() {
		return
	}
	b, err := rtcp.Marshal(packets)
	if err != nil {
		return // our own packets; a test marshals each of them
	}
	if b = p.out.sealReport(b); b == nil {
		return
	}
	socket := p.rtcp
	if p.mux.Load() {
		socket = p.rtp
	}
	_, _ = socket.WriteToUDPAddrPort(b, to) // lost like any packet
}

func (p *Port) compound(now time.Time, last bool) (netip.AddrPort, []rtcp.Packet) {
	out := p.out.report(now)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.agreed {
		return netip.AddrPort{}, nil
	}
	var blocks []rtcp.ReceptionReport
	if b, ok := p.quality.Report(); ok {
		if !p.reports.lastSRAt.IsZero() {
			b.LastSenderReport = p.reports.lastSR
			b.Delay = uint32(now.Sub(p.reports.lastSRAt) * 65536 / time.Second)
		}
		blocks = append(blocks, b)
	}
	var packets []rtcp.Packet
	if out.packets > 0 {
		packets = append(packets, &rtcp.SenderReport{
			SSRC: out.ssrc, NTPTime: NTP(now), RTPTime: out.timestamp,
			PacketCount: out.packets, OctetCount: out.octets, Reports: blocks,
		})
	} else {
		packets = append(packets, &rtcp.ReceiverReport{SSRC: out.ssrc, Reports: blocks})
	}
	packets = append(packets, rtcp.NewCNAMESourceDescription(out.ssrc, p.cname))
	if x := p.metrics(); x != nil {
		x.SenderSSRC = out.ssrc
		packets = append(packets, x)
	}
	if last {
		packets = append(packets, &rtcp.Goodbye{Sources: []uint32{out.ssrc}})
	}
	return p.rtcpTarget(), packets
}

// rtcpTarget is where our reports go: to where the far end's first came from, else to where SDP says. p.mu is held.
func (p *Port) rtcpTarget() netip.AddrPort {
	if p.media.RTCPMux {
		return p.source.target()
	}
	if p.reports.from.IsValid() && p.reports.from.Addr() == p.source.target().Addr() {
		return p.reports.from
	}
	return p.rtcpSignalled()
}

// rtcpSignalled is where SDP wants RTCP, or the port after that of the RTP (RFC 3550 §11). p.mu is held.
func (p *Port) rtcpSignalled() netip.AddrPort {
	if p.media.RemoteRTCP.IsValid() {
		return p.media.RemoteRTCP
	}
	if to := p.source.target(); to.IsValid() && to.Port() < 65535 {
		return netip.AddrPortFrom(to.Addr(), to.Port()+1)
	}
	return netip.AddrPort{}
}

// NTP is t in the 64-bit format of RFC 5905 §6: seconds since 1900 and their fraction.
func NTP(t time.Time) uint64 {
	const since1900 = 2208988800
	return uint64(t.Unix()+since1900)<<32 | uint64(t.Nanosecond())<<32/1_000_000_000
}
