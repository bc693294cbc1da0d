package trunks

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/errs"
)

var (
	hello = Request{Account: "1", To: "+15550100"}
	first = Key{"1", "first"}
)

// pair is a book with two trunks, of which the first one is tried first.
func pair(edit ...func(a, b *Trunk)) *Book {
	a := Trunk{Name: "first", Account: "1", URI: "sip:a", Priority: 1}
	b := Trunk{Name: "second", Account: "1", URI: "sip:b", Priority: 2}
	for _, e := range edit {
		e(&a, &b)
	}
	return BookOf(a, b)
}

// on places a call and says on which trunk it is.
func on(t *testing.T, b *Book) (string, *Place) {
	t.Helper()
	p, err := b.Place(hello)
	require.NoError(t, err)
	return p.Trunk().Name, p
}

func TestFailuresTakeATrunkOutOfService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := pair()
		for range failuresToOpen {
			name, p := on(t, b)
			require.Equal(t, "first", name)
			p.Failed("503", 0)
			next, err := p.Next()
			require.NoError(t, err)
			require.Equal(t, "second", next.Name)
			p.Worked()
			p.Release()
		}
		name, p := on(t, b)
		require.Equal(t, "second", name, "out of service")
		p.Release()
		x := b.Explain(hello)
		require.Len(t, x.Others, 1)
		require.Contains(t, x.Others[0].Why, "it is out of service until ")
		require.Contains(t, x.Others[0].Why, ": 503")

		time.Sleep(firstWait)
		name, trial := on(t, b)
		require.Equal(t, "first", name, "one call tries")
		name, p = on(t, b)
		require.Equal(t, "second", name, "and no other meanwhile")
		p.Release()
		trial.Failed("503 again", 0)
		trial.Release()
		time.Sleep(firstWait)
		name, p = on(t, b)
		require.Equal(t, "second", name, "the second wait is longer")
		p.Release()

		time.Sleep(firstWait)
		name, trial = on(t, b)
		require.Equal(t, "first", name)
		trial.Release() // it was hung up before anybody knew
		name, trial = on(t, b)
		require.Equal(t, "first", name, "so the next one tries")
		trial.Worked()
		name, p = on(t, b)
		require.Equal(t, "first", name, "in service again")
		require.Zero(t, b.State(first).Failures)
		trial.Release()
		p.Release()
	})
}

func TestWaitsGrowAndEnd(t *testing.T) {
	var c circuit
	now := time.Unix(0, 0)
	var waits []time.Duration
	for range 12 {
		c.failed(now, "x", 0)
		if !c.until.IsZero() {
			waits = append(waits, c.until.Sub(now))
			now = c.until
		}
	}
	require.Equal(t, []time.Duration{15 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, maxWait, maxWait}, waits[:7])
}

func TestProbesOpenAndClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := pair()
		for range failuresToOpen {
			b.Failed(first, "no answer to OPTIONS")
		}
		name, p := on(t, b)
		require.Equal(t, "second", name)
		p.Release()
		b.Failed(first, "still none") // does not make the wait longer
		time.Sleep(firstWait)
		b.Worked(first)
		name, p = on(t, b)
		require.Equal(t, "first", name)
		p.Release()
	})
}

func TestRetryAfterIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := pair()
		_, p := on(t, b)
		p.Failed("503", 7*time.Second)
		p.Release()
		time.Sleep(7*time.Second - 1)
		name, p := on(t, b)
		require.Equal(t, "second", name)
		p.Release()
		time.Sleep(time.Nanosecond)
		name, p = on(t, b)
		require.Equal(t, "first", name)
		p.Release()
	})
}

func TestAllOutOfService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := pair()
		for range failuresToOpen {
			b.Failed(first, "x")
			b.Failed(Key{"1", "second"}, "x")
		}
		_, err := b.Place(hello)
		require.Equal(t, errs.Unavailable, errs.CodeOf(err))
		require.Equal(t, firstWait, errs.RetryAfterOf(err))
	})
}

