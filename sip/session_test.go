package sip

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
	"tandem/media"
	"tandem/trunks"
)

// quickly lets session intervals be as short as a test needs them.
func quickly(cfg Config) Config {
	cfg.minSession = time.Second
	return cfg
}

// answered starts a scenario of a caller and answers it.
func answered(o over, cfg Config, scenario string, args ...string) (*gateway, *sipp, dialogs.Leg) {
	o.t.Helper()
	in := newCallers(nil)
	if cfg.Trunks == nil {
		cfg.Trunks = []Trunk{office}
	}
	g := o.start(cfg, in)
	phone := o.caller(g, scenario, args...)
	leg := in.leg(o.t)
	leg.Answer()
	return g, phone, leg
}

// placed starts a scenario of a phone and calls it until it answered.
func placed(o over, cfg Config, change func(*Trunk), scenario string, args ...string) (*gateway, *sipp, dialogs.Leg) {
	o.t.Helper()
	phone, g := o.callee(cfg, newCallers(nil), change, scenario, args...)
	leg := dial(o.t, g)
	await(o.t, leg, dialogs.LegAnswered)
	return g, phone, leg
}

// upWith runs a scenario of a phone that is called (uas_) or that calls (uac_), until the call is up.
func upWith(o over, cfg Config, scenario string, args ...string) (*gateway, *sipp, dialogs.Leg) {
	o.t.Helper()
	if strings.HasPrefix(scenario, "uas_") {
		return placed(o, cfg, nil, scenario, args...)
	}
	g, phone, leg := answered(o, cfg, scenario, args...)
	await(o.t, leg, dialogs.LegAnswered)
	return g, phone, leg
}

// wind hangs up and checks that both ends are done.
func wind(t *testing.T, g *gateway, phone *sipp, leg dialogs.Leg) {
	t.Helper()
	leg.Hangup(0)
	require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg))
	phone.passed()
	g.idle(t)
}

func TestCallerHoldsInEveryForm(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, o over) {
		g, phone, leg := answered(o, Config{}, "uac_hold_forms")
		var holds []bool
		for {
			e := next(t, leg)
			if e.Kind == dialogs.LegHold {
				require.False(t, e.Hold.ByUs)
				require.Zero(t, e.Cause)
				holds = append(holds, e.Hold.ByFarEnd)
			}
			if e.Kind == dialogs.LegEnded {
				require.Equal(t, dialogs.Cause{Details: byFarEnd}, e.Cause)
				break
			}
		}
		// inactive, then sendrecv by default; 0.0.0.0, sendrecv; sendonly and inactive of the session are one hold; the
		// stream's own sendrecv; inactive at 0.0.0.0; recvonly is no hold.
		require.Equal(t, []bool{true, false, true, false, true, false, true, false}, holds)
		phone.passed()
		g.idle(t)
	})
}

func TestCallerChangesTheSession(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, o over) {
		g, phone, leg := answered(o, Config{}, "uac_reoffer")
		var all []media.PortMedia
		for e := next(t, leg); e.Kind != dialogs.LegEnded; e = next(t, leg) {
			if e.Kind == dialogs.LegMedia {
				all = append(all, e.Media)
			}
		}
		require.Len(t, all, 6, "what was refused changed nothing")
		require.Equal(t, uint16(40002), all[1].Remote.Port())
		require.Equal(t, media.PCMA, all[2].Speech)
		require.Equal(t, 30*time.Millisecond, all[3].PacketTime)
		require.Equal(t, uint8(97), all[4].Audio())
		require.Equal(t, media.PCMU, all[5].Speech)
		require.Equal(t, uint16(40006), all[5].Remote.Port())
		phone.passed()
		g.idle(t)
	})
}

func TestCallerUpdatesTheSession(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, o over) {
		g, phone, leg := answered(o, Config{}, "uac_update")
		require.True(t, await(t, leg, dialogs.LegHold).Hold.ByFarEnd)
		require.False(t, await(t, leg, dialogs.LegHold).Hold.ByFarEnd)
		require.Equal(t, dialogs.Cause{Details: byFarEnd}, end(t, leg))
		phone.passed()
		g.idle(t)
	})
}

