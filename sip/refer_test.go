package sip

import (
	"context"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
)

// outcome reads news of a transfer until the last, which it returns.
func outcome(t *testing.T, l dialogs.Leg) (dialogs.Cause, []int) {
	t.Helper()
	var before []int
	for {
		e := await(t, l, dialogs.LegReferred)
		if e.Final {
			return e.Cause, before
		}
		before = append(before, e.Cause.SIPCode)
	}
}

// TestReferOfOurs is every way in which a far end can deal with a REFER.
func TestReferOfOurs(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name, scenario, key, value string
		want                       dialogs.Cause
		before                     []int
	}{
		{"succeeds", "uas_refer", "outcome", "200 OK", dialogs.Cause{Details: "200 OK", SIPCode: 200}, []int{202, 100, 180}},
		{"busy", "uas_refer", "outcome", "486 Busy Here", dialogs.Cause{Reason: dialogs.FarEndBusy, Details: "486 Busy Here", SIPCode: 486}, []int{202, 100, 180}},
		{"declined", "uas_refer", "outcome", "603 Decline", dialogs.Cause{Reason: dialogs.FarEndDeclined, Details: "603 Decline", SIPCode: 603}, []int{202, 100, 180}},
		{"refused with 405", "uas_refer_405", "x", "x", dialogs.Cause{Reason: dialogs.Error, Details: "405 Method Not Allowed", SIPCode: 405}, nil},
		{"refused with 603", "uas_refer_603", "x", "x", dialogs.Cause{Reason: dialogs.FarEndDeclined, Details: "603 Decline", SIPCode: 603}, nil},
		{"refused with 403", "uas_refer_403", "x", "x", dialogs.Cause{Reason: dialogs.FarEndDeclined, Details: "403 Forbidden", SIPCode: 403}, nil},
		{
			"reports nothing, and says so", "uas_refer_no_report", "x", "x",
			dialogs.Cause{Details: "202 Accepted; the far end reports no outcome", SIPCode: 202},
			nil,
		},
		{
			"ends its report", "uas_refer_ends_report", "x", "x",
			dialogs.Cause{Reason: dialogs.Error, Details: "the far end ended its report without an outcome (timeout)"},
			[]int{202},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			eachTransport(t, func(t *testing.T, o over) {
				g, phone, leg := placed(o, Config{}, nil, c.scenario, "-key", c.key, c.value)
				leg.Refer(dialogs.Refer{To: "+15550105"})
				got, before := outcome(t, leg)
				require.Equal(t, c.want, got)
				require.Equal(t, c.before, before)
				leg.Hangup(0)
				require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg))
				phone.passed()
				g.idle(t)
			})
		})
	}
}

func TestReferAndSilence(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, o over) {
		g, phone, leg := placed(o, Config{}, nil, "uas_refer_silent")
		leg.Refer(dialogs.Refer{To: "+15550105"})
		accepted := await(t, leg, dialogs.LegReferred)
		require.False(t, accepted.Final)
		require.Equal(t, 202, accepted.Cause.SIPCode)
		leg.Hangup(0)
		require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg), "nothing more is told")
		phone.passed()
		g.idle(t)
	})
}

func TestByeBehindTheAcceptedRefer(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, o over) {
		g, phone, leg := placed(o, Config{}, nil, "uas_refer_bye")
		leg.Refer(dialogs.Refer{To: "+15550105"})
		require.Equal(t, 202, await(t, leg, dialogs.LegReferred).Cause.SIPCode, "told before the end")
		require.Equal(t, dialogs.Cause{Details: byFarEnd}, end(t, leg))
		phone.passed()
		g.idle(t)
	})
}

func TestAttendedRefer(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, o over) {
		consulted, second := o.trunk("uas_answer")
		phone, first := o.trunk("uas_refer_attended")
		second.Name, second.Prefixes = "second", []string{"+1555"}
		first.Prefixes = []string{"+1666"}
		g := o.agent(newCallers(nil), first, second)
		other := dial(t, g)
		await(t, other, dialogs.LegAnswered)
		leg, err := g.Dial(context.Background(), dialogs.Dial{Dialog: "e", Account: "1", To: "+16660100", From: "+15550199"})
		require.NoError(t, err)
		await(t, leg, dialogs.LegAnswered)
		leg.Refer(dialogs.Refer{Other: other})
		got, _ := outcome(t, leg)
		require.Equal(t, 200, got.SIPCode)
		leg.Hangup(0)
		end(t, leg)
		phone.passed()

		// Who receives the INVITE with this Replaces finds its own call by it.
		id := other.(*call).known.Load()
		found := regexp.MustCompile(`Refer-To: <(sip:phone@[^?]*)\?Replaces=([^>]*)>`).FindStringSubmatch(phone.messages())
		require.Len(t, found, 3)
		require.Equal(t, id.target.String(), found[1], "the Contact of the other far end")
		require.Equal(t, replaces{callID: id.callID, toTag: id.theirs, fromTag: id.ours}.escaped(), found[2])

		other.Hangup(0)
		end(t, other)
		consulted.passed()
		leg.Refer(dialogs.Refer{Other: other}) // to a leg that is over
		g.idle(t)
	})
}

