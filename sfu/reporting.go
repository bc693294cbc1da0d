package sfu

import (
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"

	"tandem/media"
)

const (
	reportEvery  = time.Second
	rtpHeaderLen = 12 // without what is optional (RFC 3550 §5.1)
)

// reporting makes one interceptor for each connection on which browsers publish.
type reporting struct{ now func() time.Time }

// NewInterceptor implements interceptor.Factory.
func (f reporting) NewInterceptor(string) (interceptor.Interceptor, error) {
	return &reporter{now: f.now, streams: make(map[uint32]*received)}, nil
}

// reporter tells a browser each second, as long as packets come, what has come of each of its streams (RFC 3550 §6.4.2). The one of
// Pion makes a header and a map for each packet, and has a goroutine.
type reporter struct {
	interceptor.NoOp
	now func() time.Time

	mu      sync.Mutex // no packet of a stream takes it, but that which a report follows
	writer  interceptor.RTCPWriter
	streams map[uint32]*received
}

// received is one stream. All but heard is of the goroutine that reads it.
type received struct {
	heard  atomic.Pointer[heard]
	stream uint32 // its SSRC
	ours   uint32 // the SSRC that reports
	came   *media.Reception
	next   time.Time // of the next report; zero: nothing has come
}

// heard is the last sender report of a stream.
type heard struct {
	id uint32 // the middle of its NTP time, as reports say it again
	at time.Time
}

// BindRTCPWriter implements interceptor.Interceptor.
func (r *reporter) BindRTCPWriter(writer interceptor.RTCPWriter) interceptor.RTCPWriter {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writer = writer
	return writer
}

// BindRemoteStream implements interceptor.Interceptor.
func (r *reporter) BindRemoteStream(info *interceptor.StreamInfo, reader interceptor.RTPReader) interceptor.RTPReader {
	s := &received{stream: info.SSRC, ours: rand.Uint32(), came: media.NewReception(int64(info.ClockRate))}
	r.mu.Lock()
	r.streams[info.SSRC] = s
	r.mu.Unlock()
	return interceptor.RTPReaderFunc(func(b []byte, a interceptor.Attributes) (int, interceptor.Attributes, error) {
		n, a, err := reader.Read(b, a)
		if err == nil && n >= rtpHeaderLen {
			r.packet(s, b[:n], r.now())
		}
		return n, a, err
	})
}

// UnbindRemoteStream implements interceptor.Interceptor.
func (r *reporter) UnbindRemoteStream(info *interceptor.StreamInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.streams, info.SSRC)
}

// packet counts one, and reports when it is time.
func (r *reporter) packet(s *received, b []byte, now time.Time) {
	s.came.Packet(s.stream, binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint32(b[4:]), now)
	if s.next.IsZero() {
		s.next = now.Add(reportEvery)
	}
	if now.Before(s.next) {
		return
	}
	s.next = now.Add(reportEvery)
	r.mu.Lock()
	writer := r.writer
	r.mu.Unlock()
	about, ok := s.came.Report()
	if !ok || writer == nil {
		return
	}
	if h := s.heard.Load(); h != nil {
		about.LastSenderReport, about.Delay = h.id, uint32(now.Sub(h.at)*65536/time.Second)
	}
	report := &rtcp.ReceiverReport{SSRC: s.ours, Reports: []rtcp.ReceptionReport{about}}
	_, _ = writer.Write([]rtcp.Packet{report}, interceptor.Attributes{}) // lost like any packet
}

// BindRTCPReader implements interceptor.Interceptor: it looks for sender reports.
func (r *reporter) BindRTCPReader(reader interceptor.RTCPReader) interceptor.RTCPReader {
	return interceptor.RTCPReaderFunc(func(b []byte, a interceptor.Attributes) (int, interceptor.Attributes, error) {
		n, a, err := reader.Read(b, a)
		if err != nil {
			return n, a, err
		}
		if a == nil {
			a = make(interceptor.Attributes)
		}
		packets, err := a.GetRTCPPackets(b[:n])
		if err != nil {
			return 0, nil, err
		}
		for _, p := range packets {
			if sr, ok := p.(*rtcp.SenderReport); ok {
				r.senderReport(sr)
			}
		}
		return n, a, nil
	})
}

func (r *reporter) senderReport(sr *rtcp.SenderReport) {
	r.mu.Lock()
	s := r.streams[sr.SSRC]
	r.mu.Unlock()
	if s != nil {
		s.heard.Store(&heard{id: uint32(sr.NTPTime >> 16), at: r.now()})
	}
}
