package api_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden bodies anew")

// golden compares an answer with its file, after ids, tokens and times have got names.
func (w *world) golden(name string, got answer) {
	w.Helper()
	ids := map[string]string{}
	var pretty bytes.Buffer
	if got.body != "" {
		require.NoError(w, json.Indent(&pretty, []byte(got.body), "", "  "))
	}
	text := fmt.Sprintf("%d\n%s\n", got.status, &pretty)
	text = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`).ReplaceAllStringFunc(text, func(id string) string {
		if ids[id] == "" {
			ids[id] = fmt.Sprintf("id-%d", len(ids)+1)
		}
		return ids[id]
	})
	text = regexp.MustCompile(`eyJ[\w-]+\.[\w-]+\.[\w-]+`).ReplaceAllString(text, "jwt")
	text = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`).ReplaceAllString(text, "time")

	file := filepath.Join("testdata", name+".golden")
	if *update {
		require.NoError(w, os.MkdirAll("testdata", 0o750))
		require.NoError(w, os.WriteFile(file, []byte(text), 0o600))
	}
	want, err := os.ReadFile(file)
	require.NoError(w, err)
	require.Equal(w, string(want), text)
}

// The fourteen operations and ours, one after the other, as an application calls them.
func TestOperations(t *testing.T) {
	w := newWorld(t)

	got := w.do("POST", home+"/sessions", `{"tag":"<meeting> & more"}`)
	w.golden("createSession", got)
	room, _ := got.field(t, "id").(string)
	w.golden("getSession", w.do("GET", home+"/sessions/"+room, ""))
	w.golden("listNobody", w.do("GET", home+"/sessions/"+room+"/participants", ""))

	got = w.do("POST", home+"/participants",
		`{"callbackUrl":"https://example.com/cb?a=1&b=2","publishPermissions":["VIDEO","AUDIO"],"tag":"agent","deviceApiVersion":"v3"}`)
	w.golden("createParticipant", got)
	agent, _ := got.field(t, "participant.id").(string)
	caller := w.participant()
	w.golden("getBareParticipant", w.do("GET", home+"/participants/"+caller, ""))

	member := func(id string) string { return home + "/sessions/" + room + "/participants/" + id }
	w.golden("addParticipant", w.do("PUT", member(caller), ""))
	w.golden("addParticipantAgain", w.do("PUT", member(caller), `null`, odd))
	w.golden("addParticipantWithSubscriptions", w.do("PUT", member(agent), `{"sessionId":"`+room+`"}`))
	w.golden("getSessionSubscription", w.do("GET", member(agent)+"/subscriptions", ""))
	w.golden("getNoSubscriptions", w.do("GET", member(caller)+"/subscriptions", ""))
	w.golden("listMembers", w.do("GET", home+"/sessions/"+room+"/participants", ""))
	w.golden("setSubscriptions", w.do("PUT", member(agent)+"/subscriptions",
		`{"sessionId":"`+room+`","participants":[{"participantId":"`+caller+`","streamAliases":["mic"]}]}`))
	w.golden("getParticipant", w.do("GET", home+"/participants/"+agent, ""))
	w.golden("removeSubscriptions", w.do("PUT", member(agent)+"/subscriptions", ""))
	w.golden("getRemovedSubscriptions", w.do("GET", member(agent)+"/subscriptions", ""))

	for name, path := range map[string]string{
		"": home + "/participants/" + caller + "/dialogs", "InSession": member(caller) + "/dialogs",
	} {
		w.golden("listNoDialogs", w.do("GET", path, ""))
		got = w.do("POST", path,
			`{"type":"SIP","data":{"to":"+15550101234","from":"RESTRICTED","userToUser":"abc;encoding=hex","ringTimeout":30,"maxDuration":90.5}}`)
		w.golden("createDialog"+name, got)
		dialog, _ := got.field(t, "dialogId").(string)
		require.Equal(t, http.StatusOK, w.do("GET", path+"/"+dialog, "").status)
		w.golden("terminateDialog", w.do("PATCH", path+"/"+dialog, `{"state":"TERMINATED"}`))
		w.golden("getDialog", w.do("GET", path+"/"+dialog, ""))
		w.golden("listDialogs", w.do("GET", path, ""))
		w.golden("deleteDialog", w.do("DELETE", path+"/"+dialog, ""))
		require.Equal(t, http.StatusNotFound, w.do("GET", path+"/"+dialog, "").status)
	}

	w.golden("removeParticipant", w.do("DELETE", member(caller), ""))
	w.golden("deleteParticipant", w.do("DELETE", home+"/participants/"+caller, ""))
	require.Equal(t, http.StatusNotFound, w.do("GET", home+"/participants/"+caller, "").status)
	w.golden("deleteSession", w.do("DELETE", home+"/sessions/"+room, ""))
	w.golden("getParticipantAfterwards", w.do("GET", home+"/participants/"+agent, ""))
	w.golden("refusal", w.do("GET", home+"/sessions/"+someone, "", func(r *http.Request) { r.Header.Set("X-Request-Id", "test-1") }))
	w.golden("unauthorized", w.do("GET", home+"/sessions/"+someone, "", nobody))
	w.golden("forbidden", w.do("GET", home+"/sessions/"+someone, "", neighbour))
}
