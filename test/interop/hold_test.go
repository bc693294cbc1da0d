package interop

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/test/harness"
)

// details waits for an onSipDialogStateChange of the phone that says so.
func (r *room) details(t *testing.T, words string) harness.Callback {
	t.Helper()
	return r.callbacks.Wait(t, words, func(c harness.Callback) bool {
		return c.Accepted && c.Text("participantId") == r.phone && c.Text("eventData", "details") == words
	})
}

// TestBaresipHolds puts the call on hold from both ends, one after the other.
func TestBaresipHolds(t *testing.T) {
	ca := harness.NewAuthority(t)
	for _, w := range ways() {
		t.Run(w.name, func(t *testing.T) {
			phone := startBaresip(t, softphone{transport: w.transport, srtp: w.srtp, hz: phoneHz, ca: ca})
			r := openRoom(t, harness.Start(t, w.config(t, ca, phone)))
			dialog := r.Call(t, r.phone, deskNumber)
			r.WaitState(t, r.phone, dialog, "ANSWERED")
			path := "/participants/" + r.phone + "/dialogs/" + dialog
			requireTone(t, r.device.WaitHeard(t, r.phone, 2*listen), harness.Rate, phoneHz)

			phone.do(t, "hold", "")
			r.details(t, "HELD BY FAR END")
			phone.do(t, "resume", "")
			r.details(t, "RESUMED BY FAR END")
			r.device.Forget()
			requireTone(t, r.device.WaitHeard(t, r.phone, 2*listen), harness.Rate, phoneHz)

			r.Must(t, http.MethodPost, path+"/hold", nil)
			r.details(t, "HELD")
			r.Must(t, http.MethodPost, path+"/resume", nil)
			r.details(t, "RESUMED")
			r.device.Forget()
			requireTone(t, r.device.WaitHeard(t, r.phone, 2*listen), harness.Rate, phoneHz)
			require.Equal(t, "ANSWERED", r.DialogState(t, r.phone, dialog))

			r.HangUp(t, r.phone, dialog)
			phone.wait(t, "CALL_CLOSED")
			requireWhole(t, phone)
		})
	}
}

// colleagues are two softphones on two trunks of one gateway; the desk's is called.
func colleagues(t *testing.T, w way) (r *room, desk, colleague *baresip, dialog string) {
	t.Helper()
	ca := harness.NewAuthority(t)
	desk = startBaresip(t, softphone{transport: w.transport, srtp: w.srtp, hz: phoneHz, ca: ca})
	colleague = startBaresip(t, softphone{transport: w.transport, srtp: w.srtp, hz: colleagueHz, ca: ca, number: colleagueNumber})
	cfg := w.config(t, ca, desk)
	cfg.Trunks[0].Prefixes = []string{deskNumber}
	other := harness.Trunk("colleague", colleague.uri(w.transport))
	other.Allow, other.SRTP = nil, cfg.Trunks[0].SRTP
	cfg.Trunks = append(cfg.Trunks, other)
	r = openRoom(t, harness.Start(t, cfg))
	dialog = r.Call(t, r.phone, deskNumber)
	r.WaitState(t, r.phone, dialog, "ANSWERED")
	requireTone(t, r.device.WaitHeard(t, r.phone, 2*listen), harness.Rate, phoneHz)
	return r, desk, colleague, dialog
}

const colleagueHz = 700

// TestBaresipTransfersUs has the softphone send us elsewhere (REFER from the far end): the browser then hears the
// colleague in the same dialog.
func TestBaresipTransfersUs(t *testing.T) {
	for _, w := range ways() {
		t.Run(w.name, func(t *testing.T) {
			r, desk, colleague, dialog := colleagues(t, w)
			desk.do(t, "transfer", colleague.aor(w.transport))
			outcome := r.callbacks.WaitEvent(t, r.phone, "onTransfer")
			require.Equal(t, "SUCCEEDED", outcome.Text("state"), "%v", outcome.Object)
			desk.wait(t, "CALL_CLOSED")
			r.device.Forget()
			requireTone(t, r.device.WaitHeard(t, r.phone, 2*listen), harness.Rate, colleagueHz)
			require.Equal(t, "ANSWERED", r.DialogState(t, r.phone, dialog))
			r.HangUp(t, r.phone, dialog)
			colleague.wait(t, "CALL_CLOSED")
			r.words(t)
			require.Equal(t, 1, count(r.callbacks.Words(r.phone), "onTransfer"))
			requireWhole(t, colleague)
		})
	}
}

// TestBaresipIsTransferred asks the softphone to call somebody else (REFER by us).
func TestBaresipIsTransferred(t *testing.T) {
	for _, w := range ways() {
		t.Run(w.name, func(t *testing.T) {
			r, _, colleague, dialog := colleagues(t, w)
			r.Must(t, http.MethodPost, "/participants/"+r.phone+"/dialogs/"+dialog+"/transfer", harness.Object{"to": colleague.aor(w.transport)})
			outcome := r.callbacks.WaitEvent(t, r.phone, "onTransfer")
			require.Equal(t, "SUCCEEDED", outcome.Text("state"), "%v", outcome.Object)
			r.WaitState(t, r.phone, dialog, "TERMINATED")
			colleague.wait(t, "CALL_ESTABLISHED")
			r.words(t)
			require.Equal(t, 1, count(r.callbacks.Words(r.phone), "onTransfer"))
		})
	}
}
