package dialogs

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden files anew")

func (i input) String() string {
	return [...]string{
		"INVITE sent", "180/183", "200", "far end ended", "application answers", "application ends", "ring timeout",
		"longest duration over", "fault",
	}[i]
}

func (e effect) String() string {
	return [...]string{"notify", "tell", "start ring timer", "start talk timer", "send 200", "end leg", "release"}[e]
}

// table is every transition that exists. What is not here is refused or ignored.
func table() map[State]map[bool]map[input]State {
	end := map[input]State{farEnded: Terminated, localHangup: Terminated, fault: Terminated}
	with := func(more map[input]State) map[input]State {
		all := map[input]State{}
		maps.Copy(all, end)
		maps.Copy(all, more)
		return all
	}
	return map[State]map[bool]map[input]State{
		StateNew: {
			false: with(map[input]State{inviteSent: Calling}),
			true:  end,
		},
		Calling: {
			false: with(map[input]State{farRinging: Ringing, farAnswered: Answered, ringTimeout: Terminated}),
			true:  with(map[input]State{ringTimeout: Terminated}),
		},
		Ringing: {
			false: with(map[input]State{farAnswered: Answered, ringTimeout: Terminated}),
			true:  with(map[input]State{localAnswer: Answered, ringTimeout: Terminated}),
		},
		Answered: {
			false: with(map[input]State{timeIsUp: Terminated}),
			true:  with(map[input]State{timeIsUp: Terminated}),
		},
		Terminated: {
			false: {farAnswered: Terminated},
			true:  {farAnswered: Terminated},
		},
	}
}

func TestEveryTransition(t *testing.T) {
	t.Parallel()
	want := table()
	for _, s := range States() {
		for _, inbound := range []bool{false, true} {
			for _, in := range inputs() {
				to, effects, ok := next(s, inbound, in)
				expected, exists := want[s][inbound][in]
				name := fmt.Sprintf("%s, inbound %t, %s", s, inbound, in)
				require.Equal(t, exists, ok, name)
				if !exists {
					require.Equal(t, s, to, name)
					require.Empty(t, effects, name)
					continue
				}
				require.Equal(t, expected, to, name)
				if to != s {
					require.Equal(t, 1, count(effects, notify), "%s: one event for one change", name)
					require.Equal(t, 1, count(effects, tell), name)
				} else {
					require.Zero(t, count(effects, notify), "%s: no event without a change", name)
				}
				if to == Terminated && s != Terminated {
					require.Equal(t, notify, effects[len(effects)-1], "%s: all is let go before the end is reported", name)
					require.Equal(t, 1, count(effects, releaseAll), name)
				}
			}
		}
	}
}

func count(effects []effect, want effect) int {
	n := 0
	for _, e := range effects {
		if e == want {
			n++
		}
	}
	return n
}

// TestOneTerminalEvent walks every sequence of four inputs: however they come, the end is reported once.
func TestOneTerminalEvent(t *testing.T) {
	t.Parallel()
	var walk func(s State, inbound bool, depth, ends int)
	walk = func(s State, inbound bool, depth, ends int) {
		require.LessOrEqual(t, ends, 1)
		if s == Terminated {
			require.Equal(t, 1, ends)
		}
		if depth == 0 {
			return
		}
		for _, in := range inputs() {
			to, effects, _ := next(s, inbound, in)
			more := 0
			if to == Terminated {
				more = count(effects, notify)
			}
			walk(to, inbound, depth-1, ends+more)
		}
	}
	walk(StateNew, false, 5, 0)
	walk(Ringing, true, 5, 0)
}

// TestDocument keeps docs/dialog-states.md the picture of the machine.
func TestDocument(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("| state | direction | input | becomes | and then, in this order |\n|---|---|---|---|---|\n")
	for _, s := range States() {
		for _, inbound := range []bool{false, true} {
			direction := "outbound"
			if inbound {
				direction = "inbound"
			}
			if inbound && (s == StateNew || s == Calling) {
				continue // an inbound dialog begins RINGING
			}
			for _, in := range inputs() {
				to, effects, ok := next(s, inbound, in)
				if !ok {
					continue
				}
				words := make([]string, len(effects))
				for i, e := range effects {
					words[i] = e.String()
				}
				fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", s, direction, in, to, strings.Join(words, ", "))
			}
		}
	}
	const path, begin, end = "../docs/dialog-states.md", "<!-- table -->\n", "<!-- end of table -->"
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	head, rest, ok := strings.Cut(string(text), begin)
	require.True(t, ok, "the document has no table")
	_, tail, ok := strings.Cut(rest, end)
	require.True(t, ok, "the document's table has no end")
	want := head + begin + b.String() + end + tail
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(want), 0o600))
	}
	require.Equal(t, want, string(text), "run go test ./dialogs -update")
}
