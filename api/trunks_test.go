package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/trunks"
)

func TestTrunksAreResources(t *testing.T) {
	w := newWorld(t)
	const path = home + "/trunks"
	made := w.do(http.MethodPost, path, `{"name":"pbx","uri":"sip:pbx.example.com;transport=tcp","username":"u","password":"hunter2",
		"allow":["192.0.2.7","10.0.0.0/8"],"inboundUsername":"in","inboundPassword":"hunter3","codecs":["PCMA"],"identity":"rpid","publicIP":"203.0.113.7","realm":"pbx",
		"countryCode":"49","numberFormat":"national","headers":["X-Case"],"prefixes":["+49"],"priority":2,"weight":3,"maxCalls":4,
		"maxCallsPerSecond":5,"answerTimeout":2.5}`)
	require.Equal(t, http.StatusOK, made.status, made.body)
	for name, want := range map[string]any{
		"name": "pbx", "uri": "sip:pbx.example.com;transport=tcp", "passwordSet": true, "inboundPasswordSet": true, "origin": "rest",
		"allow": []any{"192.0.2.7/32", "10.0.0.0/8"}, "codecs": []any{"PCMA"}, "identity": "rpid", "publicIP": "203.0.113.7", "realm": "pbx", "countryCode": "49",
		"numberFormat": "national", "headers": []any{"X-Case"}, "prefixes": []any{"+49"}, "priority": 2.0, "weight": 3.0,
		"maxCalls": 4.0, "maxCallsPerSecond": 5.0, "answerTimeout": 2.5, "srtp": "off", "dtmf": "rfc4733", "state.inService": true,
	} {
		require.Equal(t, want, made.field(t, name), name)
	}
	require.Equal(t, http.StatusConflict, w.do(http.MethodPost, path, `{"name":"pbx"}`).status)
	require.Equal(t, http.StatusOK, w.do(http.MethodPost, abroad+"/trunks", `{"name":"pbx"}`, neighbour).status, "another account's names are its own")
	require.Equal(t, http.StatusConflict, w.do(http.MethodPost, abroad+"/trunks", `{"name":"thief","allow":["10.1.2.3"]}`, neighbour).status,
		"another account's callers are not to be had")

	list := w.do(http.MethodGet, path, "")
	require.Equal(t, 2, strings.Count(list.body, `"name"`), "the file's and this one: %s", list.body)

	changed := w.do(http.MethodPatch, path+"/pbx", `{"priority":7,"password":null}`)
	require.Equal(t, http.StatusOK, changed.status, changed.body)
	require.Equal(t, []any{7.0, true, "rpid"}, []any{changed.field(t, "priority"), changed.field(t, "passwordSet"), changed.field(t, "identity")})
	replaced := w.do(http.MethodPut, path+"/pbx", `{"uri":"sip:192.0.2.9","inboundPassword":""}`)
	require.Equal(t, http.StatusOK, replaced.status, replaced.body)
	require.Equal(t, []any{1.0, true, false, "pai", "sip:192.0.2.9"}, []any{
		replaced.field(t, "priority"), replaced.field(t, "passwordSet"), replaced.field(t, "inboundPasswordSet"), replaced.field(t, "identity"), replaced.field(t, "uri"),
	})
	require.Equal(t, replaced.body, w.do(http.MethodGet, path+"/pbx", "").body)
	require.Equal(t, http.StatusNotFound, w.do(http.MethodGet, abroad+"/trunks/carrier", "", neighbour).status)
	require.Equal(t, http.StatusNotFound, w.do(http.MethodPatch, path+"/nope", `{"priority":1}`).status)

	require.Equal(t, http.StatusNoContent, w.do(http.MethodDelete, path+"/pbx", "").status)
	require.Equal(t, http.StatusNotFound, w.do(http.MethodDelete, path+"/pbx", "").status)
	require.NotContains(t, made.body+list.body+changed.body+replaced.body+w.logged.String(), "hunter", "secrets are write-only")
}

