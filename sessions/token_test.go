package sessions_test

import (
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"tandem/errs"
	"tandem/sessions"
)

var tokenKey = []byte("0123456789abcdef0123456789abcdef")

func TestToken(t *testing.T) {
	t.Parallel()
	signer := sessions.NewSigner(tokenKey, time.Hour)
	good, err := signer.Sign("9900000", "p1")
	require.NoError(t, err)

	var claims jwt.MapClaims
	_, _, err = jwt.NewParser().ParseUnverified(good, &claims)
	require.NoError(t, err)
	require.Equal(t, "9900000", claims["a"])
	require.Equal(t, "p1", claims["p"])
	require.Equal(t, "v3", claims["v"], "the published SDK picks its protocol by this")
	for _, name := range []string{"exp", "iss", "tid"} {
		require.Contains(t, claims, name)
	}

	expired, err := sessions.NewSigner(tokenKey, -time.Hour).Sign("9900000", "p1")
	require.NoError(t, err)
	foreign, err := sessions.NewSigner([]byte("another key of at least 32 bytes!"), time.Hour).Sign("9900000", "p1")
	require.NoError(t, err)
	parts := strings.Split(good, ".")
	other, err := signer.Sign("9900000", "p2")
	require.NoError(t, err)
	none, err := jwt.NewWithClaims(jwt.SigningMethodNone, claims).SignedString(jwt.UnsafeAllowNoneSignatureType)
	require.NoError(t, err)
	delete(claims, "exp")
	eternal, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(tokenKey)
	require.NoError(t, err)

	cases := []struct {
		name, token string
		code        errs.Code
	}{
		{"expired", expired, errs.Unauthenticated},
		{"of another gateway", foreign, errs.Forbidden},
		{"another participant's name with this signature", parts[0] + "." + strings.Split(other, ".")[1] + "." + parts[2], errs.Forbidden},
		{"without a signature", none, errs.Forbidden},
		{"that never expires", eternal, errs.Forbidden},
		{"not a token", "hello", errs.Forbidden},
		{"empty", "", errs.Forbidden},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, _, err := signer.Verify(c.token)
			require.Error(t, err)
			require.Equal(t, c.code, errs.CodeOf(err), err)
		})
	}
	account, participant, err := signer.Verify(good)
	require.NoError(t, err)
	require.Equal(t, "9900000", account)
	require.Equal(t, "p1", participant)
}
