package sip

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
	"tandem/media"
)

// overAll runs a test over UDP, TCP and TLS.
func overAll(t *testing.T, test func(t *testing.T, transport string)) {
	t.Helper()
	overEach(t, []string{"udp", "tcp", "tls"}, test)
}

// plain are the transports that the proxies of a route set speak: SIPp names itself in it, which has no TLS.
var plain = []string{"udp", "tcp"}

func overEach(t *testing.T, transports []string, test func(t *testing.T, transport string)) {
	t.Helper()
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			test(t, transport)
		})
	}
}

// callOut starts a scenario of a phone, and a call to it.
func callOut(t *testing.T, scenario, transport string, edit func(*Trunk), args ...string) (*gateway, *sipp, dialogs.Leg) {
	t.Helper()
	phone, g := newOver(t, transport).callee(Config{}, newCallers(nil), edit, scenario, args...)
	return g, phone, dial(t, g)
}

func delayed(t *Trunk) { t.DelayedOffer = true }

// TestOutgoingCallBeforeTheAnswer has phones do all that they may do before they answer.
func TestOutgoingCallBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	const rings, hears, answers = dialogs.LegRinging, dialogs.LegMedia, dialogs.LegAnswered
	password := []string{"-key", "username", "user", "-key", "password", "secret"}
	for _, c := range []struct {
		scenario string
		trunk    func(*Trunk)
		args     []string
		want     []dialogs.LegEventKind
		law      media.Speech // of the last LegMedia
		port     uint16       // likewise; 0: any
	}{
		{"uas_prack", nil, nil, []dialogs.LegEventKind{hears, rings, answers}, media.PCMA, 0},
		{"uas_prack_gap", nil, nil, []dialogs.LegEventKind{rings, hears, answers}, media.PCMA, 0},
		{
			"uas_prack_challenge", func(t *Trunk) { t.Username, t.Password, t.Realm = "user", "secret", "carrier" }, password,
			[]dialogs.LegEventKind{hears, rings, answers},
			media.PCMA, 0,
		},
		{"uas_prack_offer", delayed, nil, []dialogs.LegEventKind{hears, rings, answers}, media.PCMU, 0},
		{"uas_late_offer", delayed, []string{"-nr"}, []dialogs.LegEventKind{rings, hears, answers}, media.PCMA, 0},
		{"uas_update_early", nil, nil, []dialogs.LegEventKind{hears, rings, hears, answers}, media.PCMA, 40100},
		{"uas_180_183", nil, nil, []dialogs.LegEventKind{rings, hears, answers}, media.PCMA, 0},
		{"uas_183_180", nil, nil, []dialogs.LegEventKind{hears, rings, answers}, media.PCMA, 0},
		{"uas_fork_early", nil, nil, []dialogs.LegEventKind{hears, rings, hears, hears, answers}, media.PCMA, 40200},
		{"uas_fork_199", nil, nil, []dialogs.LegEventKind{hears, rings, hears, hears, answers}, media.PCMA, 40200},
		{"uas_fork_bye", nil, nil, []dialogs.LegEventKind{hears, rings, hears, hears, answers}, media.PCMA, 40200},
		{"uas_stray", nil, nil, []dialogs.LegEventKind{rings, hears, answers}, media.PCMA, 0},
		{"uas_lost_200", nil, []string{"-nr"}, []dialogs.LegEventKind{rings, hears, answers}, media.PCMA, 0},
		{"uas_loose", nil, nil, []dialogs.LegEventKind{hears, rings, answers}, media.PCMA, 0},
		{"uas_strict_first", nil, nil, []dialogs.LegEventKind{hears, rings, answers}, media.PCMA, 0},
		{"uas_strict_last", nil, nil, []dialogs.LegEventKind{hears, rings, answers}, media.PCMA, 0},
		{"uas_route_changes", nil, nil, []dialogs.LegEventKind{rings, hears, answers}, media.PCMA, 0},
	} {
		t.Run(c.scenario, func(t *testing.T) {
			t.Parallel()
			transports := []string{"udp", "tcp", "tls"}
			if slices.Contains([]string{"uas_loose", "uas_strict_first", "uas_strict_last", "uas_route_changes"}, c.scenario) {
				transports = plain
			}
			overEach(t, transports, func(t *testing.T, transport string) {
				g, phone, leg := callOut(t, c.scenario, transport, c.trunk, c.args...)
				var got []dialogs.LegEventKind
				var agreed media.PortMedia
				for len(got) == 0 || got[len(got)-1] != answers {
					e := next(t, leg)
					require.NotEqual(t, dialogs.LegEnded, e.Kind, "%+v", e.Cause)
					if e.Kind == hears {
						agreed = e.Media
					}
					got = append(got, e.Kind)
				}
				require.Equal(t, c.want, got)
				require.Equal(t, c.law, agreed.Speech)
				if c.port != 0 {
					require.Equal(t, c.port, agreed.Remote.Port())
				}
				if c.scenario == "uas_lost_200" || c.scenario == "uas_late_offer" { // not before the second ACK
					phone.sees(2, "\nACK sip:")
				}
				leg.Hangup(0)
				require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg))
				phone.passed()
				g.idle(t)
			})
		})
	}
}