func TestTrunkRefusals(t *testing.T) {
	w := newWorld(t)
	for body, says := range map[string]string{
		`{}`:                         "name: is missing",
		`{"name":"a/b"}`:             "name: should have",
		`{"name":"a","uri":"tel:1"}`: "uri:",
		`{"name":"a","uri":7}`:       "uri: must be a string",
		`{"name":"a","allow":["10.0.0.0/8","x"]}`: "allow[1]:",
		`{"name":"a","codecs":["GSM"]}`:           "codecs[0]:",
		`{"name":"a","identity":"x"}`:             "identity:",
		`{"name":"a","inboundUsername":"x"}`:      "inboundPassword: is missing",
		`{"name":"a","countryCode":"+1"}`:         "countryCode:",
		`{"name":"a","nationalPrefix":"x"}`:       "nationalPrefix:",
		`{"name":"a","internationalPrefix":"x"}`:  "internationalPrefix:",
		`{"name":"a","numberFormat":"x"}`:         "numberFormat:",
		`{"name":"a","headers":["Subject"]}`:      "headers[0]:",
		`{"name":"a","prefixes":["49"]}`:          "prefixes[0]:",
		`{"name":"a","weight":-1}`:                "weight:",
		`{"name":"a","weight":1.5}`:               "weight: must be a whole number",
		`{"name":"a","register":"yes"}`:           "register: must be true or false",
		`{"name":"a","answerTimeout":33}`:         "answerTimeout:",
		`{"name":"a","password":"a\nb"}`:          "password:",
		`{"name":"a","realm":"a\nb"}`:             "realm:",
		`{"name":"a","publicIP":"gateway"}`:       "publicIP:",
		`{"name":"a","publicIP":"0.0.0.0"}`:       "publicIP:",
		`{"name":"a","uri":"sip:a b@192.0.2.1"}`:  "uri:",
	} {
		got := w.do(http.MethodPost, home+"/trunks", body)
		require.Equal(t, http.StatusBadRequest, got.status, body)
		require.Contains(t, got.field(t, "error"), says, body)
	}
	got := w.do(http.MethodPatch, home+"/trunks/carrier", `{"name":"other"}`)
	require.Equal(t, http.StatusBadRequest, got.status)
	require.Contains(t, got.field(t, "error"), "name: can't be changed")
}

func TestNumbersAreResources(t *testing.T) {
	w := newWorld(t)
	const path = home + "/numbers"
	made := w.do(http.MethodPost, path, `{"number":"+15550199","callbackUrl":"https://app.example.com/phone"}`)
	require.Equal(t, http.StatusOK, made.status, made.body)
	require.JSONEq(t, `{"number":"+15550199","callbackUrl":"https://app.example.com/phone",
		"answerTimeout":0,"onNoAnswer":"reject","announcement":"","announcementAnswer":false,"holdMusic":"","origin":"rest"}`, made.body)
	require.Equal(t, http.StatusConflict, w.do(http.MethodPost, path, `{"number":"+15550199"}`).status)
	require.JSONEq(t, `[`+made.body+`]`, w.do(http.MethodGet, path, "").body)
	require.JSONEq(t, `[]`, w.do(http.MethodGet, abroad+"/numbers", "", neighbour).body)
	require.Equal(t, http.StatusOK, w.do(http.MethodPatch, path+"/+15550199", `{}`).status)
	require.JSONEq(t, made.body, w.do(http.MethodGet, path+"/%2B15550199", "").body)
	require.Equal(t, "", w.do(http.MethodPut, path+"/+15550199", `{}`).field(t, "callbackUrl"))
	quiet := w.do(http.MethodPatch, path+"/+15550199",
		`{"answerTimeout":2.5,"onNoAnswer":"announcement","announcement":"closed.wav","announcementAnswer":true,"holdMusic":"music.ogg"}`)
	require.JSONEq(t, `{"number":"+15550199","callbackUrl":"","answerTimeout":2.5,"onNoAnswer":"announcement",
		"announcement":"closed.wav","announcementAnswer":true,"holdMusic":"music.ogg","origin":"rest"}`, quiet.body)
	for body, says := range map[string]string{
		`{"number":"+15550198","onNoAnswer":"sing"}`:         "onNoAnswer:",
		`{"number":"+15550198","onNoAnswer":"announcement"}`: "announcement: is missing",
		`{"number":"+15550198","announcement":"closed.wav"}`: "onNoAnswer:",
		`{"number":"+15550198","answerTimeout":601}`:         "answerTimeout:",
		`{}`: "number: is missing", `{"number":"555"}`: "number:", `{"number":"+15550198","callbackUrl":"ftp://x"}`: "callbackUrl:",
	} {
		got := w.do(http.MethodPost, path, body)
		require.Equal(t, http.StatusBadRequest, got.status, body)
		require.Contains(t, got.field(t, "error"), says)
	}
	require.Equal(t, http.StatusNoContent, w.do(http.MethodDelete, path+"/+15550199", "").status)
	require.Equal(t, http.StatusNotFound, w.do(http.MethodGet, path+"/+15550199", "").status)
}

