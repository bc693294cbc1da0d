package api_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMute(t *testing.T) {
	w := newWorld(t)
	room := w.session()
	ann, bob := w.participant(), w.participant()
	w.join(room, ann)
	inSession := home + "/sessions/" + room + "/participants/" + ann
	for _, path := range []string{home + "/participants/" + ann, inSession} {
		require.Nil(t, w.do("GET", home+"/participants/"+ann, "").field(t, "muted"))
		got := w.do("POST", path+"/mute", "")
		require.Equal(t, http.StatusOK, got.status, got.body)
		require.Equal(t, true, got.field(t, "muted"))
		require.Equal(t, true, w.do("GET", home+"/participants/"+ann, "").field(t, "muted"))
		got = w.do("POST", path+"/mute", `{"subscriber":"`+bob+`"}`)
		require.Equal(t, []any{bob}, got.field(t, "mutedFor"))
		got = w.do("POST", path+"/unmute", `{"subscriber":null}`)
		require.Equal(t, http.StatusOK, got.status, got.body)
		require.Nil(t, got.field(t, "muted"))
		require.Nil(t, got.field(t, "mutedFor"))
		w.do("POST", path+"/mute", `{"subscriber":"`+bob+`"}`)
		got = w.do("POST", path+"/unmute", `{"subscriber":"`+bob+`"}`)
		require.Nil(t, got.field(t, "mutedFor"))
	}
	theirs := w.participant(neighbour)
	for body, want := range map[string]string{
		`{"subscriber":""}`:               "subscriber: must be a participant's id, or be left out: then everybody is meant",
		`{"subscriber":7}`:                "subscriber: must be a string, not a number",
		`{"subscriber":"` + ann + `"}`:    "subscriber: must be another participant; nobody hears itself",
		`{"subscriber":"` + theirs + `"}`: `subscriber: participant "` + theirs + `" does not exist`,
	} {
		got := w.do("POST", inSession+"/mute", body)
		require.Equal(t, http.StatusBadRequest, got.status, body)
		require.Equal(t, want, got.field(t, "error"))
	}
	require.Equal(t, http.StatusNotFound, w.do("POST", home+"/sessions/"+room+"/participants/"+bob+"/mute", "").status)
	require.Equal(t, http.StatusNotFound, w.do("POST", home+"/participants/"+theirs+"/mute", "").status)
}

func TestSendKeysRefusals(t *testing.T) {
	w := newWorld(t)
	_, _, path := w.answered()
	const keys = `0-9, *, #, A-D, or "," or "w" for a pause`
	for body, want := range map[string]string{
		``:                               "digits: is missing; must be the keys to press, such as 1234#",
		`{"digits":7}`:                   "digits: must be a string, not a number",
		`{"digits":"12x"}`:               `digits: 'x' at 2 is no key; must be ` + keys,
		`{"digits":"1","duration":39}`:   "duration: must be a whole number of milliseconds, 40 to 6000",
		`{"digits":"1","duration":0}`:    "duration: must be a whole number of milliseconds, 40 to 6000",
		`{"digits":"1","gap":100.5}`:     "gap: must be a whole number of milliseconds, 40 to 6000",
		`{"digits":"1","gap":"100"}`:     "gap: must be a whole number of milliseconds, 40 to 6000",
		`{"digits":"1","gap":999999999}`: "gap: must be a whole number of milliseconds, 40 to 6000",
	} {
		got := w.do("POST", path+"/dtmf", body)
		require.Equal(t, http.StatusBadRequest, got.status, body)
		require.Equal(t, want, got.field(t, "error"), body)
	}
	got := w.do("POST", path+"/dtmf", `{"digits":"1"}`) // the telephone network of these tests has no sound
	require.Equal(t, http.StatusConflict, got.status, got.body)
	ringing := w.participant()
	rings := w.call(ringing)
	got = w.do("POST", home+"/participants/"+ringing+"/dialogs/"+rings+"/dtmf", `{"digits":"1"}`)
	require.Equal(t, http.StatusConflict, got.status, got.body)
}
