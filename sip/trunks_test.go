package sip

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
	"tandem/errs"
	"tandem/trunks"
)

func TestSilentTrunkIsLeftForTheNext(t *testing.T) {
	t.Parallel()
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = silent.Close() }()
	phone := startSIPp(t, "uas_answer", "udp")
	dead := Trunk{Name: "dead", Account: "1", URI: "sip:" + silent.LocalAddr().String(), Prefixes: []string{"+1555"}, AnswerTimeout: 50 * time.Millisecond}
	book := trunks.BookOf(dead, carrier(phone, "udp"))
	g := startAgent(t, Config{Book: book}, newCallers(nil))
	leg := dial(t, g)
	await(t, leg, dialogs.LegAnswered)
	require.Equal(t, 1, book.State(dead.Key()).Failures)
	require.Equal(t, 0, book.State(dead.Key()).Calls)
	require.Equal(t, 1, book.State(trunks.Key{Account: "1", Name: "carrier"}).Calls)
	leg.Hangup(0)
	end(t, leg)
	phone.passed()
	g.idle(t)
	require.Equal(t, 0, book.State(trunks.Key{Account: "1", Name: "carrier"}).Calls)
}

// TestLateAnswerIsHungUp: who answers when the call has gone another way is not left with a call that nobody hears.
func TestLateAnswerIsHungUp(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, o over) {
		late, slow := o.trunk("uas_late")
		phone, rest := o.trunk("uas_answer")
		slow.Name, slow.Prefixes, slow.AnswerTimeout = "slow", []string{"+1555"}, 50*time.Millisecond
		g := o.agent(newCallers(nil), slow, rest)
		leg := dial(t, g)
		await(t, leg, dialogs.LegAnswered)
		late.passed()
		leg.Hangup(0)
		require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg))
		phone.passed()
		g.idle(t)
	})
}

func TestTrunkThatAsksForRestGetsIt(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, o over) {
		full, first := o.trunk("uas_overload_wait")
		phone, rest := o.trunk("uas_answer", "-m", "2")
		first.Name, first.Prefixes = "full", []string{"+1555"}
		book := trunks.BookOf(first, rest)
		g := o.start(Config{Book: book}, newCallers(nil))
		for range 2 { // the second call does not try it
			leg := dial(t, g)
			await(t, leg, dialogs.LegAnswered)
			leg.Hangup(0)
			end(t, leg)
		}
		full.passed()
		phone.passed()
		state := book.State(first.Key())
		require.Equal(t, 1, state.Failures)
		require.WithinRange(t, state.OpenTill, time.Now().Add(30*time.Second), time.Now().Add(60*time.Second))
	})
}

// TestFinalAnswerOfTheCalleeStands: whoever is busy is not called again by another trunk.
func TestFinalAnswerOfTheCalleeStands(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, o over) {
		busy, first := o.trunk("uas_busy")
		other, rest := o.trunk("uas_answer")
		first.Name, first.Prefixes = "first", []string{"+1555"}
		g := o.agent(newCallers(nil), first, rest)
		leg := dial(t, g)
		require.Equal(t, dialogs.FarEndBusy, end(t, leg).Reason)
		busy.passed()
		g.idle(t)
		require.NotContains(t, other.messages(), "INVITE ", "the other one heard nothing")
	})
}

func TestNumbersIdentityAndHeadersAsTheTrunkWants(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		trunk Trunk
		from  string
		has   []string
		hasnt []string
	}{
		{
			"national, asserted",
			Trunk{CountryCode: "1", NumberFormat: trunks.FormatNational, Headers: []string{"X-Case"}},
			"+493012345",
			[]string{"INVITE sip:15550100@", "From: <sip:011493012345@", "P-Asserted-Identity: <sip:011493012345@", "X-Case: 4711\n", "User-to-User: 68656c6c6f;encoding=hex\n"},
			[]string{"Privacy:", "Remote-Party-ID:"},
		},
		{
			"plain, remote party",
			Trunk{NumberFormat: trunks.FormatPlain, Identity: IdentityRPID, Headers: []string{"X-*"}},
			"+493012345",
			[]string{"INVITE sip:15550100@", "Remote-Party-ID: <sip:493012345@", "X-Case: 4711\n"},
			[]string{"P-Asserted-Identity:"},
		},
		{
			"restricted",
			Trunk{Headers: []string{"x-case"}},
			dialogs.FromRestricted,
			[]string{`From: "Anonymous" <sip:anonymous@anonymous.invalid>`, "Privacy: id\n"},
			[]string{"P-Asserted-Identity:"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			eachTransport(t, func(t *testing.T, o over) {
				phone, trunk := o.trunk("uas_answer")
				trunk.CountryCode, trunk.NumberFormat, trunk.Identity, trunk.Headers = c.trunk.CountryCode, c.trunk.NumberFormat, c.trunk.Identity, c.trunk.Headers
				g := o.agent(newCallers(nil), trunk)
				leg, err := g.Dial(context.Background(), dialogs.Dial{
					Account: "1", To: "+15550100", From: c.from, UserToUser: "68656c6c6f;encoding=hex", Headers: map[string]string{"X-Case": "4711"},
				})
				require.NoError(t, err)
				await(t, leg, dialogs.LegAnswered)
				leg.Hangup(0)
				end(t, leg)
				phone.passed()
				seen := strings.ReplaceAll(phone.messages(), "\r", "")
				for _, text := range c.has {
					require.Contains(t, seen, text)
				}
				for _, text := range c.hasnt {
					require.NotContains(t, seen, text)
				}
			})
		})
	}
}