// TestOutgoingCallComesToNothing has calls end before they are answered, or as they are.
func TestOutgoingCallComesToNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		scenario string
		trunk    func(*Trunk)
		hangUp   bool // when it rings
		want     dialogs.Cause
	}{
		{"uas_moved", nil, false, dialogs.Cause{Reason: dialogs.Error, Details: "302 Moved Temporarily: sip:+15550178@elsewhere.invalid", SIPCode: 302}},
		{"uas_bye_first", nil, false, dialogs.Cause{Details: byFarEnd}},
		{"uas_late_nothing", delayed, false, dialogs.Cause{Reason: dialogs.Error, Details: "no SDP in the answer"}},
		{"uas_cancel_deaf", nil, true, dialogs.Cause{Details: byThisEnd}},
		{"uas_cancel_ignored", nil, true, dialogs.Cause{Details: byThisEnd}},
	} {
		t.Run(c.scenario, func(t *testing.T) {
			t.Parallel()
			overAll(t, func(t *testing.T, transport string) {
				g, phone, leg := callOut(t, c.scenario, transport, c.trunk)
				if c.hangUp {
					await(t, leg, dialogs.LegRinging)
					leg.Hangup(0)
				}
				require.Equal(t, c.want, end(t, leg))
				phone.passed()
				g.idle(t)
			})
		})
	}
}

// TestIncomingCallBeforeTheAnswer has callers do all that they may do before they are answered.
func TestIncomingCallBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	const hears, answers, ends = dialogs.LegMedia, dialogs.LegAnswered, dialogs.LegEnded
	early := func(_ *testing.T, _ *sipp, leg dialogs.Leg) { leg.Progress(true) }
	earlyThenAnswer := func(_ *testing.T, phone *sipp, leg dialogs.Leg) {
		leg.Progress(true)
		phone.sees(1, "SIP/2.0 183 ")
		leg.Answer() // waits for the PRACK
	}
	for _, c := range []struct {
		scenario string
		act      func(*testing.T, *sipp, dialogs.Leg)
		want     []dialogs.LegEventKind
		law      media.Speech
		port     uint16
		cause    dialogs.Cause
	}{
		{
			"uac_prack", earlyThenAnswer, []dialogs.LegEventKind{hears, answers, ends}, media.PCMU, 0, dialogs.Cause{Details: byFarEnd},
		},
		{
			"uac_prack_demanded", func(t *testing.T, _ *sipp, leg dialogs.Leg) {
				leg.Progress(true)
				await(t, leg, hears)
				leg.Answer()
			}, []dialogs.LegEventKind{answers, ends}, media.PCMU, 0, dialogs.Cause{Details: byFarEnd},
		},
		{
			"uac_prack_never", earlyThenAnswer,
			[]dialogs.LegEventKind{hears, ends},
			media.PCMU, 0,
			dialogs.Cause{Reason: dialogs.Error, Details: "no PRACK came"},
		},
		{
			"uac_prack_offer", func(t *testing.T, _ *sipp, leg dialogs.Leg) {
				leg.Progress(true)
				require.Equal(t, media.PCMA, await(t, leg, hears).Media.Speech)
				leg.Answer()
			}, []dialogs.LegEventKind{answers, ends}, media.PCMU, 0, dialogs.Cause{Details: byFarEnd},
		},
		{
			"uac_prack_demanded_offer", func(_ *testing.T, _ *sipp, leg dialogs.Leg) { leg.Answer() },
			[]dialogs.LegEventKind{hears, answers, ends},
			media.PCMA, 0,
			dialogs.Cause{Details: byFarEnd},
		},
		{
			"uac_prack_no_answer", early,
			[]dialogs.LegEventKind{ends},
			media.PCMU, 0,
			dialogs.Cause{Reason: dialogs.Error, Details: "no usable SDP in the PRACK: no stream in it that can be taken"},
		},
		{
			"uac_prack_reoffer", earlyThenAnswer,
			[]dialogs.LegEventKind{hears, hears, answers, ends},
			media.PCMA, 40400,
			dialogs.Cause{Details: byFarEnd},
		},
		{
			"uac_update_early", func(t *testing.T, phone *sipp, leg dialogs.Leg) {
				phone.sees(1, "SIP/2.0 500 ")
				leg.Progress(true)
				require.NotEqual(t, uint16(40400), await(t, leg, hears).Media.Remote.Port())
				require.Equal(t, uint16(40400), await(t, leg, hears).Media.Remote.Port())
				leg.Answer()
			}, []dialogs.LegEventKind{answers, ends}, media.PCMU, 0, dialogs.Cause{Details: byFarEnd},
		},
		{
			"uac_early_media", func(t *testing.T, phone *sipp, leg dialogs.Leg) {
				phone.sees(1, "SIP/2.0 180 ")
				leg.Progress(true)
				phone.sees(1, "SIP/2.0 183 ")
				leg.Progress(false)
				phone.sees(2, "SIP/2.0 180 ")
				leg.Answer()
			}, []dialogs.LegEventKind{hears, answers, ends}, media.PCMU, 0, dialogs.Cause{Details: byFarEnd},
		},
		{
			"uac_cancel_late", func(_ *testing.T, _ *sipp, leg dialogs.Leg) { leg.Answer() },
			[]dialogs.LegEventKind{hears, answers, ends},
			media.PCMU, 0,
			dialogs.Cause{Details: byFarEnd},
		},
		{"uac_bye_early", func(*testing.T, *sipp, dialogs.Leg) {}, []dialogs.LegEventKind{ends}, media.PCMU, 0, dialogs.Cause{Details: byFarEnd}},
		{
			"uac_reinvite_early", func(_ *testing.T, phone *sipp, leg dialogs.Leg) {
				phone.sees(1, "SIP/2.0 500 ")
				leg.Answer()
			}, []dialogs.LegEventKind{hears, answers, ends}, media.PCMU, 0, dialogs.Cause{Details: byFarEnd},
		},
	} {
		t.Run(c.scenario, func(t *testing.T) {
			t.Parallel()
			overAll(t, func(t *testing.T, transport string) {
				in := newCallers(nil)
				g := newOver(t, transport).agent(in, office)
				phone := callIn(t, g, c.scenario, transport, "-nr")
				leg := in.leg(t)
				c.act(t, phone, leg)
				var got []dialogs.LegEventKind
				var last dialogs.LegEvent
				var agreed media.PortMedia
				for last.Kind != ends {
					last = next(t, leg)
					got = append(got, last.Kind)
					if last.Kind == hears {
						agreed = last.Media
					}
				}
				require.Equal(t, c.want, got)
				require.Equal(t, c.cause, last.Cause)
				require.Equal(t, c.law, agreed.Speech)
				if c.port != 0 {
					require.Equal(t, c.port, agreed.Remote.Port())
				}
				phone.passed()
				if c.scenario == "uac_prack_never" { // at 0, 1, 3, 7, 15, 31 and 63 T1
					require.LessOrEqual(t, strings.Count(phone.messages(), "\nSIP/2.0 183 "), 7, "the wait doubles")
				}
				g.idle(t)
			})
		})
	}
}