func TestRoutesAreExplained(t *testing.T) {
	w := newWorld(t)
	require.Equal(t, http.StatusOK, w.do(http.MethodPost, home+"/trunks",
		`{"name":"german","uri":"sip:192.0.2.9","prefixes":["+49"],"countryCode":"49","numberFormat":"national"}`).status)
	require.Equal(t, http.StatusOK, w.do(http.MethodPost, abroad+"/trunks", `{"name":"hidden","uri":"sip:192.0.2.10"}`, neighbour).status)

	got := w.do(http.MethodGet, home+"/routes?to=%2B493012345&from=%2B498999999", "")
	require.Equal(t, http.StatusOK, got.status, got.body)
	require.JSONEq(t, `{"to":"+493012345","from":"+498999999","routes":[
		{"trunk":"german","rule":"prefix +49","prefix":"+49","priority":1,"weight":1,"share":1,"uri":"sip:192.0.2.9","to":"03012345","from":"08999999","identityHeader":"P-Asserted-Identity"},
		{"trunk":"carrier","rule":"prefix +","prefix":"+","priority":1,"weight":1,"share":1,"uri":"sip:192.0.2.1","to":"+493012345","from":"+498999999","identityHeader":"P-Asserted-Identity"}
	],"others":[]}`, got.body)

	got = w.do(http.MethodGet, home+"/routes?to=+15550100", "") // a + that was not escaped
	require.JSONEq(t, `[{"trunk":"german","why":"none of its prefixes (+49) matches"}]`, jsonOf(t, got.field(t, "others")))
	got = w.do(http.MethodGet, home+"/routes?to=%2B15550100&trunk=german", "")
	require.JSONEq(t, `[{"trunk":"carrier","why":"trunk \"german\" is asked for"}]`, jsonOf(t, got.field(t, "others")))
	got = w.do(http.MethodGet, home+"/routes?to=%2B88212345678", "")
	require.Equal(t, []any{403.0, "to: the account may not call +882…: its allowedPrefixes do not name that code"}, []any{got.field(t, "status"), got.field(t, "refused")})
	got = w.do(http.MethodGet, home+"/routes?to=%2B15550100&trunk=nope", "")
	require.Equal(t, []any{400.0, `trunk: there is no trunk "nope"`}, []any{got.field(t, "status"), got.field(t, "refused")})
	require.Equal(t, http.StatusBadRequest, w.do(http.MethodGet, home+"/routes", "", odd).status)
}

