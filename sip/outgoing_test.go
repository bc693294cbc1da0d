package sip

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/icholy/digest"
	"github.com/stretchr/testify/require"

	"tandem/dialogs"
	"tandem/errs"
	"tandem/media"
)

// carrier is a trunk towards a run of SIPp.
func carrier(s *sipp, transport string) Trunk {
	return Trunk{Name: "carrier", Account: "1", URI: "sip:" + s.addr + ";transport=" + transport}
}

func dial(t *testing.T, g *gateway) dialogs.Leg {
	t.Helper()
	leg, err := g.Dial(context.Background(), dialogs.Dial{Dialog: "d", Account: "1", To: "+15550100", From: "+15550199"})
	require.NoError(t, err)
	require.Equal(t, dialogs.LegCalling, next(t, leg).Kind)
	return leg
}

func TestOutgoingCallIsAnsweredAndHungUp(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			phone := startSIPp(t, "uas_answer", transport)
			if transport == "tcp" {
				awaitTCP(t, phone.addr)
			}
			g := startAgent(t, Config{Trunks: []Trunk{carrier(phone, transport)}}, newCallers(nil))
			leg := dial(t, g)
			ringing := next(t, leg)
			require.Equal(t, dialogs.LegRinging, ringing.Kind)
			require.Equal(t, dialogs.Cause{Reason: dialogs.RingingReason, Details: "180 Ringing", SIPCode: 180}, ringing.Cause)
			agreed := next(t, leg)
			require.Equal(t, dialogs.LegMedia, agreed.Kind)
			require.Equal(t, media.PCMA, agreed.Media.Speech)
			require.Equal(t, 101, agreed.Media.EventType)
			require.True(t, agreed.Media.Send && agreed.Media.Receive)
			require.NotNil(t, agreed.Port)
			require.Equal(t, dialogs.LegAnswered, next(t, leg).Kind)
			leg.Hangup(0)
			require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg))
			phone.passed()
			g.idle(t)
		})
	}
}

// awaitTCP waits until somebody listens at addr.
func awaitTCP(t *testing.T, addr string) {
	t.Helper()
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, patience, 10*time.Millisecond)
}

func TestOutgoingCallIsRefused(t *testing.T) {
	t.Parallel()
	cases := []struct {
		scenario string
		want     dialogs.Cause
	}{
		{"uas_busy", dialogs.Cause{Reason: dialogs.FarEndBusy, Details: "486 Busy Here", SIPCode: 486}},
		{"uas_declined", dialogs.Cause{Reason: dialogs.FarEndDeclined, Details: "603 Decline", SIPCode: 603}},
		{"uas_forbidden", dialogs.Cause{Reason: dialogs.FarEndDeclined, Details: "403 Forbidden", SIPCode: 403}},
		{"uas_not_found", dialogs.Cause{Reason: dialogs.FarEndNotFound, Details: "404 Not Found", SIPCode: 404}},
		{"uas_unavailable", dialogs.Cause{Reason: dialogs.Error, Details: "480 Temporarily Unavailable", SIPCode: 480}},
		{"uas_own_words", dialogs.Cause{Reason: dialogs.Error, Details: "480 Gone Fishing", SIPCode: 480}},
		{"uas_overload", dialogs.Cause{Reason: dialogs.Error, Details: "503 Service Unavailable", SIPCode: 503}},
		{"uas_unauthorized", dialogs.Cause{Reason: dialogs.Error, Details: "401 Unauthorized", SIPCode: 401}},
	}
	for _, c := range cases {
		t.Run(c.scenario, func(t *testing.T) {
			t.Parallel()
			overAll(t, func(t *testing.T, transport string) {
				g, phone, leg := callOut(t, c.scenario, transport, nil)
				require.Equal(t, c.want, end(t, leg))
				phone.passed()
				g.idle(t)
			})
		})
	}
}

func TestOutgoingCallIsCancelled(t *testing.T) {
	t.Parallel()
	cases := []struct {
		scenario string
		ringing  bool // hang up when it rings, else at once
	}{
		{"uas_cancel", true},
		{"uas_cross", true},
		{"uas_slow_cancel", false},
	}
	for _, c := range cases {
		t.Run(c.scenario, func(t *testing.T) {
			t.Parallel()
			overAll(t, func(t *testing.T, transport string) {
				g, phone, leg := callOut(t, c.scenario, transport, nil)
				if c.ringing {
					await(t, leg, dialogs.LegRinging)
				}
				leg.Hangup(0)
				leg.Hangup(486)
				require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg))
				phone.passed()
				g.idle(t)
			})
		})
	}
}

func TestOutgoingCallIsHungUpThere(t *testing.T) {
	t.Parallel()
	overAll(t, func(t *testing.T, transport string) {
		g, phone, leg := callOut(t, "uas_bye", transport, nil)
		await(t, leg, dialogs.LegAnswered)
		require.Equal(t, dialogs.Cause{Details: byFarEnd}, end(t, leg))
		phone.passed()
		g.idle(t)
	})
}