func TestReferNeedsATarget(t *testing.T) {
	t.Parallel()
	phone := startSIPp(t, "uas_answer", "udp")
	g := startAgent(t, Config{Trunks: []Trunk{carrier(phone, "udp")}}, newCallers(nil))
	leg := dial(t, g)
	await(t, leg, dialogs.LegAnswered)
	for _, r := range []dialogs.Refer{{}, {To: "tel:1"}, {To: "sip:"}, {To: "sip:a\r\nb@c"}, {To: "+15550105", Replaces: "x"}} {
		leg.Refer(r)
		got, before := outcome(t, leg)
		require.Equal(t, dialogs.Error, got.Reason, "%+v", r)
		require.Zero(t, got.SIPCode)
		require.Empty(t, before)
	}
	leg.Hangup(0)
	end(t, leg)
	phone.passed()
	g.idle(t)
}

func TestNotifyThatNobodyWants(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, o over) {
		g, phone, leg := placed(o, Config{}, nil, "uas_bad_notify")
		require.Equal(t, dialogs.Cause{Details: byFarEnd}, end(t, leg))
		phone.passed()
		g.idle(t)
	})
}

// pbx is an office that can be called too.
func pbx(uri string) Trunk {
	t := office
	t.URI = uri
	return t
}

// TestReferOfTheFarEnd: the REFER is accepted, its news are told in order, and a BYE ends no more than the leg.
func TestReferOfTheFarEnd(t *testing.T) {
	t.Parallel()
	cases := []struct {
		scenario, referTo string
		want              dialogs.Refer
		tell              []int
	}{
		{"uac_refer", "<sip:+15550105@pbx.example>", dialogs.Refer{To: "+15550105"}, []int{182, 200}},
		{"uac_refer_fails", "<sip:205@pbx.example;user=phone;method=INVITE>", dialogs.Refer{To: "sip:205@pbx.example;user=phone", Trunk: "office"}, []int{486}},
		{"uac_refer_fails", "sip:205@127.0.0.1", dialogs.Refer{To: "sip:205@pbx.example", Trunk: "office"}, []int{486}},
		{
			"uac_refer_fails", "<sip:205@192.0.2.7:5070?Replaces=a%40b%3Bto-tag%3Dt%3Bfrom-tag%3Df>",
			dialogs.Refer{To: "sip:205@192.0.2.7:5070", Trunk: "office", Replaces: "a@b;to-tag=t;from-tag=f"},
			[]int{486},
		},
		{"uac_refer_bye", "<tel:+1-555-0105>", dialogs.Refer{To: "+15550105"}, nil},
	}
	for _, c := range cases {
		t.Run(c.scenario+" "+c.referTo, func(t *testing.T) {
			t.Parallel()
			eachTransport(t, func(t *testing.T, o over) {
				in := newCallers(nil)
				g := o.start(Config{Trunks: []Trunk{pbx("sip:pbx.example")}}, in)
				phone := o.caller(g, c.scenario, "-key", "refer_to", c.referTo)
				leg := in.leg(t)
				leg.Answer()
				wish := await(t, leg, dialogs.LegRefer).Refer
				require.Regexp(t, `^<sip:\+15550123@127.0.0.1>$`, wish.ReferredBy)
				wish.ReferredBy = ""
				require.Equal(t, c.want, wish)
				for _, status := range c.tell {
					leg.Referred(status)
					if status < 200 { // what is not final may be left out when it is overtaken
						phone.sees(1, "SIP/2.0 182 Queued")
					}
				}
				if len(c.tell) > 0 {
					leg.Referred(500) // there is one outcome
				}
				require.Equal(t, dialogs.Cause{Details: byFarEnd}, end(t, leg))
				phone.passed()
				g.idle(t)
			})
		})
	}
}

func TestReferIsRefused(t *testing.T) {
	t.Parallel()
	for _, referTo := range []string{
		"<sip:>", "<sip:205@pbx.example;method=BYE>", "<sip:205@pbx.example?Replaces=a>", "<tel:911>",
	} {
		t.Run(referTo, func(t *testing.T) {
			t.Parallel()
			eachTransport(t, func(t *testing.T, o over) {
				in := newCallers(nil)
				g := o.start(Config{Trunks: []Trunk{office}}, in)
				phone := o.caller(g, "uac_refer_refused", "-key", "refer_to", referTo)
				leg := in.leg(t)
				leg.Answer()
				await(t, leg, dialogs.LegAnswered)
				require.Equal(t, dialogs.Cause{Details: byFarEnd}, end(t, leg), "and the call goes on until it ends it")
				phone.passed()
				g.idle(t)
			})
		})
	}
}

func TestReferOfAStranger(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, o over) {
		in := newCallers(nil)
		g := o.start(Config{}, in)
		phone := o.caller(g, "uac_refer_forbidden", "-key", "refer_to", "<sip:+15550105@pbx.example>")
		leg := in.leg(t)
		leg.Answer()
		await(t, leg, dialogs.LegAnswered)
		require.Equal(t, dialogs.Cause{Details: byFarEnd}, end(t, leg))
		phone.passed()
		o.caller(g, "uac_refer_outside", "-key", "refer_to", "<sip:+15550105@pbx.example>").passed()
		g.idle(t)
	})
}

