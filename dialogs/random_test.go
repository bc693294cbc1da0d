package dialogs_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
	"tandem/errs"
	"tandem/media"
)

// tells lets something happen to a leg, unless it is over.
func (l *leg) tells(events ...dialogs.LegEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range events {
		if l.ended {
			return
		}
		select {
		case l.events <- &e:
		default: // it has told enough
		}
	}
}

func (l *leg) over() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended
}

// turmoil is a house in which much happens at once.
type turmoil struct {
	*house

	mu     sync.Mutex
	legs   []*leg         // all that were ever dialled
	wanted map[string]int // transfers that the application was promised an outcome of, by participant
	phones []*handset     // sound for those that answer
}

func (u *turmoil) note(l *leg) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.legs = append(u.legs, l)
}

// sound is what a leg tells of its media; a handset is taken once.
func (u *turmoil) sound() []dialogs.LegEvent {
	u.mu.Lock()
	defer u.mu.Unlock()
	answered := dialogs.LegEvent{Kind: dialogs.LegAnswered}
	if len(u.phones) == 0 {
		return []dialogs.LegEvent{answered}
	}
	h := u.phones[0]
	u.phones = u.phones[1:]
	return []dialogs.LegEvent{{Kind: dialogs.LegMedia, Port: h.port, Media: h.media}, answered}
}

func (u *turmoil) transferred(t *testing.T, ref dialogs.Ref, req dialogs.TransferRequest) {
	t.Helper()
	if _, err := u.Transfer(t.Context(), ref, req); err == nil {
		u.mu.Lock()
		u.wanted[ref.Participant]++
		u.mu.Unlock()
	}
}

// answering plays whoever is called meanwhile, until done.
func (u *turmoil) answering(r *rand.Rand, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case l := <-u.phone.legs:
			u.note(l)
			l.tells(dialogs.LegEvent{Kind: dialogs.LegCalling})
			switch r.IntN(4) {
			case 0:
				l.end(busy())
			case 1:
				l.tells(dialogs.LegEvent{Kind: dialogs.LegRinging})
			default:
				l.tells(u.sound()...)
			}
		}
	}
}

// deeds are what an application and a far end may do to a call, alone or at once.
func (u *turmoil) deeds(t *testing.T, ref, other dialogs.Ref, l, consulted *leg) []func() {
	t.Helper()
	ctx := t.Context()
	referred := func(code int, final bool) dialogs.LegEvent {
		return dialogs.LegEvent{Kind: dialogs.LegReferred, Cause: dialogs.Cause{SIPCode: code}, Final: final}
	}
	return []func(){
		func() { _, _ = u.Update(ctx, ref, dialogs.Terminated) },
		func() { _ = u.Delete(ctx, ref) },
		func() { _ = u.people.DeleteParticipant(ctx, account, ref.Participant) },
		func() { _, _ = u.Hold(ctx, ref, true) },
		func() { _, _ = u.Hold(ctx, ref, false) },
		func() { _, _ = u.SendKeys(ctx, ref, dialogs.Keys{Digits: "12#"}) },
		func() {
			_, _ = u.Instruct(ctx, ref, dialogs.Instruction{Gather: &dialogs.Gather{Digits: 2, Timeout: time.Millisecond, Prompt: "please.wav"}})
		},
		func() {
			_, _ = u.Instruct(ctx, ref, dialogs.Instruction{Play: &dialogs.Play{Sound: "broken.wav"}})
		},
		func() { u.transferred(t, ref, dialogs.TransferRequest{To: target}) },
		func() { u.transferred(t, ref, dialogs.TransferRequest{To: target, Mode: dialogs.ModeBridge}) },
		func() { u.transferred(t, ref, dialogs.TransferRequest{Replaces: other.Dialog}) },
		func() { l.end(byeBye()) },
		func() { l.tells(u.sound()...) },
		func() { l.tells(dialogs.LegEvent{Kind: dialogs.LegHold, Hold: dialogs.Hold{ByFarEnd: true}}) },
		func() { l.tells(dialogs.LegEvent{Kind: dialogs.LegKey, Key: media.Key{Digit: '7'}}) },
		func() { l.tells(dialogs.LegEvent{Kind: dialogs.LegRefer, Refer: dialogs.Refer{To: target}}) },
		func() {
			l.tells(dialogs.LegEvent{Kind: dialogs.LegRefer, Refer: dialogs.Refer{To: target, Other: consulted}})
		},
		func() { l.tells(referred(202, false), referred(100, false)) },
		func() { l.tells(referred(200, true)) },
		func() { l.tells(referred(486, true)) },
		func() {
			accept, err := u.Incoming(ctx, dialogs.Incoming{Account: account, From: target, Replaces: l})
			if err == nil {
				taker := newLeg()
				u.note(taker)
				accept(taker)
				taker.tells(u.sound()...)
			}
		},
	}
}

