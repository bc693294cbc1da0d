package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every refusal of the REST API that the contract names, with its status and the words that go with it.
func TestRefusals(t *testing.T) {
	w := newWorld(t)
	full := w.session()
	for range 20 {
		w.join(full, w.participant())
	}
	room, other := w.session(), w.session()
	member, loner := w.participant(), w.participant()
	w.join(room, member)
	called := w.participant()
	dialog := w.call(called)
	over := w.participant()
	ended := w.call(over)
	require.Equal(t, http.StatusOK, w.do("PATCH", home+"/participants/"+over+"/dialogs/"+ended, `{"state":"TERMINATED"}`).status)
	theirRoom, theirs := w.session(neighbour), w.participant(neighbour)
	gone := w.session()
	require.Equal(t, http.StatusNoContent, w.do("DELETE", home+"/sessions/"+gone, "").status)

	subscriptions := home + "/sessions/" + room + "/participants/" + member + "/subscriptions"
	call := func(to, from, rest string) string {
		return fmt.Sprintf(`{"dialogType":"SIP","dialogStateData":{"to":%q,"from":%q%s}}`, to, from, rest)
	}
	cases := []struct {
		name         string
		method, path string
		body         string
		as           as
		status       int
		message      string // all of it
	}{
		// credentials
		{
			name: "no credentials", method: "GET", path: home + "/sessions/" + room, as: nobody, status: 401,
			message: `Unauthorized: send the account's user name and password with HTTP Basic`,
		},
		{
			name: "wrong password", method: "GET", path: home + "/sessions/" + room, as: wrongPassword, status: 401,
			message: `Unauthorized: send the account's user name and password with HTTP Basic`,
		},
		{
			name: "unknown user", method: "GET", path: home + "/sessions/" + room, status: 401,
			as:      func(r *http.Request) { r.SetBasicAuth("nobody", "api-pass") },
			message: `Unauthorized: send the account's user name and password with HTTP Basic`,
		},
		{
			name: "another scheme", method: "GET", path: home + "/sessions/" + room, status: 401,
			as:      func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") },
			message: `Unauthorized: send the account's user name and password with HTTP Basic`,
		},
		{
			name: "another account's path", method: "GET", path: home + "/sessions/" + room, as: neighbour, status: 403,
			message: `Forbidden: these credentials are not for account "9900000"`,
		},
		{
			name: "a path of no account", method: "POST", path: "/v1/accounts/1/sessions", status: 403,
			message: `Forbidden: these credentials are not for account "1"`,
		},
		// what is not there
		{name: "unknown path", method: "GET", path: "/v1/nothing", status: 404, message: `there is nothing at this path`},
		{name: "unknown path below the account", method: "GET", path: home + "/nothing", status: 404, message: `there is nothing at this path`},
		{name: "slash at the end", method: "POST", path: home + "/sessions/", status: 404, message: `there is nothing at this path`},
		{name: "wrong method", method: "PATCH", path: home + "/sessions", status: 405, message: `PATCH is not allowed here: POST`},
		{name: "wrong method on one", method: "PUT", path: home + "/sessions/" + room, status: 405, message: `PUT is not allowed here: GET, DELETE`},
		{
			name: "unknown session", method: "GET", path: home + "/sessions/" + someone, status: 404,
			message: `session "` + someone + `" does not exist`,
		},
		{
			name: "unknown participant", method: "DELETE", path: home + "/participants/" + someone, status: 404,
			message: `participant "` + someone + `" does not exist`,
		},
		{
			name: "deleted session", method: "DELETE", path: home + "/sessions/" + gone, status: 404,
			message: `session "` + gone + `" does not exist`,
		},
		{
			name: "another account's session", method: "GET", path: home + "/sessions/" + theirRoom, status: 404,
			message: `session "` + theirRoom + `" does not exist`,
		},
		{
			name: "another account's participant", method: "GET", path: home + "/participants/" + theirs, status: 404,
			message: `participant "` + theirs + `" does not exist`,
		},
		{
			name: "another account's participant into a session", method: "PUT", path: home + "/sessions/" + room + "/participants/" + theirs,
			status: 404, message: `participant "` + theirs + `" does not exist`,
		},
		{name: "an id with NUL", method: "GET", path: home + "/sessions/a%00b", status: 404, message: `session "a\x00b" does not exist`},
		{name: "an id that is no text", method: "GET", path: home + "/participants/%ff", status: 404, message: `participant "\xff" does not exist`},
		{
			name: "an id without end", method: "GET", path: home + "/participants/" + strings.Repeat("a", 5000), status: 404,
			message: `participant "` + strings.Repeat("a", 128) + `…" does not exist`,
		},
		{
			name: "members of no session", method: "GET", path: home + "/sessions/" + someone + "/participants", status: 404,
			message: `session "` + someone + `" does not exist`,
		},
		{
			name: "leaving without being in", method: "DELETE", path: home + "/sessions/" + room + "/participants/" + loner, status: 404,
			message: `participant "` + loner + `" is not in session "` + room + `"`,
		},
		{
			name: "subscriptions without being in", method: "GET", path: home + "/sessions/" + room + "/participants/" + loner + "/subscriptions",
			status: 404, message: `participant "` + loner + `" is not in session "` + room + `"`,
		},
		{
			name: "dialogs of no participant", method: "GET", path: home + "/participants/" + someone + "/dialogs", status: 404,
			message: `participant "` + someone + `" does not exist`,
		},
		{
			name: "unknown dialog", method: "PATCH", path: home + "/participants/" + called + "/dialogs/" + someone, body: `{"state":"TERMINATED"}`,
			status: 404, message: `dialog "` + someone + `" does not exist`,
		},
		{
			name: "another participant's dialog", method: "GET", path: home + "/participants/" + loner + "/dialogs/" + dialog, status: 404,
			message: `dialog "` + dialog + `" does not exist`,
		},
		{
			name: "dialog through a session that it is not in", method: "POST", path: home + "/sessions/" + room + "/participants/" + loner + "/dialogs",
			body: goodCall, status: 404, message: `participant "` + loner + `" is not in session "` + room + `"`,
		},
		// bodies
		{
			name: "no JSON", method: "POST", path: home + "/participants", body: `{"tag":`, status: 400,
			message: `body: must be JSON, but it ends too early`,
		},
		{
			name: "a form", method: "POST", path: home + "/participants", body: `tag=x`, status: 400,
			message: `body: must be JSON: invalid character 'a' in literal true (expecting 'r') at byte 2`,
		},
		{
			name: "too long", method: "POST", path: home + "/sessions", body: `{"x":"` + strings.Repeat("a", 256<<10) + `"}`, status: 400,
			message: `body: must be at most 262144 bytes`,
		},
		{
			name: "unknown permission", method: "POST", path: home + "/participants", body: `{"publishPermissions":["AUDIO","SCREEN"]}`, status: 400,
			message: `publishPermissions[1]: "SCREEN" is not one of AUDIO, VIDEO`,
		},
		{
			name: "old device API", method: "POST", path: home + "/participants", body: `{"deviceApiVersion":"V2"}`, status: 400,
			message: `deviceApiVersion: "V2" is not supported; V3 is the version that there is`,
		},
		{
			name: "participant's tag", method: "POST", path: home + "/participants", body: `{"tag":"` + strings.Repeat("é", 51) + `"}`, status: 400,
			message: `tag: has 51 characters, at most 50 are allowed`,
		},
		{
			name: "session's tag", method: "POST", path: home + "/sessions", body: `{"tag":"` + strings.Repeat("é", 51) + `"}`, status: 400,
			message: `tag: has 51 characters, at most 50 are allowed`,
		},
		{
			name: "callback by FTP", method: "POST", path: home + "/participants", body: `{"callbackUrl":"ftp://example.com/"}`, status: 400,
			message: `callbackUrl: must be an absolute http or https URL, such as https://example.com/callback`,
		},
		{
			name: "relative callback", method: "POST", path: home + "/participants", body: `{"callbackUrl":"/callback"}`, status: 400,
			message: `callbackUrl: must be an absolute http or https URL, such as https://example.com/callback`,
		},
		// membership and subscriptions
		{
			name: "the 21st", method: "PUT", path: home + "/sessions/" + full + "/participants/" + loner, status: 409,
			message: `session "` + full + `" is full: it has 20 participants`,
		},
		{
			name: "a second session", method: "PUT", path: home + "/sessions/" + other + "/participants/" + member, status: 409,
			message: `participant "` + member + `" is in session "` + room + `"; remove it there first`,
		},
		{
			name: "subscription to a stranger", method: "PUT", path: subscriptions, body: `{"participants":[{"participantId":"` + loner + `"}]}`, status: 400,
			message: `participants[0].participantId: "` + loner + `" is not in session "` + room + `"; add it to the session first`,
		},
		{
			name: "joining with a subscription to a stranger", method: "PUT", path: home + "/sessions/" + other + "/participants/" + loner,
			body: `{"participants":[{"participantId":"` + member + `"}]}`, status: 400,
			message: `participants[0].participantId: "` + member + `" is not in session "` + other + `"; add it to the session first`,
		},
		{
			name: "subscription to another session", method: "PUT", path: subscriptions, body: `{"sessionId":"` + other + `"}`, status: 400,
			message: `sessionId: is "` + other + `", but the path names session "` + room + `"`,
		},
		{
			name: "subscription to nobody", method: "PUT", path: subscriptions, body: `{"participants":[{}]}`, status: 400,
			message: `participants[0].participantId: is missing; must be a participant's id`,
		},
		{
			name: "joining with subscriptions of the wrong type", method: "PUT", path: home + "/sessions/" + other + "/participants/" + loner,
			body: `{"participants":"all"}`, status: 400, message: `participants: must be an array, not a string`,
		},
		// dialogs
		{
			name: "to no E.164", method: "POST", path: home + "/participants/" + loner + "/dialogs", body: call("5550101", "+15550100100", ""), status: 400,
			message: `to: "5550101" is not a number in E.164 format, such as +15550100`,
		},
		{
			name: "from no E.164", method: "POST", path: home + "/participants/" + loner + "/dialogs", body: call("+15550101234", "unknown", ""), status: 400,
			message: `from: "unknown" is neither a number in E.164 format, such as +15550100, nor UNKNOWN or RESTRICTED`,
		},
		{
			name: "header injection", method: "POST", path: home + "/participants/" + loner + "/dialogs",
			body: call("+15550101234", "UNKNOWN", `,"userToUser":"a\r\nX: y"`), status: 400, message: `userToUser: must not contain control characters`,
		},
		{
			name: "another dialog type", method: "POST", path: home + "/participants/" + loner + "/dialogs", body: `{"type":"FAX","data":{}}`, status: 400,
			message: `type: "FAX" is not one of SIP`,
		},
		{
			name: "no dialog data", method: "POST", path: home + "/participants/" + loner + "/dialogs", body: `{"type":"SIP"}`, status: 400,
			message: `data.to: is missing; must be the number to call, such as +16136211234`,
		},
		{
			name: "a time-out in words", method: "POST", path: home + "/participants/" + loner + "/dialogs",
			body: call("+15550101234", "UNKNOWN", `,"ringTimeout":"30s"`), status: 400,
			message: `dialogStateData.ringTimeout: must be a number of seconds, not a string`,
		},
		{
			name: "a second call", method: "POST", path: home + "/participants/" + called + "/dialogs", body: goodCall, status: 409,
			message: `participant "` + called + `" has a call already`,
		},
		{
			name: "unknown state", method: "PATCH", path: home + "/participants/" + called + "/dialogs/" + dialog, body: `{"state":"HELD"}`, status: 400,
			message: `state: "HELD" is not one of NEW, CALLING, RINGING, ANSWERED, TERMINATED`,
		},
		{
			name: "no state", method: "PATCH", path: home + "/participants/" + called + "/dialogs/" + dialog, body: ``, status: 400,
			message: `state: is missing; must be the state to go to`,
		},
		{
			name: "back to NEW", method: "PATCH", path: home + "/participants/" + called + "/dialogs/" + dialog, body: `{"state":"NEW"}`, status: 409,
			message: `state: a dialog can be set to RINGING, ANSWERED or TERMINATED, not to NEW`,
		},
		{
			name: "answering our own call", method: "PATCH", path: home + "/participants/" + called + "/dialogs/" + dialog, body: `{"state":"ANSWERED"}`,
			status: 409, message: `state: this dialog is outbound; only its far end can answer it`,
		},
		{
			name: "ending what is over", method: "PATCH", path: home + "/participants/" + over + "/dialogs/" + ended, body: `{"state":"TERMINATED"}`,
			status: 409, message: `state: the dialog is TERMINATED and can't become TERMINATED`,
		},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			w := &world{T: t, url: w.url, client: w.client, contract: w.contract, logged: w.logged}
			change := func(r *http.Request) { r.Header.Set("X-Request-Id", "test-1") }
			got := w.do(tc.method, tc.path, tc.body, func(r *http.Request) {
				change(r)
				if tc.as != nil {
					tc.as(r)
				}
			})
			require.Equal(t, tc.status, got.status, got.body)
			require.Equal(t, "test-1", got.header.Get("X-Request-Id"))
			switch tc.status {
			case http.StatusUnauthorized, http.StatusForbidden:
				require.Equal(t, tc.message, got.field(t, "message"))
				require.Nil(t, got.field(t, "error"))
			default:
				require.Equal(t, tc.message, got.field(t, "error"))
				require.Equal(t, "test-1", got.field(t, "requestId"))
			}
			require.Equal(t, tc.status == http.StatusUnauthorized, got.header.Get("WWW-Authenticate") != "")
			require.Equal(t, tc.status == http.StatusMethodNotAllowed, got.header.Get("Allow") != "")
		})
	}
}
