package sip

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/stretchr/testify/require"

	"tandem/dialogs"
	"tandem/media"
)

// sixSDP is talkerSDP over IPv6.
var sixSDP = strings.ReplaceAll(talkerSDP, "IN IP4 127.0.0.1", "IN IP6 ::1")

// dual is an agent that serves SIP and media in both families of IP.
func dual(t *testing.T, cfg Config, in dialogs.Callers) *gateway {
	t.Helper()
	if len(cfg.Listen) == 0 {
		cfg.Listen = []string{"udp://127.0.0.1:0", "udp://[::1]:0"}
	}
	return startAgentOn(t, cfg, in, media.PortsConfig{
		Listen: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}, From: 40000, To: 49999,
	})
}

// loopbacks is a trunk for whoever calls from this machine.
func loopbacks() Trunk {
	return Trunk{Name: "lab", Account: "1", Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}}
}

// ear is a media.PortReceiver that tells the first byte of what it hears.
type ear chan byte

func (e ear) ReceiveRTP(p *rtp.Packet, _ time.Time) {
	select {
	case e <- p.Payload[0]:
	default:
	}
}

func (e ear) Broke(panicked any) { panic(panicked) }

func (e ear) hears(t *testing.T, want byte) {
	t.Helper()
	select {
	case got := <-e:
		require.Equal(t, want, got)
	case <-time.After(patience):
		require.Fail(t, "no RTP came")
	}
}

// hearEachOther sends RTP both ways between the legs of one call.
func hearEachOther(t *testing.T, a, b dialogs.LegEvent) {
	t.Helper()
	atA, atB := make(ear, 1), make(ear, 1)
	for port, side := range map[*media.Port]struct {
		agreed media.PortMedia
		ear    ear
	}{a.Port: {a.Media, atA}, b.Port: {b.Media, atB}} {
		port.Update(side.agreed)
		port.Start(side.ear)
	}
	require.True(t, a.Port.Send(a.Media.Audio(), true, 0, []byte{'a'}))
	atB.hears(t, 'a')
	require.True(t, b.Port.Send(b.Media.Audio(), true, 0, []byte{'b'}))
	atA.hears(t, 'b')
}

// TestBothFamiliesAtOnce: one agent places and takes calls over IPv4 and IPv6 at the same time, over every transport, and
// each has its sound in its own family.
func TestBothFamiliesAtOnce(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	var listen []string
	for _, network := range []string{"udp", "tcp", "tls"} {
		listen = append(listen, network+"://127.0.0.1:0", network+"://[::1]:0")
	}
	in := newCallers(nil)
	far := dual(t, ca.secured(Config{Listen: listen, Trunks: []Trunk{loopbacks()}}), in)
	var out []Trunk
	over := make(map[string]string) // hosts, by trunk
	for _, uri := range far.Addrs() {
		network, at, _ := strings.Cut(uri, "://")
		name := fmt.Sprint(network, len(out))
		over[name] = netip.MustParseAddrPort(at).Addr().String()
		out = append(out, Trunk{Name: name, Account: "1", URI: "sip:" + at + ";transport=" + network})
	}
	require.Len(t, out, 6)
	near := dual(t, ca.secured(Config{Listen: listen, Trunks: out}), newCallers(nil))

	placed := make(map[string]dialogs.Leg) // by trunk
	for _, trunk := range out {
		leg, err := near.Dial(t.Context(), dialogs.Dial{Dialog: "d", Account: "1", To: "+15550100", From: "+15550199", Trunk: trunk.Name})
		require.NoError(t, err)
		placed[trunk.Name] = leg
	}
	taken := make(map[netip.AddrPort]dialogs.LegEvent) // by where their sound comes to
	var all []dialogs.Leg
	for range out {
		leg := in.leg(t)
		leg.Answer()
		agreed := await(t, leg, dialogs.LegMedia)
		await(t, leg, dialogs.LegAnswered)
		taken[agreed.Port.Local()] = agreed
		all = append(all, leg)
	}
	count := make(map[string]int)
	for name, leg := range placed {
		agreed := await(t, leg, dialogs.LegMedia)
		await(t, leg, dialogs.LegAnswered)
		require.Equal(t, over[name], agreed.Port.Local().Addr().String(), name)
		require.Equal(t, over[name], agreed.Media.Remote.Addr().String(), name)
		theirs, ok := taken[agreed.Media.Remote]
		require.True(t, ok, name)
		require.Equal(t, agreed.Port.Local(), theirs.Media.Remote, name)
		hearEachOther(t, agreed, theirs)
		count[over[name]]++
	}
	require.Equal(t, map[string]int{"127.0.0.1": 3, "::1": 3}, count)
	for _, leg := range placed {
		leg.Hangup(0)
		require.Equal(t, byThisEnd, end(t, leg).Details)
	}
	for _, leg := range all {
		require.Equal(t, byFarEnd, end(t, leg).Details)
	}
	near.idle(t)
	far.idle(t)
}

