package sessions_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/errs"
	"tandem/media"
	"tandem/sessions"
)

// actor is a participant of the random tests, with what it has here. Its own goroutine alone touches it.
type actor struct {
	p         sessions.Participant
	legs      [2]*sessions.Attachment
	hears     [2]*recorder
	published [2]map[string]*media.Source
	gone      bool
}

// saysSo is the policy once more, as naively as it can be said: does what listener asked for cover this stream?
func saysSo(listener, speaker sessions.Participant, alias string) bool {
	if listener.Session == "" || speaker.Session != listener.Session || speaker.ID == listener.ID {
		return false
	}
	if len(listener.Subscriptions.Participants) > 0 {
		heard := false
		for _, entry := range listener.Subscriptions.Participants {
			if entry.Participant != speaker.ID {
				continue
			}
			if len(entry.StreamAliases) == 0 {
				heard = true
			}
			for _, wanted := range entry.StreamAliases {
				heard = heard || wanted == alias
			}
		}
		return heard
	}
	return listener.Subscriptions.Session == speaker.Session
}

// rows reads everybody from the database.
func rows(t *testing.T, h *house, actors []*actor) map[*actor]sessions.Participant {
	t.Helper()
	all := map[*actor]sessions.Participant{}
	for _, a := range actors {
		if a.gone {
			continue
		}
		row, err := h.Participant(t.Context(), account, a.p.ID)
		require.NoError(t, err)
		all[a] = row
	}
	return all
}

// requirePolicy compares what every endpoint hears with what the database says, and what it was given on the way.
func requirePolicy(t *testing.T, h *house, actors []*actor, why string) {
	t.Helper()
	truth := rows(t, h, actors)
	for _, listener := range actors {
		want, silent := []string{}, []string{}
		for _, speaker := range actors {
			for slot := range speaker.legs {
				for _, src := range speaker.published[slot] {
					l, ok := truth[listener]
					s, alive := truth[speaker]
					if ok && alive && saysSo(l, s, src.Alias) {
						want = append(want, src.Stream)
						if s.Muted || slices.Contains(s.MutedFor, l.ID) {
							silent = append(silent, src.Stream)
						}
					}
				}
			}
		}
		for slot, leg := range listener.legs {
			if leg == nil {
				continue
			}
			require.ElementsMatch(t, want, listener.hears[slot].hears(t), "%s: %s, leg %d", why, listener.p.Tag, slot)
			require.ElementsMatch(t, silent, listener.hears[slot].silent(), "%s: %s, leg %d, muted", why, listener.p.Tag, slot)
		}
	}
}

// randomSubscriptions are mostly good ones.
func randomSubscriptions(random *rand.Rand, session string, actors []*actor) sessions.Subscriptions {
	switch random.IntN(4) {
	case 0:
		return sessions.Subscriptions{}
	case 1:
		return everybody(session)
	}
	var subs sessions.Subscriptions
	for range 1 + random.IntN(3) {
		entry := sessions.Subscription{Participant: actors[random.IntN(len(actors))].p.ID}
		if random.IntN(2) == 0 {
			entry.StreamAliases = []string{"mic", "screen"}[:1+random.IntN(2)]
		}
		subs.Participants = append(subs.Participants, entry)
	}
	return subs
}

// act does one random thing as a, in words.
func (h *house) act(t *testing.T, random *rand.Rand, a *actor, actors []*actor, rooms []string) (string, error) {
	room := rooms[random.IntN(len(rooms))]
	slot := random.IntN(2)
	switch what := random.IntN(14); what {
	case 0, 1, 2:
		return "join", h.Join(t.Context(), account, room, a.p.ID, randomSubscriptions(random, room, actors))
	case 3:
		return "leave", h.Leave(t.Context(), account, room, a.p.ID)
	case 4, 5, 6:
		return "subscribe", h.SetSubscriptions(t.Context(), account, room, a.p.ID, randomSubscriptions(random, room, actors))
	case 7, 8:
		if a.legs[slot] == nil {
			return "nothing to publish on", nil
		}
		alias := []string{"", "mic", "screen"}[random.IntN(3)]
		if old := a.published[slot][alias]; old != nil {
			a.legs[slot].Unpublish(old)
			delete(a.published[slot], alias)
			return "unpublish", nil
		}
		src := voice(a.p.ID, fmt.Sprintf("%s/%d/%s/%d", a.p.Tag, slot, alias, random.IntN(1000)), alias)
		a.legs[slot].Publish(src)
		a.published[slot][alias] = src
		return "publish", nil
	case 12, 13:
		whom := ""
		if random.IntN(2) == 0 {
			whom = actors[random.IntN(len(actors))].p.ID
		}
		_, err := h.SetMuted(t.Context(), account, "", a.p.ID, whom, random.IntN(2) == 0)
		return "mute", err
	default:
		return "hang up, come or be replaced", h.move(t, random, a, slot)
	}
}

// move ends, begins or replaces one of a's endpoints.
func (h *house) move(t *testing.T, random *rand.Rand, a *actor, slot int) (err error) {
	old, oldHears := a.legs[slot], a.hears[slot]
	if old != nil && (slot == 1 || random.IntN(2) == 0) {
		if slot == 1 {
			old.Detach()
		} else {
			err = old.Leave(t.Context())
		}
		a.legs[slot] = nil
	} else {
		a.hears[slot] = newRecorder()
		if slot == 1 {
			a.legs[slot], err = attach(t.Context(), h.Service, a.p, a.hears[slot]) // with the row as it was in the beginning
		} else {
			a.legs[slot], err = h.Connect(t.Context(), a.p, "d", a.hears[slot])
		}
	}
	a.published[slot] = map[string]*media.Source{}
	if old != nil {
		require.Empty(t, oldHears.hears(t), "an endpoint that is over hears nobody")
	}
	return err
}