// TestInviteWithReplaces: who may take the place of a call, and of which (RFC 3891 §3).
func TestInviteWithReplaces(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, o over) {
		in := newCallers(nil)
		phone, g := o.callee(Config{}, in, func(t *Trunk) { t.Allow = office.Allow }, "uas_answer")
		leg := dial(t, g)
		await(t, leg, dialogs.LegAnswered)
		id := leg.(*call).known.Load()
		right := replaces{callID: id.callID, toTag: id.ours, fromTag: id.theirs}
		wrong, early := right, right
		wrong.fromTag, early.earlyOnly = "x", true
		for scenario, value := range map[string]string{
			"uac_replaces_400": "nonsense", "uac_replaces_481": wrong.String(), "uac_replaces_486": early.String(),
		} {
			o.caller(g, scenario, "-key", "replaces", value).passed()
		}
		require.Empty(t, in.calls(), "nothing was spent on them")

		taker := o.caller(g, "uac_replaces", "-key", "replaces", right.String())
		second := in.leg(t)
		require.Same(t, leg, in.calls()[0].Replaces)
		second.Answer()
		await(t, second, dialogs.LegAnswered)
		leg.Hangup(0)
		end(t, leg)
		phone.passed()
		require.Equal(t, dialogs.Cause{Details: byFarEnd}, end(t, second))
		taker.passed()
		g.idle(t)
	})
}

func TestReplacesOfSomebodyElse(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, o over) {
		other := office
		other.Account = "2"
		phone, g := o.callee(Config{Trunks: []Trunk{other}}, newCallers(nil), nil, "uas_answer")
		leg := dial(t, g)
		await(t, leg, dialogs.LegAnswered)
		id := leg.(*call).known.Load()
		value := replaces{callID: id.callID, toTag: id.ours, fromTag: id.theirs}.String()
		o.caller(g, "uac_replaces_403", "-key", "replaces", value).passed()
		leg.Hangup(0)
		end(t, leg)
		phone.passed()
		g.idle(t)
	})
}

func TestParseReplaces(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]replaces{
		"425928@bobster.example.org;to-tag=7743;from-tag=6472": {callID: "425928@bobster.example.org", toTag: "7743", fromTag: "6472"},
		"a ; from-tag = f ; to-tag = t ; early-only":           {callID: "a", toTag: "t", fromTag: "f", earlyOnly: true},
		"a;to-tag=t;from-tag=f;something=else;flag":            {callID: "a", toTag: "t", fromTag: "f"},
		"":                                 {},
		"a":                                {},
		"a;to-tag=t":                       {},
		"a;to-tag=;from-tag=f":             {},
		"a;to-tag=t;to-tag=u;from-tag=f":   {},
		"a b;to-tag=t;from-tag=f":          {},
		"a;to-tag=t;from-tag=f\r\nEvil: 1": {},
	} {
		got, err := parseReplaces(value)
		require.Equal(t, want == replaces{}, err != nil, value)
		if err == nil {
			require.Equal(t, want, got)
			again, err := parseReplaces(got.String())
			require.NoError(t, err)
			require.Equal(t, got, again)
		}
	}
}

func TestParseFrag(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]struct {
		status int
		phrase string
	}{
		"SIP/2.0 200 OK\r\n":                  {200, "OK"},
		"SIP/2.0 486":                         {486, ""},
		"\r\nsip/2.0 603 Decline\nVia: x\r\n": {603, "Decline"},
		"SIP/2.0 99 Low":                      {},
		"SIP/2.0 700 High":                    {},
		"SIP/2.0 2000 OK":                     {},
		"HTTP/1.1 200 OK":                     {},
		"":                                    {},
	} {
		status, phrase, ok := parseFrag([]byte(body))
		require.Equal(t, want.status != 0, ok, body)
		require.Equal(t, want.status, status, body)
		require.Equal(t, want.phrase, phrase, body)
	}
}

func FuzzParseFrag(f *testing.F) {
	f.Add([]byte("SIP/2.0 200 OK\r\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		if status, phrase, ok := parseFrag(body); ok && (status < 100 || status > 699 || hasControl(phrase)) {
			t.Errorf("%d %q", status, phrase)
		}
	})
}

func FuzzParseReferTo(f *testing.F) {
	f.Add("<sip:205@192.0.2.7:5070?Replaces=a%40b%3Bto-tag%3Dt%3Bfrom-tag%3Df>")
	f.Add("tel:+15550105")
	f.Fuzz(func(t *testing.T, value string) {
		uri, named, err := parseReferTo(value)
		if err != nil {
			return
		}
		if len(uri.Headers) > 0 || hasControl(uri.String()) {
			t.Errorf("%q becomes %q", value, uri.String())
		}
		if named == nil {
			return
		}
		if again, err := parseReplaces(named.String()); err != nil || again != *named {
			t.Errorf("%q becomes %q", value, named.String())
		}
	})
}
