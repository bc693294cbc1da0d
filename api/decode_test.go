package api

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
	"tandem/errs"
	"tandem/sessions"
)

func TestReadParticipant(t *testing.T) {
	cases := []struct {
		name, body string
		want       sessions.NewParticipant
		refusal    string
	}{
		{name: "nothing", body: ``},
		{name: "spaces", body: " \r\n\t"},
		{name: "null", body: `null`},
		{name: "empty object", body: `{}`},
		{name: "null is absent", body: `{"tag":null,"callbackUrl":null,"publishPermissions":null,"deviceApiVersion":null}`},
		{name: "unknown fields are ignored", body: `{"colour":"red","Tag":"not tag","nested":{"a":[1]}}`},
		{
			name: "everything",
			body: `{"tag":"t","callbackUrl":"http://x","publishPermissions":["AUDIO","VIDEO"],"deviceApiVersion":"V3"}`,
			want: sessions.NewParticipant{
				Tag: "t", CallbackURL: "http://x",
				Permissions: []sessions.Permission{sessions.PublishAudio, sessions.PublishVideo},
			},
		},
		{name: "the README's version", body: `{"deviceApiVersion":"v3"}`},
		{name: "the last of two counts", body: `{"tag":"a","tag":"b"}`, want: sessions.NewParticipant{Tag: "b"}},
		{name: "V2", body: `{"deviceApiVersion":"V2"}`, refusal: `deviceApiVersion: "V2" is not supported; V3 is the version that there is`},
		{name: "another permission", body: `{"publishPermissions":["AUDIO","SCREEN"]}`, refusal: `publishPermissions[1]: "SCREEN" is not one of AUDIO, VIDEO`},
		{name: "lower case permission", body: `{"publishPermissions":["audio"]}`, refusal: `publishPermissions[0]: "audio" is not one of AUDIO, VIDEO`},
		{name: "permission null", body: `{"publishPermissions":[null]}`, refusal: `publishPermissions[0]: must be a string, not null`},
		{name: "no array", body: `{"publishPermissions":"AUDIO"}`, refusal: `publishPermissions: must be an array, not a string`},
		{name: "number for a tag", body: `{"tag":5}`, refusal: `tag: must be a string, not a number`},
		{name: "object for a tag", body: `{"tag":{}}`, refusal: `tag: must be a string, not an object`},
		{name: "boolean for a URL", body: `{"callbackUrl":true}`, refusal: `callbackUrl: must be a string, not a boolean`},
		{name: "NUL", body: `{"tag":"a\u0000"}`, refusal: `tag: must not contain the character NUL`},
		{name: "an array", body: `[]`, refusal: `body: must be a JSON object, not an array`},
		{name: "a string", body: `"x"`, refusal: `body: must be a JSON object, not a string`},
		{name: "no JSON", body: `tag=5`, refusal: `body: must be JSON: invalid character 'a' in literal true (expecting 'r') at byte 2`},
		{name: "cut off", body: `{"tag":"x"`, refusal: `body: must be JSON, but it ends too early`},
		{name: "something behind", body: `{} {}`, refusal: `body: must be one JSON object; something follows it`},
		{name: "rubbish behind", body: `{}}`, refusal: `body: must be one JSON object; something follows it`},
		{name: "no UTF-8", body: "{\"tag\":\"\xff\"}", refusal: `body: must be JSON, but it is not UTF-8`},
		{name: "too deep", body: strings.Repeat(`{"a":`, 20_000), refusal: `body: must be JSON: invalid character '{' exceeded max depth at byte 50001`},
		{
			name: "a long value is cut", body: `{"deviceApiVersion":"` + strings.Repeat("é", 100) + `"}`,
			refusal: `deviceApiVersion: "` + strings.Repeat("é", 32) + `…" is not supported; V3 is the version that there is`,
		},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			var got sessions.NewParticipant
			err := decodeBytes([]byte(tc.body), func(body object) { got = readParticipant(body) })
			checkRefusal(t, tc.refusal, err)
			if err == nil {
				tc.want.DeviceAPIVersion = "V3"
				require.Equal(t, tc.want, got)
			}
		})
	}
}