func TestHeadersThatDoNotPass(t *testing.T) {
	t.Parallel()
	g := startAgent(t, Config{Trunks: []Trunk{{Name: "a", Account: "1", URI: "sip:127.0.0.1:9", Headers: []string{"X-Case"}}}}, newCallers(nil))
	for name, value := range map[string]string{"X-Other": "a", "X-Case": "a\r\nX-Other: b", "Subject": "a", "X-Case\r\nX": "a"} {
		_, err := g.Dial(context.Background(), dialogs.Dial{Account: "1", To: "+15550100", From: "+15550199", Headers: map[string]string{name: value}})
		require.Equal(t, errs.Invalid, errs.CodeOf(err), "%q", name)
		require.ErrorContains(t, err, "headers.")
	}
	g.idle(t)
}

func TestCallerOfATrunkIsNormalized(t *testing.T) {
	t.Parallel()
	pbx := office
	pbx.CountryCode, pbx.Headers = "49", []string{"X-Case"}
	for _, c := range []struct{ asserted, privacy, want string }{
		{"08912345", "none", "+498912345"},
		{"0015550100", "none", "+15550100"},
		{"08912345", "id", dialogs.FromRestricted},
	} {
		t.Run(c.asserted+" "+c.privacy, func(t *testing.T) {
			t.Parallel()
			eachTransport(t, func(t *testing.T, o over) {
				in := newCallers(nil)
				g := o.agent(in, pbx)
				phone := o.caller(g, "uac_identity", "-s", "03012345", "-key", "asserted", c.asserted, "-key", "privacy", c.privacy)
				leg := in.leg(t)
				leg.Answer()
				end(t, leg)
				phone.passed()
				require.Len(t, in.calls(), 1)
				seen := in.calls()[0]
				require.Equal(t, "+493012345", seen.To)
				require.Equal(t, c.want, seen.From)
				require.Equal(t, map[string]string{"X-Case": "4711, 4712"}, seen.Headers)
			})
		})
	}
}

func TestFullTrunkRefusesCallers(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, o over) {
		full := office
		full.MaxCalls = 1
		book := trunks.BookOf(full)
		in := newCallers(nil)
		g := o.start(Config{Book: book}, in)
		other, err := book.Admit(book.Trunk(full.Key()))
		require.NoError(t, err)
		phone := o.caller(g, "uac_full")
		phone.passed()
		require.Contains(t, phone.messages(), "\nRetry-After: 2\r")
		require.Contains(t, phone.messages(), "which is its maxCalls\"")
		require.Empty(t, in.calls())
		g.idle(t)

		other.Release()
		again := o.caller(g, "uac_token")
		leg := in.leg(t)
		require.Equal(t, 1, book.State(full.Key()).Calls)
		leg.Answer()
		end(t, leg)
		again.passed()
		g.idle(t)
		require.Zero(t, book.State(full.Key()).Calls)
	})
}

// TestHastyTrunkIsRefused: as many calls in a second as the trunk may have come to the application, busy as it is.
func TestHastyTrunkIsRefused(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, o over) {
		hasty := office
		hasty.MaxCallsPerSecond = 1
		in := newCallers(func(dialogs.Incoming) error { return errs.New(errs.Conflict, "busy") })
		g := o.start(Config{Book: trunks.BookOf(hasty)}, in)
		phone := o.caller(g, "uac_full")
		phone.passed()
		require.Contains(t, phone.messages(), "which is its maxCallsPerSecond\"")
		require.Equal(t, strings.Count(phone.messages(), "\nINVITE "), len(in.calls())+1, "the last one was not asked about")
		g.idle(t)
	})
}

// TestTrunksChangeWhileCallsAreUp: a call on a trunk that is taken away goes on, a new one does not find it.
func TestTrunksChangeWhileCallsAreUp(t *testing.T) {
	t.Parallel()
	phone := startSIPp(t, "uas_answer", "udp")
	book := trunks.BookOf(carrier(phone, "udp"))
	g := startAgent(t, Config{Book: book}, newCallers(nil))
	leg := dial(t, g)
	await(t, leg, dialogs.LegAnswered)
	book.SetTrunks(nil, nil)
	_, err := g.Dial(context.Background(), dialogs.Dial{Account: "1", To: "+15550100", From: "+15550199"})
	require.Equal(t, errs.Unavailable, errs.CodeOf(err))
	leg.Hangup(0)
	require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg))
	phone.passed()
	g.idle(t)
}