// TestTurmoil does to two calls whatever may be done, in any order and at once: each ends with exactly one TERMINATED,
// each transfer with exactly one onTransfer, no leg is left behind, and the participants may call again.
func TestTurmoil(t *testing.T) {
	const rounds, most = 24, 8
	u := &turmoil{house: open(t), wanted: map[string]int{}}
	defer u.close(t)
	for round := range rounds {
		r := rand.New(rand.NewPCG(uint64(round), 1)) //nolint:gosec // the same each time
		for range 4 {
			u.phones = append(u.phones, newHandset(t))
		}
		one, l := u.dial(t)
		two, consulted := u.dial(t)
		for _, of := range []*leg{l, consulted} {
			u.note(of)
			of.tells(dialogs.LegEvent{Kind: dialogs.LegCalling})
			of.tells(u.sound()...)
		}
		var all []func()
		for range 1 + r.IntN(most) {
			deeds := u.deeds(t, one, two, l, consulted)
			if r.IntN(4) == 0 {
				deeds = u.deeds(t, two, one, consulted, l)
			}
			all = append(all, deeds[r.IntN(len(deeds))])
		}
		var others, far sync.WaitGroup
		done := make(chan struct{})
		far.Go(func() { u.answering(rand.New(rand.NewPCG(uint64(round), 2)), done) }) //nolint:gosec // the same each time
		for _, do := range all {
			others.Go(do)
		}
		others.Wait()
		_ = u.people.DeleteParticipant(t.Context(), account, one.Participant)
		_, _ = u.Update(t.Context(), two, dialogs.Terminated)
		require.Eventually(t, func() bool { return u.Live() == 0 }, patience, time.Millisecond, "round %d", round)
		if r.IntN(2) == 0 { // the participant of two is there still, unless a deed has deleted it
			if d, err := u.Create(t.Context(), dialogs.Create{Account: account, Participant: two.Participant, To: number, From: dialogs.FromUnknown}); err == nil {
				require.NoError(t, u.Delete(t.Context(), dialogs.Ref{Account: account, Participant: two.Participant, Dialog: d.ID}))
				require.Eventually(t, func() bool { return u.Live() == 0 }, patience, time.Millisecond, "round %d", round)
			} else {
				requireCode(t, errs.NotFound, err, "does not exist")
			}
		}
		close(done)
		far.Wait()
		for _, ref := range []dialogs.Ref{one, two} {
			u.account(t, round, ref)
		}
		for i, leg := range u.legs {
			require.True(t, leg.over(), "round %d: leg %d is hung up", round, i)
		}
		u.legs = nil
	}
}

// account looks at what was told of a call.
func (u *turmoil) account(t *testing.T, round int, ref dialogs.Ref) {
	t.Helper()
	ends, transfers, after := 0, 0, ""
	for _, e := range u.drain(t, ref.Participant) {
		if e.DialogID != ref.Dialog {
			continue
		}
		if ends > 0 {
			after += e.Event + " "
		}
		switch {
		case e.Event == "onSipDialogStateChange" && e.State == "TERMINATED":
			ends++
		case e.Event == "onTransfer" && e.By == "APPLICATION":
			transfers++
		}
	}
	what := fmt.Sprintf("round %d: %s", round, u.words(t, ref.Participant))
	require.Equal(t, 1, ends, what)
	require.Contains(t, []string{"", "onLeave ", "onDisconnect "}, after, what)
	require.Equal(t, u.wanted[ref.Participant], transfers, what)
}