func cast(t *testing.T, h *house, n int) []*actor {
	t.Helper()
	actors := make([]*actor, n)
	for i := range actors {
		p, _, err := h.CreateParticipant(t.Context(), account, sessions.NewParticipant{
			Tag: fmt.Sprint("p", i), Permissions: []sessions.Permission{sessions.PublishAudio},
		})
		require.NoError(t, err)
		actors[i] = &actor{p: p, published: [2]map[string]*media.Source{{}, {}}}
	}
	return actors
}

// TestRandomConversations does random things one after the other and compares after each one: what every endpoint
// hears is what the naive model says, and nothing was given to an endpoint, even for a moment, that it may not hear
// before or after.
func TestRandomConversations(t *testing.T) {
	t.Parallel()
	h := open(t, sessions.Config{})
	for seed := range uint64(4) {
		random := rand.New(rand.NewPCG(seed, 7))
		actors := cast(t, h, 6)
		rooms := []string{h.session(t), h.session(t)}
		for step := range 150 {
			a := actors[random.IntN(len(actors))]
			if a.gone {
				continue
			}
			what, err := "", error(nil)
			switch random.IntN(40) {
			case 0:
				i := random.IntN(len(rooms))
				what, err = "delete a session", h.DeleteSession(t.Context(), account, rooms[i])
				rooms[i] = h.session(t)
			case 1:
				what, err = "delete a participant", h.DeleteParticipant(t.Context(), account, a.p.ID)
				a.gone = true
			default:
				what, err = h.act(t, random, a, actors, rooms)
			}
			why := fmt.Sprintf("seed %d, step %d: %s %s: %v", seed, step, a.p.Tag, what, err)
			require.NotEqual(t, errs.Internal, errs.CodeOf(orInvalid(err)), why)
			requirePolicy(t, h, actors, why)
			for _, l := range actors {
				for slot, r := range l.hears {
					if r != nil && l.legs[slot] != nil {
						require.Subset(t, r.hears(t), r.given(), "%s: %s was given for a moment what it may not hear", why, l.p.Tag)
					}
				}
			}
		}
		for _, a := range actors {
			for slot := range a.legs {
				if a.legs[slot] != nil {
					a.legs[slot].Detach()
				}
			}
		}
	}
	require.Zero(t, h.Live())
}

func orInvalid(err error) error {
	if err == nil {
		return errs.New(errs.Invalid, "no error")
	}
	return err
}

// TestConcurrentConversations lets everybody do random things at once. When all is quiet, what is heard is what the
// database says.
func TestConcurrentConversations(t *testing.T) {
	t.Parallel()
	h := open(t, sessions.Config{})
	actors := cast(t, h, 8)
	rooms := []string{h.session(t), h.session(t), h.session(t)}
	for round := range uint64(3) {
		var wg sync.WaitGroup
		for i, a := range actors {
			wg.Go(func() {
				random := rand.New(rand.NewPCG(round, uint64(i)))
				for range 30 {
					_, err := h.act(t, random, a, actors, rooms)
					if err != nil && errs.CodeOf(err) == errs.Internal {
						t.Error(err)
					}
				}
			})
		}
		wg.Go(func() { // others change the same rows
			random := rand.New(rand.NewPCG(round, 99))
			for range 60 {
				id, room := actors[random.IntN(len(actors))].p.ID, rooms[random.IntN(len(rooms))]
				_ = h.SetSubscriptions(t.Context(), account, room, id, randomSubscriptions(random, room, actors))
			}
		})
		wg.Go(func() { _ = h.DeleteSession(t.Context(), account, rooms[round]) })
		wg.Wait()
		requirePolicy(t, h, actors, fmt.Sprint("round ", round))
		rooms[round] = h.session(t)
	}
}

// TestConcurrentSubscriptions sets one participant's subscriptions from many goroutines: one of them wins, in the
// database and in the media alike.
func TestConcurrentSubscriptions(t *testing.T) {
	t.Parallel()
	h := open(t, sessions.Config{})
	s := h.session(t)
	p := h.member(t, s, sessions.Subscriptions{})
	_, r := h.device(t, p, "x")
	byID := map[string]string{}
	for i := range 8 {
		speaker := h.member(t, s, sessions.Subscriptions{})
		a, _ := h.device(t, speaker, "y")
		byID[speaker.ID] = fmt.Sprint("voice ", i)
		a.Publish(voice(speaker.ID, byID[speaker.ID], ""))
	}
	ids := slices.Sorted(maps.Keys(byID))
	var wg sync.WaitGroup
	for i, id := range ids {
		wg.Go(func() {
			for range 5 {
				err := h.SetSubscriptions(t.Context(), account, s, p.ID, these(id, ids[(i+1)%len(ids)]))
				if err != nil && errs.CodeOf(err) != errs.Conflict {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	subs, err := h.Subscriptions(t.Context(), account, s, p.ID)
	require.NoError(t, err)
	want := []string{}
	for _, entry := range subs.Participants {
		want = append(want, byID[entry.Participant])
	}
	require.Len(t, want, 2)
	require.ElementsMatch(t, want, r.hears(t))
}