// TestOurByeTakesTheCallersPath has callers behind proxies that stay in the path, some of them strict routers.
func TestOurByeTakesTheCallersPath(t *testing.T) {
	t.Parallel()
	for _, scenario := range []string{"uac_loose", "uac_strict_first", "uac_strict_last"} {
		t.Run(scenario, func(t *testing.T) {
			t.Parallel()
			overEach(t, plain, func(t *testing.T, transport string) {
				in := newCallers(nil)
				g := newOver(t, transport).agent(in, office)
				phone := callIn(t, g, scenario, transport)
				leg := in.leg(t)
				leg.Answer()
				await(t, leg, dialogs.LegAnswered)
				leg.Hangup(0)
				require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg))
				phone.passed()
				g.idle(t)
			})
		})
	}
}

// sees waits until the run has seen text so often.
func (s *sipp) sees(times int, text string) {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return strings.Count(s.messages(), text) >= times }, patience, 10*time.Millisecond, "%d of %q", times, text)
}

func TestParseRAck(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]rack{
		"776656 1 INVITE":        {776656, 1, "INVITE"},
		" 1\t4294967295  INVITE": {1, 4294967295, "INVITE"},
		"0 1 INVITE":             {},
		"1 INVITE":               {},
		"":                       {},
		"4294967296 1 INVITE":    {},
		"1 -1 INVITE":            {},
		"1 1 INVITE x":           {},
	} {
		got, err := parseRAck(text)
		require.Equal(t, want, got, text)
		require.Equal(t, want == rack{}, err != nil, text)
	}
}

func FuzzParseRAck(f *testing.F) {
	f.Add("776656 1 INVITE")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseRAck(text)
		if err != nil {
			return
		}
		again, err := parseRAck(got.String())
		require.NoError(t, err)
		require.Equal(t, got, again)
	})
}
