package webhooks

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestBody compares what the application gets with testdata: the contract of every event.
func TestBody(t *testing.T) {
	base := Event{
		ID: "msg_1", Account: "9900000", URL: "https://app.example.com/cb", Time: time.UnixMilli(1772366400250),
		Participant: "320e2af6-13ec-498d-8b51-daba52c37853", Tag: "agent \"7\" <x>",
	}
	dialog := DialogData{
		ID: "c2f3b8a0-0000-4000-8000-000000000001", State: "TERMINATED", To: "+15550101", From: "UNKNOWN", UserToUser: "abc;encoding=hex",
		Reason: "FAR END BUSY", Details: "486 Busy Here", SIPCode: 486,
	}
	with := func(change func(*Event)) Event {
		e := base
		change(&e)
		return e
	}
	cases := []struct {
		file  string
		event Event
	}{
		{"onConnect", with(func(e *Event) { e.Name, e.Device = OnConnect, "device-1" })},
		{"onConnect_bare", with(func(e *Event) { e.Name, e.Tag = OnConnect, "" })},
		{"onLeave", with(func(e *Event) { e.Name, e.Device = OnLeave, "device-1" })},
		{"onDisconnect", with(func(e *Event) { e.Name, e.Device = OnDisconnect, "device-1" })},
		{"onSipDialogStateChange", with(func(e *Event) { e.Name, e.Dialog = OnSipDialogStateChange, &dialog })},
		{"onSipDialogStateChange_answered", with(func(e *Event) {
			e.Name, e.Dialog = OnSipDialogStateChange, &DialogData{ID: dialog.ID, State: "ANSWERED", To: dialog.To, From: dialog.From}
		})},
		{"onDtmf", with(func(e *Event) {
			e.Name, e.Dialog, e.Key = OnDtmf, &DialogData{ID: dialog.ID, State: "ANSWERED", To: dialog.To, From: dialog.From},
				&Key{Digit: "#", Duration: 160 * time.Millisecond, Method: "rfc4733"}
		})},
		{"onDtmf_gathered", with(func(e *Event) {
			e.Name, e.DialogID, e.Gather = OnDtmf, dialog.ID, &Gather{Digits: "4711", TerminatedBy: "terminator"}
		})},
		{"onMachineDetection", with(func(e *Event) { e.Name, e.DialogID, e.Verdict = OnMachineDetection, dialog.ID, "MACHINE" })},
		{"onNoMedia", with(func(e *Event) {
			e.Name, e.DialogID = OnNoMedia, dialog.ID
			e.NoMedia = &NoMedia{Expected: "192.0.2.1:4000", Seen: "nothing", Details: "no RTP within 3s of the answer"}
		})},
		{"onDtmf_nothing", with(func(e *Event) { e.Name, e.DialogID, e.Gather = OnDtmf, dialog.ID, &Gather{TerminatedBy: "timeout"} })},
		{"onIncomingCall", with(func(e *Event) {
			e.Name = OnIncomingCall
			e.Dialog = &DialogData{
				ID: dialog.ID, State: "RINGING", To: "+15550199", From: "+15550123", UserToUser: "abc;encoding=hex",
				Headers: map[string]string{"X-Queue": "sales"},
			}
		})},
		{"onTransfer", with(func(e *Event) {
			e.Name, e.DialogID = OnTransfer, dialog.ID
			e.Transfer = &Transfer{State: "FAILED", To: "+15550101", Mode: "refer", By: "APPLICATION", SIPCode: 486, Details: "486 Busy Here"}
		})},
		{"onTransfer_bare", with(func(e *Event) {
			e.Name, e.DialogID = OnTransfer, dialog.ID
			e.Transfer = &Transfer{State: "SUCCEEDED", To: "sip:sales@pbx.example.com", Mode: "bridge", By: "FAR END"}
		})},
		{"onSessionExpired", with(func(e *Event) { e.Name, e.Session = OnSessionExpired, "75c21163-e110-41bc-bd76-1bb428ec85d5" })},
	}
	seen := map[Name]bool{}
	for _, c := range cases {
		seen[c.event.Name] = true
		t.Run(c.file, func(t *testing.T) {
			body, err := c.event.Body()
			require.NoError(t, err)
			var pretty bytes.Buffer
			require.NoError(t, json.Indent(&pretty, body, "", "  "))
			pretty.WriteByte('\n')
			path := filepath.Join("testdata", c.file+".json")
			if *update {
				require.NoError(t, os.WriteFile(path, pretty.Bytes(), 0o600))
			}
			want, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, string(want), pretty.String())
		})
	}
	for _, name := range Names() {
		require.True(t, seen[name], "no golden file for %s", name)
	}
}