func TestChallengeIsAnswered(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, scenario, password string
		answered                 bool
	}{
		{"407", "uas_challenge_407", "secret", true},
		{"401", "uas_challenge_401", "secret", true},
		{"wrong password", "uas_challenge_401", "guess", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			overAll(t, func(t *testing.T, transport string) {
				knows := func(t *Trunk) { t.Username, t.Password = "user", Secret(c.password) }
				g, phone, leg := callOut(t, c.scenario, transport, knows, "-key", "username", "user", "-key", "password", "secret")
				if c.answered {
					await(t, leg, dialogs.LegAnswered)
					leg.Hangup(0)
					require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg))
				} else {
					require.Equal(t, dialogs.Cause{Reason: dialogs.FarEndDeclined, Details: "403 Wrong Password", SIPCode: 403}, end(t, leg))
				}
				phone.passed()
				g.idle(t)
			})
		})
	}
}

// TestBestChallengeIsAnswered computes what a carrier that asks for SHA-256 wants to see (RFC 7616 §3.4).
func TestBestChallengeIsAnswered(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, o over) {
		g, phone, leg := placed(o, Config{}, knowsPassword, "uas_challenge_sha256")
		wind(t, g, phone, leg)
		given, err := digest.ParseCredentials(headerOf(phone.messages(), "Authorization"))
		require.NoError(t, err)
		sum := func(parts ...string) string {
			raw := sha256.Sum256([]byte(strings.Join(parts, ":")))
			return hex.EncodeToString(raw[:])
		}
		want := sum(sum("user", "carrier", "secret"), "sha256nonce", "00000001", given.Cnonce, "auth", sum("INVITE", given.URI))
		require.Equal(t, want, given.Response)
	})
}

func TestStaleNonceIsAnsweredAgain(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, o over) {
		g, phone, leg := placed(o, Config{}, knowsPassword, "uas_challenge_stale")
		wind(t, g, phone, leg)
	})
}

func knowsPassword(t *Trunk) { t.Username, t.Password, t.Realm = "user", "secret", "carrier" }

func TestFarEndHoldsAndResumes(t *testing.T) {
	t.Parallel()
	overAll(t, func(t *testing.T, transport string) {
		g, phone, leg := callOut(t, "uas_hold", transport, nil)
		first := await(t, leg, dialogs.LegMedia)
		await(t, leg, dialogs.LegAnswered)
		held := await(t, leg, dialogs.LegMedia)
		require.Same(t, first.Port, held.Port)
		require.False(t, held.Media.Send)
		require.True(t, held.Media.Receive)
		resumed := await(t, leg, dialogs.LegMedia)
		require.True(t, resumed.Media.Send && resumed.Media.Receive)
		require.Equal(t, dialogs.Cause{Details: byFarEnd}, end(t, leg))
		phone.passed()
		g.idle(t)
	})
}

func TestEarlyMediaIsHeardBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	overAll(t, func(t *testing.T, transport string) {
		_, phone, leg := callOut(t, "uas_early_media", transport, nil)
		require.Equal(t, dialogs.LegMedia, next(t, leg).Kind)
		require.Equal(t, dialogs.LegRinging, next(t, leg).Kind)
		require.Equal(t, dialogs.LegAnswered, next(t, leg).Kind)
		leg.Hangup(0)
		end(t, leg)
		phone.passed()
	})
}

func TestRepeatedAnswerIsAcknowledgedAgain(t *testing.T) {
	t.Parallel()
	overAll(t, func(t *testing.T, transport string) {
		_, phone, leg := callOut(t, "uas_repeat", transport, nil, "-nr")
		await(t, leg, dialogs.LegAnswered)
		require.Eventually(t, func() bool { return strings.Count(phone.messages(), "\nACK sip:") >= 2 }, patience, 10*time.Millisecond)
		leg.Hangup(0)
		end(t, leg)
		phone.passed()
	})
}

func TestSecondTrunkTakesOver(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, o over) {
		full, first := o.trunk("uas_overload")
		phone, second := o.trunk("uas_answer")
		dead := Trunk{Name: "dead", Account: "1", URI: "sip:127.0.0.1:" + freePort(t) + ";transport=tcp", Prefixes: []string{"+1555"}}
		first.Name, second.Priority = "full", 2
		g := o.agent(newCallers(nil), second, first, dead)
		leg := dial(t, g)
		await(t, leg, dialogs.LegAnswered)
		leg.Hangup(0)
		end(t, leg)
		full.passed()
		phone.passed()
		g.idle(t)
	})
}

func TestSilentTrunkTimesOut(t *testing.T) {
	t.Parallel()
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = silent.Close() }()
	g := startAgent(t, Config{Trunks: []Trunk{{Name: "silent", Account: "1", URI: "sip:" + silent.LocalAddr().String()}}}, newCallers(nil))
	leg := dial(t, g)
	require.Equal(t, dialogs.Cause{Reason: dialogs.Error, Details: "trunk silent: no answer"}, end(t, leg))
	g.idle(t)
}

