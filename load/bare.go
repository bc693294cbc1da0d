package load

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/emiago/sipgo"
	"github.com/emiago/sipgo/sip"
)

// ServeBare is what a gateway is measured against: the SIP library alone, with its dialogs, that rings, answers with an
// SDP that never changes, and is hung up. It has no media port, no database and nobody to tell. It serves SIP over UDP
// at sipAddr and /readyz at httpAddr until ctx ends.
func ServeBare(ctx context.Context, sipAddr, httpAddr string) error {
	var lc net.ListenConfig
	conn, err := lc.ListenPacket(ctx, "udp4", sipAddr)
	if err != nil {
		return fmt.Errorf("load: SIP socket: %w", err)
	}
	quiet := slog.New(slog.DiscardHandler)
	sip.SetDefaultLogger(quiet)
	agent, err := sipgo.NewUA(
		sipgo.WithUserAgentTransportLayerOptions(sip.WithTransportLayerLogger(quiet)),
		sipgo.WithUserAgentTransactionLayerOptions(sip.WithTransactionLayerLogger(quiet),
			sip.WithTransactionLayerUnhandledResponseHandler(func(*sip.Response) {})),
	)
	if err != nil {
		return fmt.Errorf("load: SIP: %w", err)
	}
	client, err := sipgo.NewClient(agent, sipgo.WithClientLogger(quiet))
	if err != nil {
		return fmt.Errorf("load: SIP: %w", err)
	}
	server, err := sipgo.NewServer(agent, sipgo.WithServerLogger(quiet))
	if err != nil {
		return fmt.Errorf("load: SIP: %w", err)
	}
	addr, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		return fmt.Errorf("load: %s is no UDP address", conn.LocalAddr())
	}
	calls := sipgo.NewDialogServerCache(client, sip.ContactHeader{
		Address: sip.Uri{Scheme: "sip", User: "bare", Host: addr.IP.String(), Port: addr.Port},
	})
	server.OnInvite(func(req *sip.Request, tx sip.ServerTransaction) {
		call, err := calls.ReadInvite(req, tx)
		if err != nil {
			return
		}
		defer func() { _ = call.Close() }()
		_ = call.Respond(sip.StatusTrying, "Trying", nil)
		if call.Respond(sip.StatusRinging, "Ringing", nil) == nil {
			_ = call.RespondSDP([]byte(fixedSDP(addr.Port)))
		}
	})
	server.OnAck(func(req *sip.Request, tx sip.ServerTransaction) { _ = calls.ReadAck(req, tx) })
	server.OnBye(func(req *sip.Request, tx sip.ServerTransaction) {
		if calls.ReadBye(req, tx) != nil {
			_ = tx.Respond(sip.NewResponseFromRequest(req, sip.StatusCallTransactionDoesNotExists, "Call Does Not Exist", nil))
		}
	})
	ready := &http.Server{Addr: httpAddr, ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	failed := make(chan error, 2)
	go func() { failed <- server.ServeUDP(conn) }()
	go func() { failed <- ready.ListenAndServe() }()
	select {
	case <-ctx.Done():
		err = nil
	case err = <-failed:
	}
	_ = ready.Close()
	_ = conn.Close()
	_ = agent.Close()
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	return nil
}

// fixedSDP offers, or answers with, PCMU at a port of the loopback.
func fixedSDP(port int) string {
	return fmt.Sprintf("v=0\r\no=bench 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio %d RTP/AVP 0 101\r\n"+
		"a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=sendrecv\r\n", port)
}