func TestReadSubscriptions(t *testing.T) {
	cases := []struct {
		name, body string
		want       sessions.Subscriptions
		refusal    string
	}{
		{name: "nothing", body: ``},
		{name: "session", body: `{"sessionId":"s"}`, want: sessions.Subscriptions{Session: "s"}},
		{
			name: "streams", body: `{"sessionId":"s","participants":[{"participantId":"p"},{"participantId":"q","streamAliases":["mic","screen"]}]}`,
			want: sessions.Subscriptions{Session: "s", Participants: []sessions.Subscription{
				{Participant: "p"}, {Participant: "q", StreamAliases: []string{"mic", "screen"}},
			}},
		},
		{name: "no id", body: `{"participants":[{"participantId":"p"},{}]}`, refusal: `participants[1].participantId: is missing; must be a participant's id`},
		{name: "id null", body: `{"participants":[{"participantId":null}]}`, refusal: `participants[0].participantId: is missing; must be a participant's id`},
		{name: "plain ids", body: `{"participants":["p"]}`, refusal: `participants[0]: must be an object, not a string`},
		{name: "an object", body: `{"participants":{}}`, refusal: `participants: must be an array, not an object`},
		{name: "alias", body: `{"participants":[{"participantId":"p","streamAliases":["a",1]}]}`, refusal: `participants[0].streamAliases[1]: must be a string, not a number`},
		{name: "first complaint counts", body: `{"sessionId":1,"participants":2}`, refusal: `sessionId: must be a string, not a number`},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			var got sessions.Subscriptions
			err := decodeBytes([]byte(tc.body), func(body object) { got = readSubscriptions(body) })
			checkRefusal(t, tc.refusal, err)
			if err == nil {
				require.Equal(t, tc.want, got)
			}
		})
	}
}

func TestReadDialog(t *testing.T) {
	call := dialogs.Create{To: "+1", From: "+2"}
	cases := []struct {
		name, body string
		want       dialogs.Create
		refusal    string
	}{
		{name: "the guide's words", body: `{"dialogType":"SIP","dialogStateData":{"to":"+1","from":"+2"}}`, want: call},
		{name: "the document's words", body: `{"type":"SIP","data":{"to":"+1","from":"+2"}}`, want: call},
		{name: "mixed", body: `{"type":"SIP","dialogStateData":{"to":"+1","from":"+2"}}`, want: call},
		{name: "mixed the other way", body: `{"dialogType":"SIP","data":{"to":"+1","from":"+2"}}`, want: call},
		{
			name: "both: the guide counts",
			body: `{"type":"SIP","data":{"to":"+9"},"dialogType":"SIP","dialogStateData":{"to":"+1","from":"+2"}}`, want: call,
		},
		{
			name: "both, one of another type", refusal: `type: "FAX" is not one of SIP`,
			body: `{"type":"FAX","data":{"to":"+9"},"dialogType":"SIP","dialogStateData":{"to":"+1","from":"+2"}}`,
		},
		{
			name: "a header that is no text", refusal: `data.headers.X-A: must be a string, not a number`,
			body: `{"type":"SIP","data":{"to":"+1","from":"+2","headers":{"X-A":7}}}`,
		},
		{
			name: "headers and a trunk", body: `{"type":"SIP","data":{"to":"+1","from":"+2","trunk":"carrier","headers":{"X-A":"b","X-B":null}}}`,
			want: dialogs.Create{To: "+1", From: "+2", Trunk: "carrier", Headers: map[string]string{"X-A": "b"}},
		},
		{name: "no headers", body: `{"type":"SIP","data":{"to":"+1","from":"+2","headers":{}}}`, want: call},
		{
			name: "everything", body: `{"type":"SIP","data":{"to":"+1","from":"+2","userToUser":"u;encoding=jwt","ringTimeout":12.5,"maxDuration":3600}}`,
			want: dialogs.Create{To: "+1", From: "+2", UserToUser: "u;encoding=jwt", RingTimeout: 12500 * time.Millisecond, MaxDuration: time.Hour},
		},
		{name: "nothing", body: ``, refusal: `dialogType: is missing; must be SIP`},
		{name: "another type", body: `{"type":"FAX","data":{"to":"+1","from":"+2"}}`, refusal: `type: "FAX" is not one of SIP`},
		{name: "empty type", body: `{"dialogType":""}`, refusal: `dialogType: "" is not one of SIP`},
		{name: "no data", body: `{"type":"SIP"}`, refusal: `data.to: is missing; must be the number to call, such as +16136211234`},
		{name: "no data in the guide's words", body: `{"dialogType":"SIP"}`, refusal: `dialogStateData.to: is missing; must be the number to call, such as +16136211234`},
		{name: "no from", body: `{"type":"SIP","data":{"to":"+1"}}`, refusal: `data.from: is missing; must be the caller's number, or UNKNOWN, or RESTRICTED`},
		{name: "data no object", body: `{"type":"SIP","data":"+1"}`, refusal: `data: must be an object, not a string`},
		{name: "number as a number", body: `{"type":"SIP","data":{"to":16136211234,"from":"+2"}}`, refusal: `data.to: must be a string, not a number`},
		{name: "zero time-out", body: `{"type":"SIP","data":{"to":"+1","from":"+2","ringTimeout":0}}`, refusal: `data.ringTimeout: must be more than 0 and at most 600 seconds`},
		{name: "negative", body: `{"type":"SIP","data":{"to":"+1","from":"+2","maxDuration":-1}}`, refusal: `data.maxDuration: must be more than 0 and at most 86400 seconds`},
		{name: "huge", body: `{"type":"SIP","data":{"to":"+1","from":"+2","maxDuration":1e999}}`, refusal: `data.maxDuration: must be more than 0 and at most 86400 seconds`},
		{name: "in words", body: `{"type":"SIP","data":{"to":"+1","from":"+2","ringTimeout":"30s"}}`, refusal: `data.ringTimeout: must be a number of seconds, not a string`},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			var got dialogs.Create
			err := decodeBytes([]byte(tc.body), func(body object) { got = readDialog(body) })
			checkRefusal(t, tc.refusal, err)
			if err == nil {
				require.Equal(t, tc.want, got)
			}
		})
	}
}