func TestUpdateChangesTheCodec(t *testing.T) {
	t.Parallel()
	for _, scenario := range []string{"uas_update_codec", "uac_update_codec"} {
		t.Run(scenario, func(t *testing.T) {
			t.Parallel()
			eachTransport(t, func(t *testing.T, o over) {
				g, phone, leg := upWith(o, Config{}, scenario)
				var all []media.PortMedia
				for e := next(t, leg); e.Kind != dialogs.LegEnded; e = next(t, leg) {
					if e.Kind == dialogs.LegMedia {
						all = append(all, e.Media)
					}
				}
				require.Len(t, all, 3, "what was refused changed nothing")
				require.Equal(t, media.PCMA, all[0].Speech)
				require.Equal(t, 30*time.Millisecond, all[1].PacketTime)
				require.Equal(t, media.PCMU, all[2].Speech)
				require.Equal(t, uint8(97), all[2].Audio())
				require.Equal(t, uint16(40530), all[2].Remote.Port())
				phone.passed()
				g.idle(t)
			})
		})
	}
}

// TestAddressAndKeysChange moves a phone to another address with other keys, by UPDATE and by re-INVITE; what it wants in
// clear is refused, and changes nothing.
func TestAddressAndKeysChange(t *testing.T) {
	t.Parallel()
	secure := office
	secure.SRTP = trunks.SRTPRequired
	const suite = "AES_CM_128_HMAC_SHA1_80"
	sdp := func(version int, host, key string) string {
		return fmt.Sprintf("v=0\r\no=- 1 %d IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 %s\r\nt=0 0\r\nm=audio 40002 RTP/SAVP 0\r\na=crypto:1 %s inline:%s\r\n",
			version, host, suite, key)
	}
	for _, method := range []string{"UPDATE", "INVITE"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			in := newCallers(nil)
			g := startAgent(t, Config{Trunks: []Trunk{secure}}, in)
			first, second := keyFor(t, suite), keyFor(t, suite)
			p := newTalker(t, g)
			p.send("INVITE", sdp(1, "127.0.0.1", first))
			leg := in.leg(t)
			leg.Answer()
			ok := p.await("SIP/2.0 200")
			p.to = headerOf(ok, "To")
			p.send("ACK", "")
			agreed := await(t, leg, dialogs.LegMedia).Media
			require.Equal(t, first, base64.StdEncoding.EncodeToString(agreed.Inbound.Key))

			p.send(method, sdp(2, "127.0.0.2", second))
			ok = p.await("SIP/2.0 200")
			if method == "INVITE" {
				p.send("ACK", "")
			}
			agreed = await(t, leg, dialogs.LegMedia).Media
			require.Equal(t, "127.0.0.2:40002", agreed.Remote.String())
			require.Equal(t, second, base64.StdEncoding.EncodeToString(agreed.Inbound.Key))
			require.Contains(t, ok, "inline:"+base64.StdEncoding.EncodeToString(agreed.Outbound.Key))

			p.send(method, strings.Replace(talkerSDP, "o=- 1 1", "o=- 1 3", 1))
			p.await("SIP/2.0 488")
			if method == "INVITE" {
				p.send("ACK", "")
			}
			p.bye(leg)
			g.idle(t)
		})
	}
}

