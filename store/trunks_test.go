package store_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/errs"
	"tandem/trunks"
)

// fullTrunk has a value in every field.
func fullTrunk(name, account string) trunks.Trunk {
	return trunks.Trunk{
		Name: name, Account: account, URI: "sip:carrier.example.com;transport=tcp", Username: "u", Password: "hunter2", Register: true,
		Allow:           []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::1/128")},
		InboundUsername: "in", InboundPassword: "hunter3", Codecs: []string{"PCMA"}, SRTP: trunks.SRTPRequired, DTMF: trunks.DTMFInfo,
		DTMFInBand: true, DelayedOffer: true, Identity: trunks.IdentityRPID, CountryCode: "49", NationalPrefix: "0",
		InternationalPrefix: "00", NumberFormat: trunks.FormatNational, Headers: []string{"X-Case"}, Prefixes: []string{"+49", "sip:"},
		Priority: 2, Weight: 3, MaxCalls: 4, MaxCallsPerSecond: 5, AnswerTimeout: 6 * time.Second, Origin: trunks.OriginREST,
	}
}

func TestTrunks(t *testing.T) {
	each(t, func(t *testing.T, s *suite) {
		ctx := t.Context()
		first, second := fullTrunk("b", account), fullTrunk("a", account)
		foreign := fullTrunk("b", "another")
		for _, v := range []trunks.Trunk{first, second, foreign} {
			require.NoError(t, s.db.CreateTrunk(ctx, v))
		}
		requireCode(t, s.db.CreateTrunk(ctx, first), errs.Conflict, "")
		list := func() []trunks.Trunk {
			all, err := s.db.Trunks(ctx)
			require.NoError(t, err)
			return all
		}
		require.Equal(t, []trunks.Trunk{first, second, foreign}, list(), "with their secrets, in the order in which they were made")

		first.URI, first.Password, first.Allow = "", "", nil
		require.NoError(t, s.db.SaveTrunk(ctx, first))
		require.Equal(t, []trunks.Trunk{first, second, foreign}, list())
		requireCode(t, s.db.SaveTrunk(ctx, fullTrunk("c", account)), errs.NotFound, `trunk "c" does not exist`)
		requireCode(t, s.db.DeleteTrunk(ctx, trunks.Key{Account: "another", Name: "a"}), errs.NotFound, `trunk "a" does not exist`)
		require.NoError(t, s.db.DeleteTrunk(ctx, second.Key()))
		requireCode(t, s.db.DeleteTrunk(ctx, second.Key()), errs.NotFound, `trunk "a" does not exist`)
		if s.durable {
			s.reopen()
		}
		require.Equal(t, []trunks.Trunk{first, foreign}, list())
	})
}

func TestNumbers(t *testing.T) {
	each(t, func(t *testing.T, s *suite) {
		ctx := t.Context()
		first := trunks.Number{Number: "+15550199", Account: account, CallbackURL: "https://app.example.com/phone", Origin: trunks.OriginREST}
		second := trunks.Number{Number: "+15550101", Account: account, Origin: trunks.OriginREST}
		foreign := trunks.Number{Number: "+15550199", Account: "another", Origin: trunks.OriginREST}
		for _, v := range []trunks.Number{first, second, foreign} {
			require.NoError(t, s.db.CreateNumber(ctx, v))
		}
		requireCode(t, s.db.CreateNumber(ctx, first), errs.Conflict, "")
		first.CallbackURL = ""
		require.NoError(t, s.db.SaveNumber(ctx, first))
		requireCode(t, s.db.SaveNumber(ctx, trunks.Number{Number: "+15550102", Account: account}), errs.NotFound, `number "+15550102" does not exist`)
		requireCode(t, s.db.DeleteNumber(ctx, "another", second.Number), errs.NotFound, `number "+15550101" does not exist`)
		require.NoError(t, s.db.DeleteNumber(ctx, account, second.Number))
		all, err := s.db.Numbers(ctx)
		require.NoError(t, err)
		require.Equal(t, []trunks.Number{first, foreign}, all)
	})
}

// TestSeed: the file's rows are written as it says, those that it names no more go, those of REST stay.
func TestSeed(t *testing.T) {
	each(t, func(t *testing.T, s *suite) {
		ctx := t.Context()
		file := func(name string) trunks.Trunk {
			v := fullTrunk(name, account)
			v.Origin = trunks.OriginFile
			return v
		}
		number := func(n, origin string) trunks.Number {
			return trunks.Number{Number: n, Account: account, Origin: origin}
		}
		rest := fullTrunk("rest", account)
		require.NoError(t, s.db.CreateTrunk(ctx, rest))
		require.NoError(t, s.db.CreateTrunk(ctx, fullTrunk("taken over", account)))
		require.NoError(t, s.db.CreateNumber(ctx, number("+15550100", trunks.OriginREST)))
		seed := func(list []trunks.Trunk, numbers []trunks.Number) {
			t.Helper()
			require.NoError(t, s.db.Seed(ctx, list, numbers))
		}
		hold := func(list []trunks.Trunk, numbers []trunks.Number) {
			t.Helper()
			gotTrunks, err := s.db.Trunks(ctx)
			require.NoError(t, err)
			require.Equal(t, list, gotTrunks)
			gotNumbers, err := s.db.Numbers(ctx)
			require.NoError(t, err)
			require.Equal(t, numbers, gotNumbers)
		}
		seed([]trunks.Trunk{file("z"), file("taken over"), file("y")}, []trunks.Number{number("+15550101", trunks.OriginFile)})
		hold([]trunks.Trunk{file("z"), file("taken over"), file("y"), rest},
			[]trunks.Number{number("+15550101", trunks.OriginFile), number("+15550100", trunks.OriginREST)})

		changed := file("y")
		changed.URI, changed.Password = "sip:elsewhere.example.com", "new"
		seed([]trunks.Trunk{changed}, nil)
		hold([]trunks.Trunk{changed, rest}, []trunks.Number{number("+15550100", trunks.OriginREST)})

		seed(nil, nil)
		hold([]trunks.Trunk{rest}, []trunks.Number{number("+15550100", trunks.OriginREST)})
	})
}

func TestTalked(t *testing.T) {
	each(t, func(t *testing.T, s *suite) {
		ctx := t.Context()
		for i, c := range []struct {
			participant string
			inbound     bool
			answered    time.Duration // before its end; 0: never
			ended       time.Time
		}{
			{"p1", false, 3 * time.Minute, start.Add(time.Hour)},
			{"p2", false, 2 * time.Minute, start},
			{"p3", false, time.Minute, start.Add(-time.Second)}, // yesterday
			{"p4", true, time.Minute, start.Add(time.Hour)},     // the caller pays
			{"p5", false, 0, start.Add(time.Hour)},              // nobody answered
		} {
			s.participant(c.participant)
			d := s.dialog(c.participant, c.participant)
			d.Inbound = c.inbound
			require.NoError(t, failure(s.db.CreateDialog(ctx, d)), i)
			d.State = "TERMINATED"
			d.Ended = c.ended
			if c.answered > 0 {
				d.Answered = c.ended.Add(-c.answered)
			}
			require.NoError(t, s.db.SaveDialog(ctx, d))
		}
		talked, err := s.db.Talked(ctx, start)
		require.NoError(t, err)
		require.Equal(t, map[string]time.Duration{account: 5 * time.Minute}, talked)
	})
}