func TestDialRefuses(t *testing.T) {
	t.Parallel()
	g := startAgent(t, Config{Trunks: []Trunk{{Name: "eu", Account: "1", URI: "sip:127.0.0.1:9", Prefixes: []string{"+49"}}}}, newCallers(nil))
	good := dialogs.Dial{Account: "1", To: "+4930123", From: "+15550199"}
	for _, c := range []struct {
		name string
		edit func(*dialogs.Dial)
		code errs.Code
	}{
		{"no number", func(d *dialogs.Dial) { d.To = "0301234" }, errs.Invalid},
		{"no trunk for it", func(d *dialogs.Dial) { d.To = "+1555" }, errs.Unavailable},
		{"another account's trunk", func(d *dialogs.Dial) { d.Account = "2" }, errs.Unavailable},
		{"a caller that is none", func(d *dialogs.Dial) { d.From = "me" }, errs.Invalid},
		{"a header smuggled in", func(d *dialogs.Dial) { d.UserToUser = "a\r\nX: y" }, errs.Invalid},
		{"a header smuggled in by to", func(d *dialogs.Dial) { d.To = "sip:a@127.0.0.1:9\r\nX: y" }, errs.Invalid},
		{"sips", func(d *dialogs.Dial) { d.To = "sips:a@b" }, errs.Invalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := good
			c.edit(&d)
			leg, err := g.Dial(context.Background(), d)
			require.Nil(t, leg)
			require.Equal(t, c.code, errs.CodeOf(err), "%v", err)
		})
	}
	g.stop()
	_, err := g.Dial(context.Background(), good)
	require.Equal(t, errs.Unavailable, errs.CodeOf(err))
	g.idle(t)
}

func TestStoppingHangsUp(t *testing.T) {
	t.Parallel()
	phone := startSIPp(t, "uas_answer", "udp")
	g := startAgent(t, Config{Trunks: []Trunk{carrier(phone, "udp")}}, newCallers(nil))
	leg := dial(t, g)
	await(t, leg, dialogs.LegAnswered)
	g.stop()
	require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg))
	phone.passed()
	g.idle(t)
}

func TestByeWithoutAnswerEndsTheLeg(t *testing.T) {
	t.Parallel()
	overAll(t, func(t *testing.T, transport string) {
		g, phone, leg := callOut(t, "uas_deaf", transport, nil)
		await(t, leg, dialogs.LegAnswered)
		phone.passed() // it is gone
		leg.Hangup(0)
		require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg))
		g.idle(t)
	})
}

func TestRouteSetIsFollowed(t *testing.T) {
	t.Parallel()
	overEach(t, plain, func(t *testing.T, transport string) {
		_, phone, leg := callOut(t, "uas_route", transport, nil)
		await(t, leg, dialogs.LegAnswered)
		leg.Hangup(0)
		end(t, leg)
		phone.passed()
	})
}

func TestOtherForksAreHungUp(t *testing.T) {
	t.Parallel()
	overAll(t, func(t *testing.T, transport string) {
		g, phone, leg := callOut(t, "uas_fork", transport, nil)
		await(t, leg, dialogs.LegAnswered)
		require.Eventually(t, func() bool { return strings.Contains(phone.messages(), "\nBYE sip:") }, patience, 10*time.Millisecond)
		leg.Hangup(0)
		require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg))
		phone.passed()
		g.idle(t)
	})
}

// TestForkAnswersWhenTheOtherIsGone: of two phones the first hangs up at once, and then the second answers. It is hung up,
// for nobody is there any more.
func TestForkAnswersWhenTheOtherIsGone(t *testing.T) {
	t.Parallel()
	p, g := called(t, nil)
	leg := dial(t, g)
	invite := p.await("INVITE ")
	first := p.response(invite, "200 OK", talkerSDP)
	p.write(first)
	p.await("ACK ")
	await(t, leg, dialogs.LegAnswered)
	leg.Hangup(0)
	p.respond(p.await("BYE "), "200 OK", "")
	require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg))
	<-leg.(*call).done

	second := strings.ReplaceAll(first, ";tag=far", ";tag=other")
	p.write(second)
	require.Contains(t, headerOf(p.await("ACK "), "To"), "tag=other")
	bye := p.await("BYE ")
	require.Contains(t, headerOf(bye, "To"), "tag=other")
	p.respond(bye, "200 OK", "")
	g.idle(t)
}

func TestListenerOnEveryAddress(t *testing.T) {
	t.Parallel()
	for _, uri := range []string{"udp://0.0.0.0:0", "udp://[::]:0"} {
		t.Run(uri, func(t *testing.T) {
			t.Parallel()
			phone := startSIPp(t, "uas_bye", "udp") // its BYE finds us by our Contact
			g := startAgent(t, Config{Listen: []string{uri}, Trunks: []Trunk{carrier(phone, "udp")}}, newCallers(nil))
			leg := dial(t, g)
			await(t, leg, dialogs.LegAnswered)
			require.Equal(t, dialogs.Cause{Details: byFarEnd}, end(t, leg))
			phone.passed()
		})
	}
}