// TestAnswerIsOfTheFamilyOfTheOffer: the c= line says where the sound is to flow, wherever the INVITE came from. Without an
// offer it is the family of the caller's address.
func TestAnswerIsOfTheFamilyOfTheOffer(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := dual(t, Config{Trunks: []Trunk{loopbacks()}}, in)
	held := strings.Replace(sixSDP, "c=IN IP6 ::1", "c=IN IP6 hold.invalid", 1)
	twice := strings.Replace(sixSDP, "RTP/AVP 0", "RTP/AVP 18", 1) + "m=audio 40004 RTP/AVP 0\r\nc=IN IP4 127.0.0.1\r\n"
	for _, c := range []struct{ name, from, offer, want string }{
		{"IPv4 over IPv4", "127.0.0.1", talkerSDP, "c=IN IP4 127.0.0.1\r\n"},
		{"IPv6 over IPv6", "::1", sixSDP, "c=IN IP6 ::1\r\n"},
		{"IPv6 over IPv4", "127.0.0.1", sixSDP, "c=IN IP6 ::1\r\n"},
		{"IPv4 over IPv6", "::1", talkerSDP, "c=IN IP4 127.0.0.1\r\n"},
		{"IPv6 on hold", "127.0.0.1", held, "c=IN IP6 ::1\r\n"},
		{"IPv4 on hold", "::1", strings.Replace(talkerSDP, "c=IN IP4 127.0.0.1", "c=IN IP4 0.0.0.0", 1), "c=IN IP4 127.0.0.1\r\n"},
		{"the second of two streams", "::1", twice, "c=IN IP4 127.0.0.1\r\n"},
		{"no offer over IPv4", "127.0.0.1", "", "c=IN IP4 127.0.0.1\r\n"},
		{"no offer over IPv6", "::1", "", "c=IN IP6 ::1\r\n"},
	} {
		p := newTalkerTo(t, g.on("udp", c.from))
		p.send("INVITE", c.offer)
		leg := in.leg(t)
		leg.Answer()
		ok := p.await("SIP/2.0 200")
		require.Contains(t, ok, c.want, c.name)
		require.Equal(t, 1, strings.Count(ok, "\r\nc="), c.name)
		p.to = headerOf(ok, "To")
		answer := ""
		if c.offer == "" {
			answer = map[string]string{"127.0.0.1": talkerSDP, "::1": sixSDP}[c.from]
		}
		p.send("ACK", answer)
		await(t, leg, dialogs.LegAnswered)
		p.send("BYE", "")
		require.Equal(t, byFarEnd, end(t, leg).Details, c.name)
	}
	g.idle(t)
}

// TestFamilyThatIsNotConfigured: an offer of it is refused, and the answer says for what; a call that has its family goes on
// with it.
func TestFamilyThatIsNotConfigured(t *testing.T) {
	t.Parallel()
	const warning = "Warning: 300 "
	in := newCallers(nil)
	cfg := Config{Listen: []string{"udp://127.0.0.1:0", "udp://[::1]:0"}, Trunks: []Trunk{loopbacks()}}
	one := startAgent(t, cfg, in)
	stranger := newTalkerTo(t, one.on("udp", "::1"))
	stranger.send("INVITE", sixSDP)
	refused := stranger.answer()
	require.Contains(t, refused, "SIP/2.0 488 ")
	require.Contains(t, refused, warning)
	require.Contains(t, refused, "Incompatible network protocol: ")
	require.Contains(t, refused, "IPv6")
	open, resting := one.ports.InUse()
	require.Equal(t, [2]int{0, 0}, [2]int{open, resting}, "no port was spent")

	// What is refused for something else says so.
	stranger = newTalkerTo(t, one.on("udp", "127.0.0.1"))
	stranger.send("INVITE", strings.Replace(talkerSDP, "RTP/AVP 0", "RTP/AVP 18", 1))
	refused = stranger.answer()
	require.Contains(t, refused, "SIP/2.0 488 ")
	require.Contains(t, refused, "Warning: 399 ")

	g := dual(t, cfg, in)
	for _, c := range []struct{ from, offer, other string }{{"127.0.0.1", talkerSDP, sixSDP}, {"::1", sixSDP, talkerSDP}} {
		p := newTalkerTo(t, g.on("udp", c.from))
		p.send("INVITE", c.offer)
		leg := in.leg(t)
		leg.Answer()
		ok := p.await("SIP/2.0 200")
		p.to = headerOf(ok, "To")
		p.send("ACK", "")
		agreed := await(t, leg, dialogs.LegMedia)
		await(t, leg, dialogs.LegAnswered)
		for _, method := range []string{"INVITE", "UPDATE"} {
			p.send(method, c.other)
			refused := p.answer()
			require.Contains(t, refused, "SIP/2.0 488 ")
			require.Contains(t, refused, warning)
			if method == "INVITE" {
				p.send("ACK", "")
			}
		}
		p.send("UPDATE", strings.Replace(c.offer, "40002", "40010", 1))
		require.Contains(t, p.answer(), "SIP/2.0 200 ")
		moved := await(t, leg, dialogs.LegMedia)
		require.Equal(t, agreed.Media.Remote.Addr(), moved.Media.Remote.Addr())
		require.Same(t, agreed.Port, moved.Port)
		p.send("BYE", "")
		require.Equal(t, byFarEnd, end(t, leg).Details)
	}
	g.idle(t)
}

