package sfu

import (
	"crypto/rand"
	"sync"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
)

// naming makes one interceptor for each connection.
type naming struct{}

// NewInterceptor implements interceptor.Factory.
func (naming) NewInterceptor(string) (interceptor.Interceptor, error) {
	return &named{cname: rand.Text(), ours: make(map[uint32]uint32)}, nil
}

// named adds to the reports of a connection what Pion leaves out: who sends them (RFC 3550 §6.5.1; the name tells nothing about
// us, RFC 7022 §4.2), and a goodbye when a stream ends (§6.6). It stands before those that report.
type named struct {
	interceptor.NoOp
	cname string

	mu     sync.Mutex // no packet of a stream takes it
	writer interceptor.RTCPWriter
	ours   map[uint32]uint32 // the SSRC that reports about another one
}

// BindRTCPWriter implements interceptor.Interceptor.
func (n *named) BindRTCPWriter(writer interceptor.RTCPWriter) interceptor.RTCPWriter {
	n.mu.Lock()
	n.writer = writer
	n.mu.Unlock()
	return interceptor.RTCPWriterFunc(func(packets []rtcp.Packet, a interceptor.Attributes) (int, error) {
		if len(packets) == 1 {
			switch r := packets[0].(type) {
			case *rtcp.SenderReport:
				packets = []rtcp.Packet{r, rtcp.NewCNAMESourceDescription(r.SSRC, n.cname)}
			case *rtcp.ReceiverReport:
				packets = []rtcp.Packet{r, rtcp.NewCNAMESourceDescription(r.SSRC, n.cname)}
				n.note(r)
			}
		}
		return writer.Write(packets, a)
	})
}

// note remembers who reports about a stream.
func (n *named) note(r *rtcp.ReceiverReport) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, about := range r.Reports {
		n.ours[about.SSRC] = r.SSRC
	}
}

// UnbindLocalStream implements interceptor.Interceptor: a stream of ours ends.
func (n *named) UnbindLocalStream(stream *interceptor.StreamInfo) { n.bye(stream.SSRC) }

// UnbindRemoteStream implements interceptor.Interceptor: who reported about a stream of the browser has no more to say.
func (n *named) UnbindRemoteStream(stream *interceptor.StreamInfo) {
	n.mu.Lock()
	ours, ok := n.ours[stream.SSRC]
	delete(n.ours, stream.SSRC)
	n.mu.Unlock()
	if ok {
		n.bye(ours)
	}
}

func (n *named) bye(ssrc uint32) {
	n.mu.Lock()
	writer := n.writer
	n.mu.Unlock()
	if writer == nil {
		return
	}
	_, _ = writer.Write([]rtcp.Packet{
		&rtcp.ReceiverReport{SSRC: ssrc}, rtcp.NewCNAMESourceDescription(ssrc, n.cname), &rtcp.Goodbye{Sources: []uint32{ssrc}},
	}, interceptor.Attributes{}) // lost like any packet, and where there is no connection any more
}