func TestHoldByUs(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, o over) {
		g, phone, leg := placed(o, Config{}, nil, "uas_held")
		leg.Hold(true)
		require.Equal(t, dialogs.LegEvent{Kind: dialogs.LegHold, Hold: dialogs.Hold{ByUs: true}}, await(t, leg, dialogs.LegHold))
		leg.Hold(true) // it is so already
		require.Equal(t, dialogs.Hold{ByUs: true}, await(t, leg, dialogs.LegHold).Hold)
		leg.Hold(false)
		refused := await(t, leg, dialogs.LegHold)
		require.Equal(t, dialogs.Hold{ByUs: true}, refused.Hold, "what was refused changed nothing")
		require.Equal(t, dialogs.Cause{Details: "488 Not Acceptable Here", SIPCode: 488}, refused.Cause)
		leg.Hold(false)
		require.Equal(t, dialogs.LegEvent{Kind: dialogs.LegHold}, await(t, leg, dialogs.LegHold))
		wind(t, g, phone, leg)
	})
}

func TestHoldByBoth(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, o over) {
		g, phone, leg := placed(o, Config{}, nil, "uas_both_hold")
		require.Equal(t, dialogs.Hold{ByFarEnd: true}, await(t, leg, dialogs.LegHold).Hold)
		leg.Hold(true)
		both := await(t, leg, dialogs.LegMedia)
		require.False(t, both.Media.Send)
		require.False(t, both.Media.Receive)
		require.Equal(t, dialogs.Hold{ByUs: true, ByFarEnd: true}, await(t, leg, dialogs.LegHold).Hold)
		require.Equal(t, dialogs.Hold{ByUs: true}, await(t, leg, dialogs.LegHold).Hold)
		leg.Hold(false)
		free := await(t, leg, dialogs.LegMedia)
		require.True(t, free.Media.Send && free.Media.Receive)
		require.Equal(t, dialogs.Hold{}, await(t, leg, dialogs.LegHold).Hold)
		wind(t, g, phone, leg)
	})
}

func TestHoldAnswersAChallenge(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, o over) {
		g, phone, leg := placed(o, Config{}, func(t *Trunk) { t.Username, t.Password, t.Realm = "gw", "secret", "carrier" }, "uas_hold_challenged")
		leg.Hold(true)
		require.Equal(t, dialogs.LegEvent{Kind: dialogs.LegHold, Hold: dialogs.Hold{ByUs: true}}, await(t, leg, dialogs.LegHold))
		wind(t, g, phone, leg)
	})
}

// TestFarEndGetsNoCredentials: the trunk's challenge to the INVITE is answered, those of somebody behind it are not.
func TestFarEndGetsNoCredentials(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, o over) {
		g, phone, leg := placed(o, Config{}, func(t *Trunk) { t.Username, t.Password = "gw", "secret" }, "uas_leak")
		leg.Hold(true)
		require.Equal(t, 401, await(t, leg, dialogs.LegHold).Cause.SIPCode)
		leg.Refer(dialogs.Refer{To: "+15550105"})
		refused, _ := outcome(t, leg)
		require.Equal(t, 401, refused.SIPCode)
		wind(t, g, phone, leg)
		require.Equal(t, 2, strings.Count(once(phone.messages()), "uthorization: Digest"), "in the INVITE and its ACK alone: %s", phone.messages())
	})
}

func TestHoldOfACallThatIsGone(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, o over) {
		g, phone, leg := placed(o, Config{}, nil, "uas_hold_gone")
		leg.Hold(true)
		require.NotZero(t, await(t, leg, dialogs.LegHold).Cause)
		cause := end(t, leg)
		require.Equal(t, dialogs.Error, cause.Reason)
		require.Contains(t, cause.Details, "481")
		phone.passed()
		g.idle(t)
	})
}

func TestRepeatedAnswerToAHoldIsAcknowledgedAgain(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, o over) {
		g, phone, leg := placed(o, Config{}, nil, "uas_hold_repeat", "-nr")
		leg.Hold(true)
		require.True(t, await(t, leg, dialogs.LegHold).Hold.ByUs)
		require.Eventually(t, func() bool { return strings.Count(phone.messages(), "CSeq: 2 ACK\r\n") >= 2 }, patience, 5*time.Millisecond)
		wind(t, g, phone, leg)
	})
}

