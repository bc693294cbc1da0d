package dialogs

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestToken(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"alone", "aa.bb.cc;encoding=jwt", "aa.bb.cc"},
		{"quoted", `"aa.bb.cc";encoding=jwt`, "aa.bb.cc"},
		{"encoding quoted, in capitals", `aa.bb.cc;Encoding="JWT"`, "aa.bb.cc"},
		{"spaces", ` aa.bb.cc ; purpose=x ; encoding = jwt `, "aa.bb.cc"},
		{"last of a list", "Y2FsbA==;encoding=base64,aa.bb.cc;encoding=jwt", "aa.bb.cc"},
		{"first of a list", "aa.bb.cc;encoding=jwt, Y2FsbA==;encoding=base64", "aa.bb.cc"},
		{"in the middle, after a quoted comma", `"a,b;encoding=jwt";encoding=hex,aa.bb.cc;encoding=jwt,x`, "aa.bb.cc"},
		{"after an escaped quote", `"a\",b";encoding=hex,aa.bb.cc;encoding=jwt`, "aa.bb.cc"},
		{"the first of two", "aa.bb.cc;encoding=jwt,dd.ee.ff;encoding=jwt", "aa.bb.cc"},
		{"an empty element before", ",,aa.bb.cc;encoding=jwt", "aa.bb.cc"},
		{"one that cannot be, then one that can", "a b;encoding=jwt,aa.bb.cc;encoding=jwt", "aa.bb.cc"},
		{"nothing", "", ""},
		{"another encoding", "aa.bb.cc;encoding=hex", ""},
		{"no encoding", "aa.bb.cc", ""},
		{"no data", ";encoding=jwt", ""},
		{"a quote that stays open", `"aa.bb.cc;encoding=jwt`, ""},
		{"not the characters of a token", "aa.bb$;encoding=jwt", ""},
		{"too long", strings.Repeat("a", maxTokenSearch) + ";encoding=jwt", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := Token(c.value)
			require.Equal(t, c.want, got)
			require.Equal(t, c.want != "", ok)
		})
	}
}

// FuzzUserToUser checks that a token is always made of the characters of one, and found again wherever it stands.
func FuzzUserToUser(f *testing.F) {
	f.Add(`Y2FsbA==;encoding=base64,"aa.bb.cc";encoding=jwt`)
	f.Add(`"\",;encoding=jwt`)
	f.Fuzz(func(t *testing.T, value string) {
		token, ok := Token(value)
		if !ok {
			require.Empty(t, token)
			return
		}
		require.True(t, isToken(token))
		again, ok := Token("x;encoding=hex," + token + ";encoding=jwt," + value)
		require.True(t, ok || len(value) > maxTokenSearch/2)
		if ok {
			require.Equal(t, token, again)
		}
	})
}