func TestCallsThatAreRefusedAtOnce(t *testing.T) {
	w := newWorld(t)
	require.Equal(t, http.StatusOK, w.do(http.MethodPost, home+"/trunks",
		`{"name":"narrow","uri":"sip:192.0.2.9","headers":["X-Case"],"prefixes":["+49"],"maxCalls":1}`).status)
	call := func(data string) answer {
		return w.do(http.MethodPost, home+"/participants/"+w.participant()+"/dialogs", `{"type":"SIP","data":{"from":"UNKNOWN",`+data+`}}`)
	}
	for data, want := range map[string]struct {
		status int
		field  string
		says   string
	}{
		`"to":"+15550100","headers":{"X-Case":"1"}`:                    {400, "error", `headers.X-Case: trunk "carrier" does not let it pass`},
		`"to":"+493012345","trunk":"narrow","headers":{"X-Other":"1"}`: {400, "error", `headers.X-Other: trunk "narrow" does not let it pass`},
		`"to":"+493012345","headers":{"X-Case":"a\r\nX-Evil: b"}`:      {400, "error", "headers.X-Case: must not contain control characters"},
		`"to":"+493012345","headers":{"Subject":"a"}`:                  {400, "error", "headers.Subject: the name must begin with X-"},
		`"to":"+493012345","trunk":"nope"`:                             {400, "error", `trunk: there is no trunk "nope"`},
		`"to":"sip:bob@192.0.2.99"`:                                    {403, "message", "to: the account may not call sip: URIs"},
		`"to":"+88212345678"`:                                          {403, "message", "to: the account may not call +882…"},
	} {
		got := call(data)
		require.Equal(t, want.status, got.status, "%s: %s", data, got.body)
		require.Contains(t, got.field(t, want.field), want.says)
	}
	good := call(`"to":"+493012345","trunk":"narrow","headers":{"X-Case":"4711"}`)
	require.Equal(t, http.StatusOK, good.status, good.body)
	require.Equal(t, []any{"narrow", map[string]any{"X-Case": "4711"}}, []any{good.field(t, "data.trunk"), good.field(t, "data.headers")})

	full := call(`"to":"+493012345","trunk":"narrow"`)
	require.Equal(t, http.StatusTooManyRequests, full.status, full.body)
	require.Equal(t, `trunk "narrow" takes no call: it has 1 calls, which is its maxCalls`, full.field(t, "error"))
	require.Equal(t, "2", full.header.Get("Retry-After"))
	other := call(`"to":"+493012345"`)
	require.Equal(t, http.StatusOK, other.status, "the next trunk has room: %s", other.body)
	state := w.do(http.MethodGet, home+"/trunks/narrow", "")
	require.InDelta(t, 1, state.field(t, "state.calls"), 0)
	why := w.do(http.MethodGet, home+"/routes?to=%2B493012345", "").field(t, "others")
	require.JSONEq(t, `[{"trunk":"narrow","why":"it has 1 calls, which is its maxCalls"}]`, jsonOf(t, why))
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	require.NoError(t, err)
	return string(text)
}

// TestTrunksAndNumbersAreBounded: what an account makes by REST ends at its limits, which are named; what is there stays
// and can be changed, and what is deleted makes room.
func TestTrunksAndNumbersAreBounded(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct{ path, first, second, third, again, named, says string }{
		{abroad + "/trunks", `{"name":"a"}`, `{"name":"b"}`, `{"name":"c"}`, "a trunk \"a\" already", "/a", "the account has made 2 trunks, which is its maxTrunks; delete one first"},
		{abroad + "/numbers", ``, `{"number":"+15550197"}`, `{"number":"+15550198"}`, "", "/+15550197", "the account has made 1 numbers, which is its maxNumbers; delete one first"},
	} {
		for _, body := range []string{c.first, c.second} {
			if body != "" {
				require.Equal(t, http.StatusOK, w.do(http.MethodPost, c.path, body, neighbour).status)
			}
		}
		got := w.do(http.MethodPost, c.path, c.third, neighbour)
		require.Equal(t, []any{http.StatusConflict, c.says}, []any{got.status, got.field(t, "error")})
		if c.again != "" {
			require.Contains(t, w.do(http.MethodPost, c.path, c.first, neighbour).field(t, "error"), c.again, "what is there is said to be there")
		}
		require.Equal(t, http.StatusOK, w.do(http.MethodPatch, c.path+c.named, `{}`, neighbour).status, "a change needs no room")
		require.Equal(t, http.StatusNoContent, w.do(http.MethodDelete, c.path+c.named, "", neighbour).status)
		require.Equal(t, http.StatusOK, w.do(http.MethodPost, c.path, c.third, neighbour).status)
	}
	require.Equal(t, http.StatusOK, w.do(http.MethodPost, home+"/trunks", `{"name":"c"}`).status, "another account has limits of its own, or none")
}

