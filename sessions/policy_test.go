package sessions

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/media"
)

func only(id string, aliases ...string) Subscription {
	return Subscription{Participant: id, StreamAliases: aliases}
}

func TestHears(t *testing.T) {
	t.Parallel()
	all := Subscriptions{Session: "s"}
	listener := func(session string, subs Subscriptions) Participant {
		return Participant{ID: "listener", Session: session, Subscriptions: subs}
	}
	cases := []struct {
		name     string
		listener Participant
		speaker  Participant
		alias    string
		want     bool
	}{
		{"whole session", listener("s", all), Participant{ID: "a", Session: "s"}, "", true},
		{"whole session, any alias", listener("s", all), Participant{ID: "a", Session: "s"}, "screen", true},
		{"nothing subscribed", listener("s", Subscriptions{}), Participant{ID: "a", Session: "s"}, "", false},
		{"other session", listener("s", all), Participant{ID: "a", Session: "x"}, "", false},
		{"speaker in no session", listener("s", all), Participant{ID: "a"}, "", false},
		{"listener in no session", listener("", all), Participant{ID: "a"}, "", false},
		{"subscription of a session left behind", listener("t", all), Participant{ID: "a", Session: "t"}, "", false},
		{"oneself", listener("s", all), Participant{ID: "listener", Session: "s"}, "", false},
		{"oneself by name", listener("s", Subscriptions{Participants: []Subscription{only("listener")}}), Participant{ID: "listener", Session: "s"}, "", false},
		{"named", listener("s", Subscriptions{Participants: []Subscription{only("a")}}), Participant{ID: "a", Session: "s"}, "", true},
		{"another named", listener("s", Subscriptions{Participants: []Subscription{only("b")}}), Participant{ID: "a", Session: "s"}, "", false},
		{"a list overrides the session", listener("s", Subscriptions{Session: "s", Participants: []Subscription{only("b")}}), Participant{ID: "a", Session: "s"}, "", false},
		{"named, but elsewhere", listener("s", Subscriptions{Participants: []Subscription{only("a")}}), Participant{ID: "a", Session: "x"}, "", false},
		{"its alias", listener("s", Subscriptions{Participants: []Subscription{only("a", "mic")}}), Participant{ID: "a", Session: "s"}, "mic", true},
		{"another alias", listener("s", Subscriptions{Participants: []Subscription{only("a", "mic")}}), Participant{ID: "a", Session: "s"}, "screen", false},
		{"no alias where one is asked for", listener("s", Subscriptions{Participants: []Subscription{only("a", "mic")}}), Participant{ID: "a", Session: "s"}, "", false},
		{"named twice, other aliases", listener("s", Subscriptions{Participants: []Subscription{only("a", "mic"), only("a", "screen")}}), Participant{ID: "a", Session: "s"}, "screen", true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, hears(c.listener, c.speaker, c.alias))
			if c.want {
				require.True(t, follows(c.listener, c.speaker), "who hears follows")
			}
		})
	}
}

func TestDifference(t *testing.T) {
	t.Parallel()
	a, b, c := &media.Source{Stream: "a"}, &media.Source{Stream: "b"}, &media.Source{Stream: "c"}
	gone, added := difference([]*media.Source{a, b}, []*media.Source{b, c})
	require.Equal(t, []*media.Source{a}, gone)
	require.Equal(t, []*media.Source{c}, added)
	gone, added = difference([]*media.Source{a}, []*media.Source{a})
	require.Empty(t, gone)
	require.Empty(t, added)
}

// TestWhisper is the contact center's pattern: the supervisor hears both, the agent hears both, the caller hears the
// agent only.
func TestWhisper(t *testing.T) {
	t.Parallel()
	caller := Participant{ID: "caller", Session: "s", Subscriptions: Subscriptions{Participants: []Subscription{only("agent")}}}
	agent := Participant{ID: "agent", Session: "s", Subscriptions: Subscriptions{Session: "s"}}
	supervisor := Participant{ID: "supervisor", Session: "s", Subscriptions: Subscriptions{Session: "s"}}
	want := map[[2]string]bool{
		{"caller", "agent"}: true, {"caller", "supervisor"}: false,
		{"agent", "caller"}: true, {"agent", "supervisor"}: true,
		{"supervisor", "caller"}: true, {"supervisor", "agent"}: true,
	}
	for _, l := range []Participant{caller, agent, supervisor} {
		for _, s := range []Participant{caller, agent, supervisor} {
			require.Equal(t, want[[2]string{l.ID, s.ID}], hears(l, s, ""), "%s hears %s", l.ID, s.ID)
		}
	}
}
