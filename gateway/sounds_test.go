package gateway

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/trunks"
)

// TestHoldMusicOfWhom: a phone without music of its number hears that of its trunk, else that of its account, else none;
// and never that of somebody else.
func TestHoldMusicOfWhom(t *testing.T) {
	t.Parallel()
	book := trunks.NewBook()
	book.SetAccounts([]trunks.Account{{ID: "1", HoldMusic: "account.wav"}, {ID: "2"}})
	book.SetTrunks([]trunks.Trunk{
		{Name: "loud", Account: "1", URI: "sip:a", HoldMusic: "trunk.wav"},
		{Name: "plain", Account: "1", URI: "sip:b"},
		{Name: "loud", Account: "2", URI: "sip:c", HoldMusic: "theirs.wav"},
		{Name: "plain", Account: "2", URI: "sip:d"},
	}, []trunks.Number{{Number: "+15550100", Account: "1", HoldMusic: "number.wav"}, {Number: "+15550101", Account: "1"}})
	directory := numbers{book}
	for _, c := range []struct{ account, trunk, want string }{
		{"1", "loud", "trunk.wav"},
		{"1", "plain", "account.wav"},
		{"1", "", "account.wav"},
		{"1", "gone", "account.wav"},
		{"2", "loud", "theirs.wav"},
		{"2", "plain", ""},
		{"2", "", ""},
		{"3", "loud", ""},
	} {
		require.Equal(t, c.want, directory.HoldMusic(c.account, c.trunk), "account %q, trunk %q", c.account, c.trunk)
	}
	number, ok := directory.Number("1", "+15550100")
	require.True(t, ok)
	require.Equal(t, "number.wav", number.HoldMusic)
	number, ok = directory.Number("1", "+15550101")
	require.True(t, ok)
	require.Empty(t, number.HoldMusic)
}
