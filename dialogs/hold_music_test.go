package dialogs_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
)

// TestHoldMusicOfWhom: a caller who is held hears the music of the number that it dialled, else that of its trunk.
func TestHoldMusicOfWhom(t *testing.T) {
	for name, c := range map[string]struct{ trunk, number, want string }{
		"of the number":  {"loud", "number.wav", "number.wav"},
		"of the trunk":   {"loud", "", "trunk.wav"},
		"of the account": {"plain", "", "account.wav"},
	} {
		t.Run(name, func(t *testing.T) {
			h := open(t)
			defer h.close(t)
			h.dir.music = map[string]string{account + " loud": "trunk.wav", account + " plain": "account.wav", account + " ": "account.wav"}
			n := h.dir.numbers[line]
			n.HoldMusic = c.number
			h.dir.numbers[line] = n
			accept, err := h.Incoming(t.Context(), dialogs.Incoming{Trunk: c.trunk, Account: account, To: line, From: "+15550123"})
			require.NoError(t, err)
			l := newLeg()
			accept(l)
			require.Eventually(t, func() bool { return h.db.lastCaller().ID != "" }, patience, time.Millisecond)
			d := h.db.lastCaller()
			ref := dialogs.Ref{Account: account, Participant: d.Participant, Dialog: d.ID}
			h.eventually(t, ref.Participant, rings)
			h.patch(t, ref, dialogs.Answered)
			l.events <- &dialogs.LegEvent{Kind: dialogs.LegHold, Hold: dialogs.Hold{ByUs: true}}
			l.withMedia(newHandset(t))
			require.Eventually(t, func() bool { return len(h.sounds.names()) > 0 }, patience, time.Millisecond)
			require.Equal(t, []string{c.want}, h.sounds.names())
			l.end(byeBye())
			require.Eventually(t, func() bool { return h.Live() == 0 }, patience, time.Millisecond)
		})
	}
}
