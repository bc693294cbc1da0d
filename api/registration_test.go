package api_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/trunks"
)

func TestRegistrationIsShownAndRenewed(t *testing.T) {
	w := newWorld(t)
	const path = home + "/trunks/pbx"
	require.Equal(t, http.StatusOK, w.do(http.MethodPost, home+"/trunks",
		`{"name":"pbx","uri":"sips:pbx.example.com","username":"u","password":"p","register":true,"probe":30}`).status)
	got := w.do(http.MethodGet, path, "")
	require.Equal(t, []any{true, 30.0}, []any{got.field(t, "register"), got.field(t, "probe")})
	require.Equal(t, http.StatusNotFound, w.do(http.MethodGet, path+"/registration", "").status, "nobody keeps it yet")
	require.Equal(t, http.StatusConflict, w.do(http.MethodPost, path+"/register", "").status)
	require.Equal(t, http.StatusNotFound, w.do(http.MethodPost, home+"/trunks/nope/register", "").status)
	require.Equal(t, http.StatusNotFound, w.do(http.MethodGet, home+"/trunks/nope/registration", "").status)

	key := trunks.Key{Account: "9900000", Name: "pbx"}
	expires := time.Date(2031, 2, 3, 4, 5, 6, 0, time.UTC)
	w.book.SetRegistration(key, trunks.Registered, expires, "")
	got = w.do(http.MethodGet, path+"/registration", "")
	require.Equal(t, []any{"registered", "2031-02-03T04:05:06.000Z"}, []any{got.field(t, "state"), got.field(t, "expiresTime")})
	require.Equal(t, "registered", w.do(http.MethodGet, path, "").field(t, "registration.state"))
	require.Equal(t, http.StatusOK, w.do(http.MethodPost, path+"/register", "").status)
	select {
	case <-w.book.Refreshes(key):
	default:
		require.Fail(t, "whoever keeps the registration was not told")
	}
	w.book.SetRegistration(key, trunks.Failed, time.Time{}, "192.0.2.1:5060: 403 Forbidden")
	got = w.do(http.MethodGet, path+"/registration", "")
	require.Equal(t, []any{"failed", "192.0.2.1:5060: 403 Forbidden"}, []any{got.field(t, "state"), got.field(t, "lastError")})

	require.Equal(t, 0.0, w.do(http.MethodPatch, path, `{"probe":0}`).field(t, "probe"))
	for _, body := range []string{`{"probe":0.5}`, `{"probe":-1}`, `{"probe":"1s"}`, `{"probe":100000}`, `{"uri":"sips:a;transport=udp"}`} {
		require.Equal(t, http.StatusBadRequest, w.do(http.MethodPatch, path, body).status, body)
	}
}