// TestOperatorsTrunk: nobody goes to the host of a trunk that the configuration file has for another account, and an account
// that may not call everywhere leaves its own there as they are.
func TestOperatorsTrunk(t *testing.T) {
	w := newWorld(t)
	for path, uri := range map[string]string{home: "sip:192.0.2.2:5070", abroad: "sip:192.0.2.1"} {
		var user []as
		if path == abroad {
			user = append(user, neighbour)
		}
		post := w.do(http.MethodPost, path+"/trunks", `{"name":"thief","uri":"`+uri+`"}`, user...)
		require.Equal(t, http.StatusConflict, post.status, path)
		require.Contains(t, post.field(t, "error"), "uri: "+uri)
	}
	require.Equal(t, http.StatusConflict, w.do(http.MethodPost, abroad+"/trunks", `{"name":"own","uri":"sip:192.0.2.2"}`, neighbour).status)
	got := w.do(http.MethodPatch, abroad+"/trunks/gateway", `{"uri":"sip:192.0.2.66"}`, neighbour)
	require.Equal(t, []any{
		http.StatusForbidden, `uri: is for the configuration file to say, since the account has allowedPrefixes and trunk "gateway" is from there`,
	}, []any{got.status, got.field(t, "message")})
	require.Equal(t, http.StatusForbidden, w.do(http.MethodPatch, abroad+"/trunks/gateway", `{"countryCode":"49","numberFormat":"national","nationalPrefix":"00881"}`, neighbour).status)
	require.Equal(t, http.StatusOK, w.do(http.MethodPatch, abroad+"/trunks/gateway", `{"priority":3}`, neighbour).status)

	require.Equal(t, http.StatusOK, w.do(http.MethodPost, home+"/trunks", `{"name":"own","uri":"sip:192.0.2.1:5070"}`).status)
	require.Equal(t, http.StatusOK, w.do(http.MethodPatch, home+"/trunks/carrier", `{"uri":"sip:192.0.2.66","maxCalls":1}`).status)
}

// TestFilesWordStaysWhenATrunkIsReplaced: what only the file can say of a trunk is not lost by a PUT.
func TestFilesWordStaysWhenATrunkIsReplaced(t *testing.T) {
	w := newWorld(t)
	of := trunks.Trunk{Name: "carrier", Account: "9900000", URI: "sip:192.0.2.1", MaxCalls: 7, TLSCert: "own.pem", TLSKey: "own.key", Shared: true}
	require.NoError(t, w.directory.Seed(t.Context(), []trunks.Trunk{of}, nil, []trunks.Account{{ID: "9900000"}, {ID: "9900001"}}))
	require.Equal(t, http.StatusOK, w.do(http.MethodPut, home+"/trunks/carrier", `{"uri":"sip:192.0.2.1","prefixes":["+1"]}`).status)
	now := w.book.Trunk(of.Key())
	require.Zero(t, now.MaxCalls, "the rest is replaced")
	require.Equal(t, []any{true, "own.pem", "own.key"}, []any{now.Shared, now.TLSCert, now.TLSKey})
	require.Equal(t, http.StatusOK, w.do(http.MethodPost, abroad+"/trunks", `{"name":"own","uri":"sip:192.0.2.1"}`, neighbour).status)
}