func TestMaxCalls(t *testing.T) {
	b := pair(func(a, b *Trunk) { a.MaxCalls, b.MaxCalls = 1, 1 })
	name, one := on(t, b)
	require.Equal(t, "first", name)
	name, two := on(t, b)
	require.Equal(t, "second", name, "the next one has room")
	_, err := b.Place(hello)
	require.Equal(t, errs.TooMany, errs.CodeOf(err))
	require.EqualError(t, err, `trunk "first" takes no call: it has 1 calls, which is its maxCalls`)
	_, err = b.Admit(b.Trunk(first))
	require.Equal(t, errs.TooMany, errs.CodeOf(err), "calls that come in count too")
	one.Release()
	one.Release() // counts once
	in, err := b.Admit(b.Trunk(first))
	require.NoError(t, err)
	require.Equal(t, 1, b.State(first).Calls)
	in.Release()
	two.Release()
	require.Zero(t, b.State(first).Calls+b.State(Key{"1", "second"}).Calls)
}

func TestMaxCallsPerSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := BookOf(Trunk{Name: "first", Account: "1", URI: "sip:a", MaxCallsPerSecond: 2})
		place := func() error {
			p, err := b.Place(hello)
			p.Release() // what was released has still come
			return err
		}
		require.NoError(t, place())
		time.Sleep(600 * time.Millisecond)
		require.NoError(t, place())
		err := place()
		require.Equal(t, errs.TooMany, errs.CodeOf(err))
		require.Equal(t, 400*time.Millisecond, errs.RetryAfterOf(err))
		time.Sleep(400 * time.Millisecond)
		require.NoError(t, place())
		require.Error(t, place(), "never three within any second")
	})
}

// Those who call in count too, on the trunk and at the account.
func TestMaxCallersPerSecond(t *testing.T) {
	for name, limits := range map[string]struct{ trunk, account int }{"trunk": {trunk: 2}, "account": {account: 2}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := BookOf(Trunk{Name: "first", Account: "1", URI: "sip:a", MaxCallsPerSecond: limits.trunk})
				b.SetAccounts([]Account{{ID: "1", MaxCallsPerSecond: limits.account}})
				admit := func() error {
					p, err := b.Admit(b.Trunk(first))
					p.Release()
					return err
				}
				require.NoError(t, admit())
				require.NoError(t, admit())
				err := admit()
				require.Equal(t, errs.TooMany, errs.CodeOf(err))
				require.ErrorContains(t, err, "maxCallsPerSecond")
				require.Equal(t, time.Second, errs.RetryAfterOf(err))
				_, err = b.Place(hello)
				require.Equal(t, errs.TooMany, errs.CodeOf(err), "both ways are one limit")
				time.Sleep(time.Second)
				require.NoError(t, admit())
			})
		})
	}
}

func TestAccountLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := pair()
		b.SetAccounts([]Account{{ID: "1", MaxCalls: 2}})
		_, one := on(t, b)
		two, err := b.AdmitTo("1")
		require.NoError(t, err)
		_, err = b.Place(hello)
		require.EqualError(t, err, `account "1" has 2 calls, which is its maxCalls`)
		require.Equal(t, errs.TooMany, errs.CodeOf(err))
		_, err = b.Admit(b.Trunk(first))
		require.Equal(t, errs.TooMany, errs.CodeOf(err))
		require.Equal(t, 1, b.State(first).Calls, "what was refused counts nowhere")
		one.Release()
		two.Release()

		b.SetAccounts([]Account{{ID: "1", MaxNewPerSecond: 1}})
		time.Sleep(time.Second)
		_, one = on(t, b)
		one.Release()
		_, err = b.Place(hello)
		require.ErrorContains(t, err, "maxNewPerSecond")
		in, err := b.AdmitTo("1")
		require.NoError(t, err, "callers are not what an account places")
		in.Release()
	})
}

func TestMinutesPerDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the bubble's clock begins at midnight UTC
		b := pair()
		b.SetAccounts([]Account{{ID: "1", MinutesPerDay: 10}})
		b.Spent("1", 3*time.Minute)
		_, over := on(t, b)
		over.Answered()
		time.Sleep(4 * time.Minute)
		over.Release()
		_, up := on(t, b)
		time.Sleep(time.Hour) // it rings
		up.Answered()
		time.Sleep(3 * time.Minute)
		_, err := b.Place(hello)
		require.Equal(t, errs.TooMany, errs.CodeOf(err))
		require.EqualError(t, err, `account "1" has talked for 10 minutes today, which is its minutesPerDay`)
		require.Equal(t, 24*time.Hour-67*time.Minute, errs.RetryAfterOf(err))
		up.Release()
		time.Sleep(errs.RetryAfterOf(err))
		_, tomorrow := on(t, b)
		tomorrow.Release()
	})
}

func TestChangesLeaveCallsAlone(t *testing.T) {
	b := pair(func(a, _ *Trunk) { a.MaxCalls = 1 })
	_, changed := b.Trunks()
	name, up := on(t, b)
	require.Equal(t, "first", name)
	was := up.Trunk()
	b.SetTrunks([]Trunk{{Name: "first", Account: "1", URI: "sip:elsewhere", MaxCalls: 1}}, nil)
	<-changed
	require.Equal(t, "sip:a", was.URI, "the call keeps the trunk that it began with")
	_, err := b.Place(hello)
	require.Equal(t, errs.TooMany, errs.CodeOf(err), "and counts at the new one")
	b.SetTrunks(nil, nil)
	b.SetTrunks([]Trunk{{Name: "first", Account: "1", URI: "sip:a", MaxCalls: 1}}, nil)
	_, err = b.Place(hello)
	require.Error(t, err, "also when it was gone for a while")
	up.Release()
	_, again := on(t, b)
	again.Release()
}

func TestNewAddressIsTriedAtOnce(t *testing.T) {
	b := pair()
	for range failuresToOpen {
		b.Failed(first, "x")
	}
	all, _ := b.Trunks()
	moved := *all[0]
	moved.URI = "sip:new"
	b.SetTrunks([]Trunk{moved, *all[1]}, nil)
	name, p := on(t, b)
	require.Equal(t, "first", name)
	p.Release()
}

// TestNothingIsLeftOfATrunk: of trunks that come and go with calls on them nothing stays.
func TestNothingIsLeftOfATrunk(t *testing.T) {
	b := BookOf(Trunk{Name: "a", Account: "1", URI: "sip:a.example"})
	p, err := b.Place(Request{Account: "1", To: "+15550100"})
	require.NoError(t, err)
	b.SetTrunks(nil, nil)
	require.Len(t, b.trunks, 1, "it has a call")
	p.Release()
	b.SetTrunks(nil, nil)
	require.Empty(t, b.trunks)
}

func TestExplainSaysWhatIsSent(t *testing.T) {
	b := BookOf(
		Trunk{Name: "a", Account: "1", URI: "sip:a", Weight: 1, NumberFormat: FormatPlain},
		Trunk{Name: "b", Account: "1", URI: "sip:b", Weight: 3, Identity: IdentityRPID},
		Trunk{Name: "c", Account: "1", URI: "sip:c", Prefixes: []string{"+49"}},
		Trunk{Name: "d", Account: "1"},
		Trunk{Name: "hidden", Account: "2", URI: "sip:d"},
	)
	x := b.Explain(Request{Account: "1", To: "+15550100", From: "+15550199"})
	require.NoError(t, x.Refused)
	require.Len(t, x.Routes, 2)
	require.Equal(t, Route{Trunk: b.Trunk(Key{"1", "b"}), Rule: "prefix +", Prefix: "+", Share: 0.75, To: "+15550100", From: "+15550199", Header: "Remote-Party-ID"}, x.Routes[0])
	require.Equal(t, Route{Trunk: b.Trunk(Key{"1", "a"}), Rule: "prefix +", Prefix: "+", Share: 0.25, To: "15550100", From: "15550199", Header: "P-Asserted-Identity"}, x.Routes[1])
	why := map[string]string{}
	for _, o := range x.Others {
		why[o.Trunk.Name] = o.Why
	}
	require.Equal(t, map[string]string{"c": "none of its prefixes (+49) matches", "d": "it has no uri: it only calls in"}, why)
}