// TestHangupGivesThePlaceBack: a call that this end hangs up counts nowhere from that moment, before its BYE is answered.
func TestHangupGivesThePlaceBack(t *testing.T) {
	t.Parallel()
	phone := startSIPp(t, "uas_answer", "udp")
	book := trunks.BookOf(carrier(phone, "udp"))
	g := startAgent(t, Config{Book: book}, newCallers(nil))
	leg := dial(t, g)
	await(t, leg, dialogs.LegAnswered)
	key := trunks.Key{Account: "1", Name: "carrier"}
	require.Equal(t, 1, book.State(key).Calls)
	leg.Hangup(0)
	require.Zero(t, book.State(key).Calls)
	end(t, leg)
	phone.passed()
	g.idle(t)
	require.Zero(t, book.State(key).Calls, "it was given back once")
}

// TestAnswerWithoutRingingPutsATrunkBackIntoService: a trunk that was out of service, and takes the call that tries it
// with a 200 at once, takes all calls again, and what failed before counts no more.
func TestAnswerWithoutRingingPutsATrunkBackIntoService(t *testing.T) {
	t.Parallel()
	h := newHandCarrier(t)
	trunk := h.trunk()
	book := trunks.BookOf(trunk)
	g := startAgent(t, Config{Book: book}, newCallers(nil))
	before, err := book.Place(trunks.Request{Account: "1", To: "+15550100", From: "+15550199"})
	require.NoError(t, err)
	before.Failed("503 Service Unavailable", time.Millisecond)
	before.Release()
	require.False(t, book.State(trunk.Key()).OpenTill.IsZero(), "it is out of service")

	var trial dialogs.Leg
	require.Eventually(t, func() bool {
		trial, err = g.Dial(t.Context(), dialogs.Dial{Dialog: "d", Account: "1", To: "+15550100", From: "+15550199"})
		return err == nil
	}, patience, time.Millisecond, "a call may try it")
	_, err = g.Dial(t.Context(), dialogs.Dial{Dialog: "e", Account: "1", To: "+15550100", From: "+15550199"})
	require.ErrorContains(t, err, "one call is trying it")
	h.respond(h.invited(), "200 OK", talkerSDP)
	h.await("ACK ")
	await(t, trial, dialogs.LegAnswered)
	state := book.State(trunk.Key())
	require.Zero(t, state.Failures)
	require.True(t, state.OpenTill.IsZero(), "it is in service")

	another := dial(t, g)
	h.respond(h.invited(), "486 Busy Here", "")
	require.Equal(t, dialogs.FarEndBusy, end(t, another).Reason)
	trial.Hangup(0)
	h.respond(h.await("BYE "), "200 OK", "")
	end(t, trial)
	g.idle(t)
}

// TestCallUsesTheMinutesOfItsAccount: a call that an account places counts from its answer, and what it took is gone when
// it is over. One that rings or is refused, and one that came in, take nothing.
func TestCallUsesTheMinutesOfItsAccount(t *testing.T) {
	t.Parallel()
	h := newHandCarrier(t)
	trunk := h.trunk()
	trunk.Allow = office.Allow
	book := trunks.BookOf(trunk)
	book.SetAccounts([]trunks.Account{{ID: "1", MinutesPerDay: 1}})
	book.Spent("1", time.Minute-1) // any call that counts takes the rest
	in := newCallers(nil)
	g := startAgent(t, Config{Book: book}, in)
	again := dialogs.Dial{Dialog: "e", Account: "1", To: "+15550100", From: "+15550199"}

	caller, taken := talk(t, g, in)
	caller.send("BYE", "")
	end(t, taken)
	refused := dial(t, g)
	h.respond(h.invited(), "486 Busy Here", "")
	end(t, refused)

	leg := dial(t, g)
	invite := h.invited()
	h.respond(invite, "180 Ringing", "")
	await(t, leg, dialogs.LegRinging)
	rings, err := book.Place(trunks.Request{Account: "1", To: "+15550100", From: "+15550199"})
	require.NoError(t, err, "nobody has talked yet")
	rings.Release()
	h.respond(invite, "200 OK", talkerSDP)
	h.await("ACK ")
	await(t, leg, dialogs.LegAnswered)
	_, err = g.Dial(t.Context(), again)
	require.Equal(t, errs.TooMany, errs.CodeOf(err), "%v", err)
	require.ErrorContains(t, err, "which is its minutesPerDay")
	leg.Hangup(0)
	h.respond(h.await("BYE "), "200 OK", "")
	end(t, leg)
	g.idle(t)
	_, err = g.Dial(t.Context(), again)
	require.ErrorContains(t, err, "which is its minutesPerDay", "it has talked, though nobody talks now")
	require.Equal(t, errs.TooMany, errs.CodeOf(err))
}
