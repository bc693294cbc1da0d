package sip

import (
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/emiago/sipgo/sip"
	"github.com/stretchr/testify/require"

	"tandem/media"
)

// TestRouteSets shows the request lines and Route headers that follow from each route set (RFC 3261 §12.1, §12.2.1.1).
// As a caller we have the Record-Route of the answer from its end, as a callee that of the INVITE from its beginning.
func TestRouteSets(t *testing.T) {
	t.Parallel()
	ports, err := media.NewPorts(media.PortsConfig{Listen: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, From: 40000, To: 40001})
	require.NoError(t, err)
	a, err := Listen(Config{Listen: []string{"udp://127.0.0.1:0"}}, ports, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer func() { require.NoError(t, a.Close()) }()
	const contact = "<sip:phone@192.0.2.9:5070>"
	for _, c := range []struct {
		name        string
		recordRoute []string // of the message, from its top
		caller      []string // what we send as a caller: request line, destination, Routes
		callee      []string // likewise as a callee
	}{
		{
			"no proxy", nil,
			[]string{"sip:phone@192.0.2.9:5070", "192.0.2.9:5070"},
			[]string{"sip:phone@192.0.2.9:5070", "192.0.2.9:5070"},
		},
		{
			"one loose router",
			[]string{"<sip:192.0.2.1;lr>"},
			[]string{"sip:phone@192.0.2.9:5070", "192.0.2.1:5060", "<sip:192.0.2.1;lr>"},
			[]string{"sip:phone@192.0.2.9:5070", "192.0.2.1:5060", "<sip:192.0.2.1;lr>"},
		},
		{
			"two in two headers",
			[]string{"<sip:192.0.2.2;lr;a=b>", "<sip:192.0.2.1:5080;lr>"},
			[]string{"sip:phone@192.0.2.9:5070", "192.0.2.1:5080", "<sip:192.0.2.1:5080;lr>", "<sip:192.0.2.2;lr;a=b>"},
			[]string{"sip:phone@192.0.2.9:5070", "192.0.2.2:5060", "<sip:192.0.2.2;lr;a=b>", "<sip:192.0.2.1:5080;lr>"},
		},
		{
			"two in one header",
			[]string{"<sip:192.0.2.2;lr>, <sip:192.0.2.1;lr>"},
			[]string{"sip:phone@192.0.2.9:5070", "192.0.2.1:5060", "<sip:192.0.2.1;lr>", "<sip:192.0.2.2;lr>"},
			[]string{"sip:phone@192.0.2.9:5070", "192.0.2.2:5060", "<sip:192.0.2.2;lr>", "<sip:192.0.2.1;lr>"},
		},
		{
			"one strict router",
			[]string{"<sip:192.0.2.1>"},
			[]string{"sip:192.0.2.1", "192.0.2.1:5060", "<sip:phone@192.0.2.9:5070>"},
			[]string{"sip:192.0.2.1", "192.0.2.1:5060", "<sip:phone@192.0.2.9:5070>"},
		},
		{
			"strict beside the far end, loose beside us, as a caller",
			[]string{"<sip:192.0.2.2>", "<sip:192.0.2.1;lr>"},
			[]string{"sip:phone@192.0.2.9:5070", "192.0.2.1:5060", "<sip:192.0.2.1;lr>", "<sip:192.0.2.2>"},
			[]string{"sip:192.0.2.2", "192.0.2.2:5060", "<sip:192.0.2.1;lr>", "<sip:phone@192.0.2.9:5070>"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			routes := ""
			for _, r := range c.recordRoute {
				routes += "Record-Route: " + r + "\r\n"
			}
			common := routes + "Call-ID: x\r\nCSeq: 1 INVITE\r\nContact: " + contact + "\r\nContent-Length: 0\r\n\r\n"
			invite := parsed[*sip.Request](t, "INVITE sip:+1555@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKa\r\n"+
				"From: <sip:us@x>;tag=us\r\nTo: <sip:+1555@x>\r\nMax-Forwards: 70\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n")
			answer := parsed[*sip.Response](t, "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKa\r\n"+
				"From: <sip:us@x>;tag=us\r\nTo: <sip:+1555@x>;tag=them\r\n"+common)
			invited := parsed[*sip.Request](t, "INVITE sip:us@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKb\r\n"+
				"From: <sip:them@x>;tag=them\r\nTo: <sip:us@x>;tag=us\r\nMax-Forwards: 70\r\n"+common)
			caller, err := answeredBy(invite, answer, "udp", certFiles{})
			require.NoError(t, err)
			callee, err := calledBy(invited, "udp")
			require.NoError(t, err)
			for _, method := range []sip.RequestMethod{sip.ACK, sip.PRACK, sip.UPDATE, sip.BYE} {
				for _, side := range []struct {
					peer *peer
					want []string
				}{{&caller, c.caller}, {&callee, c.callee}} {
					req, err := a.request(side.peer, method)
					require.NoError(t, err)
					got := []string{req.Recipient.String(), req.Destination()}
					for _, h := range req.GetHeaders("Route") {
						got = append(got, h.Value())
					}
					require.Equal(t, side.want, got, method)
				}
			}
		})
	}
}

func parsed[M sip.Message](t *testing.T, text string) M {
	t.Helper()
	msg, err := sip.NewParser().ParseSIP([]byte(text))
	require.NoError(t, err, strings.SplitN(text, "\r\n", 2)[0])
	m, ok := msg.(M)
	require.True(t, ok)
	return m
}
