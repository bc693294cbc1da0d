package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// answered makes a call that is up, and returns its path.
func (w *world) answered() (participant, dialog, path string) {
	w.Helper()
	participant = w.participant()
	got := w.do("POST", home+"/participants/"+participant+"/dialogs", strings.Replace(goodCall, "+15550101234", "+15550105", 1))
	require.Equal(w, http.StatusOK, got.status, got.body)
	dialog, _ = got.field(w, "dialogId").(string)
	path = home + "/participants/" + participant + "/dialogs/" + dialog
	w.become(path, "state", "ANSWERED")
	return participant, dialog, path
}

// become waits until a field of a dialog has a value.
func (w *world) become(path, field string, want any) {
	w.Helper()
	require.Eventually(w, func() bool { return w.do("GET", path, "").field(w, field) == want }, 10*time.Second, 5*time.Millisecond)
}

func TestHoldAndResume(t *testing.T) {
	w := newWorld(t)
	_, _, path := w.answered()
	require.Equal(t, http.StatusConflict, w.do("POST", path+"/resume", "").status)
	got := w.do("POST", path+"/hold", "")
	require.Equal(t, http.StatusAccepted, got.status, got.body)
	require.Equal(t, "ANSWERED", got.field(t, "state"))
	w.become(path, "hold.byUs", true)
	got = w.do("POST", path+"/hold", "")
	require.Equal(t, http.StatusConflict, got.status)
	require.Equal(t, "state: the dialog is on hold already", got.field(t, "error"))
	require.Equal(t, http.StatusAccepted, w.do("POST", path+"/resume", "").status)
	w.become(path, "hold.byUs", false)
	require.Equal(t, false, w.do("GET", path, "").field(t, "hold.byFarEnd"))
}

func TestTransfer(t *testing.T) {
	w := newWorld(t)
	_, first, path := w.answered()
	second, other, otherPath := w.answered()
	room := w.session()
	w.join(room, second)
	inSession := home + "/sessions/" + room + "/participants/" + second + "/dialogs/" + other
	neighbours := w.participant(neighbour)
	theirs := w.do("POST", "/v1/accounts/9900001/participants/"+neighbours+"/dialogs", strings.Replace(goodCall, "+15550101234", "+15550105", 1), neighbour)
	require.Equal(t, http.StatusOK, theirs.status, theirs.body)
	theirDialog, _ := theirs.field(t, "dialogId").(string)
	ringing := w.participant()
	rings := w.call(ringing)

	for body, want := range map[string]string{
		`{}`:                                  `to: is missing; must be the number or the sip: URI to transfer to, such as +15550105`,
		`{"to":7}`:                            `to: must be a string, not a number`,
		`{"to":"12"}`:                         `to: "12" is neither a number in E.164 format, such as +15550100, nor a sip: URI`,
		`{"to":"sip:"}`:                       `to: "sip:" is neither a number in E.164 format, such as +15550100, nor a sip: URI`,
		`{"to":"sip:a@b>\r\nX: 1"}`:           `to: "sip:a@b>\r\nX: 1" is neither a number in E.164 format, such as +15550100, nor a sip: URI`,
		`{"to":"+15550101","mode":"consult"}`: `mode: "consult" is not one of refer, bridge`,
		`{"mode":"bridge","replaces":"x"}`:    `replaces: goes with the mode refer only`,
		`{"to":"+15550101","from":"+1555"}`:   `from: goes with the mode bridge only`,
		`{"to":"+15550101","mode":"bridge","from":"me"}`: `from: "me" is neither a number in E.164 format, such as +15550100, nor UNKNOWN or RESTRICTED`,
		`{"replaces":"nope"}`:                            `replaces: "nope" is no live dialog of this account`,
		`{"replaces":"` + first + `"}`:                   `replaces: a dialog can't replace itself`,
		`{"replaces":"` + theirDialog + `"}`:             `replaces: "` + theirDialog + `" is no live dialog of this account`,
	} {
		got := w.do("POST", path+"/transfer", body)
		require.Equal(t, http.StatusBadRequest, got.status, body)
		require.Equal(t, want, got.field(t, "error"), body)
	}
	got := w.do("POST", path+"/transfer", `{"replaces":"`+rings+`"}`)
	require.Equal(t, http.StatusConflict, got.status, got.body)
	got = w.do("POST", home+"/participants/"+ringing+"/dialogs/"+rings+"/transfer", `{"to":"+15550101"}`)
	require.Equal(t, http.StatusConflict, got.status, got.body)
	require.Contains(t, got.field(t, "error"), "only one that is ANSWERED")
	require.Equal(t, http.StatusNotFound, w.do("POST", path+"x/transfer", `{"to":"+15550101"}`).status)

	got = w.do("POST", path+"/transfer", `{"to":"sip:sales@pbx.example.com","replaces":"`+other+`"}`)
	require.Equal(t, http.StatusAccepted, got.status, got.body)
	require.Equal(t, "sip:sales@pbx.example.com", got.field(t, "transfer.to"))
	require.Equal(t, "refer", got.field(t, "transfer.mode"))
	require.Equal(t, "APPLICATION", got.field(t, "transfer.by"))
	got = w.do("POST", path+"/transfer", `{"to":"+15550101"}`)
	require.Equal(t, http.StatusConflict, got.status)
	require.Equal(t, "state: a transfer to sip:sales@pbx.example.com is under way", got.field(t, "error"))
	require.Equal(t, http.StatusConflict, w.do("POST", path+"/hold", "").status)

	got = w.do("POST", inSession+"/transfer", `{"to":"+15550101","mode":"bridge"}`)
	require.Equal(t, http.StatusAccepted, got.status, got.body)
	require.Equal(t, "bridge", w.do("GET", otherPath, "").field(t, "transfer.mode"))
	require.Equal(t, http.StatusOK, w.do("PATCH", otherPath, `{"state":"TERMINATED"}`).status)
	require.Nil(t, w.do("GET", otherPath, "").field(t, "transfer"))
	require.Equal(t, http.StatusConflict, w.do("POST", otherPath+"/transfer", `{"to":"+15550101"}`).status)
}