func TestSessionTimerOfAPhone(t *testing.T) {
	t.Parallel()
	for _, scenario := range []string{"uas_timer_update", "uas_timer_reinvite"} {
		t.Run(scenario, func(t *testing.T) {
			t.Parallel()
			eachTransport(t, func(t *testing.T, o over) {
				g, phone, leg := placed(o, quickly(Config{}), nil, scenario)
				require.Eventually(t, func() bool {
					m := once(phone.messages())
					return strings.Count(m, "refresher=uac\r\n") >= 5 && strings.Count(m, "\nACK ") == strings.Count(m, "\nINVITE ")
				}, patience, 5*time.Millisecond)
				wind(t, g, phone, leg)
				if scenario == "uas_timer_reinvite" { // the initial offer said another law first: only the refreshes are equal
					versions := versionsOf(once(phone.messages()))
					require.Len(t, versions, 3)
					require.Equal(t, versions[1], versions[2], "a refresh is no change")
				}
			})
		})
	}
}

// versionsOf lists the o= lines of our descriptions in a run's log.
func versionsOf(messages string) []string {
	var all []string
	for line := range strings.Lines(messages) {
		if strings.HasPrefix(line, "o=tandem ") {
			all = append(all, strings.TrimSpace(line))
		}
	}
	return all
}

func TestSessionTimerTooShortForThePhone(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, o over) {
		g, phone, leg := placed(o, Config{}, nil, "uas_timer_422")
		wind(t, g, phone, leg)
	})
}

func TestSessionTimerHangsUpADeadPhone(t *testing.T) {
	t.Parallel()
	for scenario, want := range map[string]string{
		"uas_timer_dead": "the far end did not refresh the session in time",
		"uas_timer_deaf": "the session could not be refreshed",
	} {
		t.Run(scenario, func(t *testing.T) {
			t.Parallel()
			eachTransport(t, func(t *testing.T, o over) {
				g, phone, leg := placed(o, quickly(Config{}), nil, scenario)
				require.Equal(t, dialogs.Cause{Reason: dialogs.Error, Details: want}, end(t, leg))
				phone.passed()
				g.idle(t)
			})
		})
	}
}

func TestSessionTimerOfACaller(t *testing.T) {
	t.Parallel()
	for _, scenario := range []string{"uac_timer", "uac_timer_gateway"} {
		t.Run(scenario, func(t *testing.T) {
			t.Parallel()
			eachTransport(t, func(t *testing.T, o over) {
				g, phone, leg := answered(o, quickly(Config{}), scenario)
				require.Equal(t, dialogs.Cause{Details: byFarEnd}, end(t, leg))
				phone.passed()
				g.idle(t)
			})
		})
	}
}

func TestSessionTimerTooShort(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, o over) {
		in := newCallers(nil)
		g := o.agent(in, office)
		o.caller(g, "uac_timer_short").passed()
		require.Empty(t, in.calls())
		g.idle(t)
	})
}

func TestKeysOfACallerByInfo(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, o over) {
		g, phone, leg := answered(o, Config{}, "uac_info")
		require.Equal(t, media.Key{Digit: '5', Ended: true, Duration: 160 * time.Millisecond, Method: media.Info}, await(t, leg, dialogs.LegKey).Key)
		require.Equal(t, media.Key{Digit: '#', Ended: true, Duration: usualKey, Method: media.Info}, await(t, leg, dialogs.LegKey).Key)
		require.Equal(t, dialogs.Cause{Details: byFarEnd}, end(t, leg))
		phone.passed()
		g.idle(t)
	})
}

func TestKeysByInfo(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, o over) {
		g, phone, leg := placed(o, Config{}, func(t *Trunk) { t.DTMF = "info" }, "uas_info")
		leg.SendKey('1', 100*time.Millisecond)
		leg.SendKey('x', time.Second) // is none
		leg.SendKey('#', 250*time.Millisecond)
		require.Eventually(t, func() bool { return strings.Count(once(phone.messages()), "\nSIP/2.0 200 OK") == 3 }, patience, 5*time.Millisecond)
		wind(t, g, phone, leg)
	})
}