func TestReadState(t *testing.T) {
	cases := []struct {
		name, body string
		want       dialogs.State
		refusal    string
	}{
		{name: "at the top", body: `{"state":"TERMINATED"}`, want: dialogs.Terminated},
		{name: "where callbacks have it", body: `{"dialogStateData":{"state":"ANSWERED"}}`, want: dialogs.Answered},
		{name: "the top counts", body: `{"state":"NEW","dialogStateData":{"state":"ANSWERED"}}`, want: "NEW"},
		{name: "nothing", body: `{}`, refusal: `state: is missing; must be the state to go to`},
		{name: "another", body: `{"state":"HELD"}`, refusal: `state: "HELD" is not one of NEW, CALLING, RINGING, ANSWERED, TERMINATED`},
		{
			name: "another inside", body: `{"dialogStateData":{"state":"HELD"}}`,
			refusal: `dialogStateData.state: "HELD" is not one of NEW, CALLING, RINGING, ANSWERED, TERMINATED`,
		},
		{name: "no word", body: `{"state":1}`, refusal: `state: must be a string, not a number`},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			var got dialogs.Instruction
			err := decodeBytes([]byte(tc.body), func(body object) { got = readInstruction(body) })
			checkRefusal(t, tc.refusal, err)
			if err == nil {
				require.Equal(t, tc.want, got.State)
			}
		})
	}
}

func checkRefusal(t *testing.T, want string, err error) {
	t.Helper()
	if want == "" {
		require.NoError(t, err)
		return
	}
	require.EqualError(t, err, want)
	require.Equal(t, errs.Invalid, errs.CodeOf(err))
}

// FuzzBodies feeds every decoder: none may panic, a refusal is always errs.Invalid, and what is let through keeps its
// promises.
func FuzzBodies(f *testing.F) {
	for _, seed := range []string{
		``, `null`, `{}`, `[]`, `{"tag":"t","callbackUrl":"http://x","publishPermissions":["AUDIO"],"deviceApiVersion":"v3"}`,
		`{"sessionId":"s","participants":[{"participantId":"p","streamAliases":["mic"]}]}`,
		`{"dialogType":"SIP","dialogStateData":{"to":"+16136211234","from":"UNKNOWN","ringTimeout":1e-9}}`,
		`{"type":"SIP","data":{"to":"+16136211234","from":"+1","userToUser":"x","maxDuration":60}}`,
		`{"state":"TERMINATED","sipCode":486}`, `{"gather":{"digits":6,"timeout":1e9}}`, `{"play":"x","loop":1}`, `{"dialogStateData":{"state":"ANSWERED"}}`, `{"tag":"\ud800"}`, `{"a":{"a":{"a":[[[]]]}}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > maxBody {
			t.Skip("longer bodies are refused before they are read")
		}
		let := func(err error) bool {
			if err != nil {
				require.Equal(t, errs.Invalid, errs.CodeOf(err))
				require.Less(t, len(errs.MessageOf(err)), maxBody+1024)
			}
			return err == nil
		}
		var p sessions.NewParticipant
		if let(decodeBytes(raw, func(body object) { p = readParticipant(body) })) {
			require.Equal(t, "V3", p.DeviceAPIVersion)
			for _, perm := range p.Permissions {
				require.Contains(t, []sessions.Permission{"AUDIO", "VIDEO"}, perm)
			}
		}
		var d dialogs.Create
		if let(decodeBytes(raw, func(body object) { d = readDialog(body) })) {
			require.GreaterOrEqual(t, d.RingTimeout, time.Duration(0))
			require.LessOrEqual(t, d.RingTimeout, maxRingTimeout)
			require.LessOrEqual(t, d.MaxDuration, maxMaxDuration)
		}
		var i dialogs.Instruction
		if let(decodeBytes(raw, func(body object) { i = readInstruction(body) })) {
			require.False(t, i.Empty())
			require.Contains(t, append(dialogs.States(), ""), i.State)
		}
		let(decodeBytes(raw, func(body object) { readSubscriptions(body) }))
	})
}