// TestOfferIsOfTheFamilyOfTheTrunk: an offer of ours has the family of the address that it goes to, at each address that a
// call tries; where media has only the other one, that.
func TestOfferIsOfTheFamilyOfTheTrunk(t *testing.T) {
	t.Parallel()
	first, second := newHandCarrierOn(t, "::1"), newHandCarrier(t)
	trunks := []Trunk{first.trunk(), second.trunk()}
	trunks[0].Name, trunks[0].Priority, trunks[0].PublicIP = "first", 1, "203.0.113.7" // of no use over IPv6
	trunks[1].Name, trunks[1].Priority = "second", 2
	cfg := Config{Listen: []string{"udp://127.0.0.1:0", "udp://[::1]:0"}, Trunks: trunks}
	g := dual(t, cfg, newCallers(nil))
	leg := dial(t, g)
	invite := first.invited()
	require.Contains(t, invite, "c=IN IP6 ::1\r\n")
	require.Contains(t, headerOf(invite, "Contact"), "@[::1]:")
	first.respond(invite, "503 Service Unavailable", "")
	first.await("ACK ")
	invite = second.invited()
	require.Contains(t, invite, "c=IN IP4 127.0.0.1\r\n")
	second.respond(invite, "200 OK", talkerSDP)
	second.await("ACK ")
	agreed := await(t, leg, dialogs.LegMedia)
	require.Equal(t, "127.0.0.1", agreed.Port.Local().Addr().String())
	await(t, leg, dialogs.LegAnswered)
	leg.Hangup(0)
	second.respond(second.await("BYE "), "200 OK", "")
	require.Equal(t, byThisEnd, end(t, leg).Details)
	g.idle(t)

	six := newHandCarrierOn(t, "::1")
	cfg.Trunks = []Trunk{six.trunk()}
	only := startAgent(t, cfg, newCallers(nil))
	leg = dial(t, only)
	invite = six.invited()
	require.Contains(t, invite, "c=IN IP4 127.0.0.1\r\n")
	six.respond(invite, "486 Busy Here", "")
	six.await("ACK ")
	require.Equal(t, dialogs.FarEndBusy, end(t, leg).Reason)
	only.idle(t)
}

// TestDelayedOfferChoosesTheFamily: where the far end makes the offer, it says in which family, as a caller does.
func TestDelayedOfferChoosesTheFamily(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ at, offer, want string }{
		{"::1", sixSDP, "c=IN IP6 ::1\r\n"},
		{"::1", talkerSDP, "c=IN IP4 127.0.0.1\r\n"},
		{"127.0.0.1", sixSDP, "c=IN IP6 ::1\r\n"},
	} {
		h := newHandCarrierOn(t, c.at)
		out := h.trunk()
		out.DelayedOffer = true
		g := dual(t, Config{Trunks: []Trunk{out}}, newCallers(nil))
		leg := dial(t, g)
		h.respond(h.invited(), "200 OK", c.offer)
		require.Contains(t, h.await("ACK "), c.want)
		agreed := await(t, leg, dialogs.LegMedia)
		require.Equal(t, agreed.Media.Remote.Addr(), agreed.Port.Local().Addr())
		await(t, leg, dialogs.LegAnswered)
		leg.Hangup(0)
		h.respond(h.await("BYE "), "200 OK", "")
		require.Equal(t, byThisEnd, end(t, leg).Details)
		g.idle(t)
	}
}
