package lab_test

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emiago/sipgo"
	"github.com/emiago/sipgo/sip"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tandem/lab"
)

// peer is a caller that isn't the lab: bare sipgo and a UDP socket.
type peer struct {
	ua    sipgo.DialogUA
	media *net.UDPConn
}

func newPeer(t *testing.T) *peer {
	t.Helper()
	agent, err := sipgo.NewUA(sipgo.WithUserAgentHostname("127.0.0.1"))
	require.NoError(t, err)
	client, err := sipgo.NewClient(agent, sipgo.WithClientHostname("127.0.0.1"), sipgo.WithClientConnectionAddr(serve(t, agent)))
	require.NoError(t, err)
	media, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = media.Close() })
	return &peer{
		ua:    sipgo.DialogUA{Client: client, ContactHDR: sip.ContactHeader{Address: sip.Uri{Scheme: "sip", User: "peer", Host: "127.0.0.1"}}},
		media: media,
	}
}

// serve gives the agent a socket until the test is over, and returns its address. sipgo may leave one that it opens
// itself open, when the agent is closed right after a request.
func serve(t *testing.T, agent *sipgo.UserAgent) string {
	t.Helper()
	server, err := sipgo.NewServer(agent)
	require.NoError(t, err)
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.ServeUDP(conn) })
	t.Cleanup(func() {
		_ = agent.Close()
		_ = conn.Close()
		serving.Wait()
	})
	require.Eventually(t, func() bool { return agent.TransportLayer().Pool("udp").Size() > 0 }, patience, time.Millisecond)
	return conn.LocalAddr().String()
}

func (p *peer) sdp(direction string) []byte {
	port := netip.MustParseAddrPort(p.media.LocalAddr().String()).Port()
	return []byte("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio " +
		strconv.Itoa(int(port)) + " RTP/AVP 0\r\na=" + direction + "\r\n")
}

// hears says whether a packet comes within the time.
func (p *peer) hears(t *testing.T, within time.Duration) bool {
	t.Helper()
	require.NoError(t, p.media.SetReadDeadline(time.Now().Add(within)))
	_, err := p.media.Read(make([]byte, 1500))
	return err == nil
}

func (p *peer) drain(t *testing.T) {
	t.Helper()
	for p.hears(t, 100*time.Millisecond) {
		continue
	}
}

func (p *peer) invite(ctx context.Context, t *testing.T, far *lab.Trunk, body []byte) *sipgo.DialogClientSession {
	t.Helper()
	var uri sip.Uri
	require.NoError(t, sip.ParseUri(to(far, "+15550105", "udp"), &uri))
	var headers []sip.Header
	if body != nil {
		headers = append(headers, sip.NewHeader("Content-Type", "application/sdp"))
	}
	dlg, err := p.ua.Invite(ctx, uri, body, headers...)
	require.NoError(t, err)
	require.NoError(t, dlg.WaitAnswer(ctx, sipgo.AnswerOptions{}))
	return dlg
}

func TestHoldAndResume(t *testing.T) {
	t.Parallel()
	far, p := start(t, lab.Config{}), newPeer(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	dlg := p.invite(ctx, t, far, p.sdp("sendrecv"))
	require.NoError(t, dlg.Ack(ctx))
	assert.True(t, p.hears(t, patience))

	reinvite := func(body []byte) *sip.Response {
		req := sip.NewRequest(sip.INVITE, dlg.InviteResponse.Contact().Address)
		req.AppendHeader(sip.NewHeader("Content-Type", "application/sdp"))
		req.SetBody(body)
		res, err := dlg.Do(ctx, req)
		require.NoError(t, err)
		return res
	}
	res := reinvite(p.sdp("sendonly"))
	assert.Equal(t, 200, res.StatusCode)
	assert.Contains(t, string(res.Body()), "a=recvonly")
	assert.NotNil(t, res.Contact())
	p.drain(t)

	res = reinvite(p.sdp("sendrecv"))
	assert.Equal(t, 200, res.StatusCode)
	assert.Contains(t, string(res.Body()), "a=sendrecv")
	assert.True(t, p.hears(t, patience))

	res = reinvite([]byte(strings.Replace(string(p.sdp("sendrecv")), "RTP/AVP 0", "RTP/AVP 18", 1)))
	assert.Equal(t, 488, res.StatusCode)
	assert.True(t, p.hears(t, patience), "what was agreed stays")
	require.NoError(t, dlg.Bye(ctx))
	ended(t, <-far.Calls())
}

// An INVITE without SDP gets our offer in the 200; its answer comes with the ACK (RFC 3264 §4).
func TestDelayedOffer(t *testing.T) {
	t.Parallel()
	far, p := start(t, lab.Config{}), newPeer(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	dlg := p.invite(ctx, t, far, nil)
	assert.Contains(t, string(dlg.InviteResponse.Body()), "RTP/AVP 0 8 101")
	ack := sip.NewRequest(sip.ACK, dlg.InviteResponse.Contact().Address)
	ack.AppendHeader(sip.NewHeader("Content-Type", "application/sdp"))
	ack.SetBody(p.sdp("sendrecv"))
	require.NoError(t, dlg.WriteAck(ctx, ack))
	assert.True(t, p.hears(t, patience))
	require.NoError(t, dlg.Bye(ctx))
	their := <-far.Calls()
	ended(t, their)
	assert.True(t, their.Status().ByFarEnd)
}

func TestStrangersRequests(t *testing.T) {
	t.Parallel()
	far, p := start(t, lab.Config{Username: "u", Password: "p"}), newPeer(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var uri sip.Uri
	require.NoError(t, sip.ParseUri(far.URI("udp"), &uri))
	for method, want := range map[sip.RequestMethod]int{
		sip.OPTIONS: 200, sip.BYE: 481, sip.CANCEL: 481, sip.MESSAGE: 405, sip.REGISTER: 401, sip.INVITE: 400,
	} {
		res, err := p.ua.Client.Do(ctx, sip.NewRequest(method, uri))
		require.NoError(t, err, method)
		assert.Equal(t, want, res.StatusCode, method)
	}
	register := sip.NewRequest(sip.REGISTER, uri)
	res, err := p.ua.Client.Do(ctx, register)
	require.NoError(t, err)
	res, err = p.ua.Client.DoDigestAuth(ctx, register, res, sipgo.DigestAuth{Username: "u", Password: "p"})
	require.NoError(t, err)
	assert.Equal(t, 200, res.StatusCode)
}
