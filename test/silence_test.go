package test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/gateway"
	"tandem/test/harness"
)

// TestSilentCarrier calls a carrier that answers and sends no sound, as behind a NAT that drops it: the application is
// told after three seconds, and what the carrier left is not kept for ever.
func TestSilentCarrier(t *testing.T) {
	t.Parallel()
	carrier := harness.StartSIPp(t, "uas_answer")
	cfg := harness.Config(t)
	cfg.Trunks = []gateway.TrunkConfig{harness.Trunk("carrier", "sip:"+carrier.Addr)}
	cfg.Media.SilenceTimeout = 10 * time.Second
	g := harness.Start(t, cfg)
	callbacks := harness.NewCallbacks(t)
	phone, _ := g.Participant(t, callbacks.URL)
	dialog := g.Call(t, phone, "+15557777")
	told := callbacks.WaitEvent(t, phone, "onNoMedia")
	require.Equal(t, dialog, told.Text("dialogId"))
	require.Equal(t, "nothing", told.Text("seen"))
	require.Regexp(t, `^127\.0\.0\.1:\d+$`, told.Text("expected"))
	require.Equal(t, "no RTP within 3s of the answer", told.Text("details"))
	callbacks.WaitEvent(t, phone, "onDisconnect")
	require.Equal(t, []string{"CALLING", "RINGING", "ANSWERED", "onConnect", "onNoMedia", "TERMINATED", "onDisconnect"}, callbacks.Words(phone))
	got := g.Must(t, http.MethodGet, "/participants/"+phone+"/dialogs/"+dialog, nil)
	require.Equal(t, "TERMINATED", got["state"])
	carrier.Passed()
}
