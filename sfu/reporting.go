package sfu

import (
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"

	"tandem/media"
)

const (
	reportEvery  = time.Second     // of what comes, by which a browser chooses its FEC, and of video
	soundEvery   = 5 * time.Second // of sound that goes out (RFC 3550 §6.2; browsers report theirs as often)
	rtpHeaderLen = 12              // without what is optional (RFC 3550 §5.1)
)

// reports tell a browser each second, as long as packets come, what has come of one of its streams (RFC 3550 §6.4.2). Those of Pion make
// a header and a map for each packet, and have a goroutine.
type reports struct {
	heard atomic.Pointer[heard]

	// owned by who reads the stream
	ours uint32 // the SSRC that reports
	came *media.Reception
	next time.Time // zero: nothing has come
}

// heard is the last sender report of a stream.
type heard struct {
	id uint32 // the middle of its NTP time, as reports say it again
	at time.Time
}

// packet counts one, and returns a report when it is time.
func (r *reports) packet(ssrc uint32, sequence uint16, timestamp uint32, now time.Time) *rtcp.ReceiverReport {
	r.came.Packet(ssrc, sequence, timestamp, now)
	if r.next.IsZero() {
		r.next = now.Add(reportEvery)
	}
	if now.Before(r.next) {
		return nil
	}
	r.next = now.Add(reportEvery)
	about, ok := r.came.Report()
	if !ok {
		return nil
	}
	if h := r.heard.Load(); h != nil {
		about.LastSenderReport, about.Delay = h.id, uint32(now.Sub(h.at)*65536/time.Second)
	}
	return &rtcp.ReceiverReport{SSRC: r.ours, Reports: []rtcp.ReceptionReport{about}}
}

// senderReport is one that came at time at. Any goroutine may call it.
func (r *reports) senderReport(sr *rtcp.SenderReport, at time.Time) {
	r.heard.Store(&heard{id: uint32(sr.NTPTime >> 16), at: at})
}

// sent is what went out of a stream, for our sender reports (RFC 3550 §6.4.1). Its outbound's mu guards it.
type sent struct {
	packets, octets uint32
	next            time.Time // of the next report
}

// packet counts one, and returns a report when it is time, as long as packets go out: with the first, a second later, by when a browser knows how
// the stream's clock goes, and then as often as is told.
func (s *sent) packet(h *rtp.Header, octets int, every time.Duration, now time.Time) *rtcp.SenderReport {
	s.packets++
	s.octets += uint32(octets)
	if now.Before(s.next) {
		return nil
	}
	if s.packets == 1 {
		every = reportEvery
	}
	s.next = now.Add(every)
	return &rtcp.SenderReport{SSRC: h.SSRC, NTPTime: media.NTP(now), RTPTime: h.Timestamp, PacketCount: s.packets, OctetCount: s.octets}
}

// tellEvery is how often those who hear or see something are told what was sent.
func tellEvery(k media.Kind) time.Duration {
	if k == media.Video {
		return reportEvery
	}
	return soundEvery
}
