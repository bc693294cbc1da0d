package dialogs_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/stretchr/testify/require"

	"tandem/dialogs"
	"tandem/errs"
	"tandem/media"
)

// TestSendKeysRefuses names the field that is wrong, before anything is asked of a call.
func TestSendKeysRefuses(t *testing.T) {
	h := open(t)
	defer h.close(t)
	for _, c := range []struct {
		keys  dialogs.Keys
		field string
	}{
		{dialogs.Keys{}, "digits"},
		{dialogs.Keys{Digits: "12x"}, "digits"},
		{dialogs.Keys{Digits: "1\x00"}, "digits"},
		{dialogs.Keys{Digits: "1é"}, "digits"},
		{dialogs.Keys{Digits: strings.Repeat("1", dialogs.MaxDigits+1)}, "digits"},
		{dialogs.Keys{Digits: "1", Duration: 39 * time.Millisecond}, "duration"},
		{dialogs.Keys{Digits: "1", Duration: 7 * time.Second}, "duration"},
		{dialogs.Keys{Digits: "1", Gap: -1}, "gap"},
		{dialogs.Keys{Digits: "1", Gap: time.Hour}, "gap"},
	} {
		_, err := h.SendKeys(t.Context(), dialogs.Ref{Account: account, Participant: "p", Dialog: "d"}, c.keys)
		require.Equal(t, errs.Invalid, errs.CodeOf(err), "%+v", c.keys)
		require.True(t, strings.HasPrefix(errs.MessageOf(err), c.field+": "), errs.MessageOf(err))
	}
}

// readKeys reads what the phone gets until it has heard so many keys, and returns them.
func (h *handset) readKeys(n int) string {
	h.t.Helper()
	var digits []byte
	buf := make([]byte, 1500)
	require.NoError(h.t, h.conn.SetReadDeadline(time.Now().Add(patience)))
	for len(digits) < n {
		size, err := h.conn.Read(buf)
		require.NoError(h.t, err)
		var p rtp.Packet
		require.NoError(h.t, p.Unmarshal(buf[:size]))
		if p.PayloadType != 101 {
			continue
		}
		for _, k := range h.keys.Packet(nil, p.Timestamp, p.Payload, time.Now()) {
			if k.Ended {
				digits = append(digits, k.Digit)
			}
		}
	}
	return string(digits)
}

// TestSendKeys presses keys on the line of a phone, in order, while the dialog is ANSWERED and only then.
func TestSendKeys(t *testing.T) {
	h, phone, _, _, ref, l := conversation(t)
	refused := func(why string) {
		t.Helper()
		_, err := h.SendKeys(t.Context(), ref, dialogs.Keys{Digits: "1"})
		require.Equal(t, errs.Conflict, errs.CodeOf(err), why)
	}
	l.happens(dialogs.LegCalling)
	refused("it does not ring yet")
	l.happens(dialogs.LegRinging)
	l.events <- &dialogs.LegEvent{Kind: dialogs.LegMedia, Port: phone.port, Media: phone.media}
	refused("it rings")
	l.happens(dialogs.LegAnswered)
	h.eventually(t, ref.Participant, "CALLING, RINGING, ANSWERED, onConnect")
	d, err := h.SendKeys(t.Context(), ref, dialogs.Keys{Digits: "1w2,", Duration: 40 * time.Millisecond, Gap: 40 * time.Millisecond})
	require.NoError(t, err)
	require.Equal(t, dialogs.Answered, d.State)
	_, err = h.SendKeys(t.Context(), ref, dialogs.Keys{Digits: "#abcD"})
	require.NoError(t, err)
	require.Equal(t, "12#ABCD", phone.readKeys(7))

	// More than may wait are refused as a whole.
	long := dialogs.Keys{Digits: strings.Repeat("7", dialogs.MaxDigits), Duration: 6 * time.Second}
	var full error
	for range 3 {
		_, full = h.SendKeys(t.Context(), ref, long)
	}
	require.Equal(t, errs.TooMany, errs.CodeOf(full))
	l.end(byeBye())
	require.Eventually(t, func() bool { return h.Live() == 0 }, patience, time.Millisecond)
	refused("it is over")
}

// TestKeysByInfo lets a trunk take and send keys by SIP INFO: what is told by events too is one press.
func TestKeysByInfo(t *testing.T) {
	h, phone, browser, _, ref, l := conversation(t)
	l.happens(dialogs.LegCalling, dialogs.LegAnswered)
	h.eventually(t, ref.Participant, "CALLING, ANSWERED, onConnect")
	early := media.Key{Digit: '0', Ended: true, Duration: 100 * time.Millisecond}
	l.events <- &dialogs.LegEvent{Kind: dialogs.LegKey, Key: early} // before there is sound
	h.eventually(t, ref.Participant, "CALLING, ANSWERED, onConnect, key 0")

	m := phone.media
	m.KeysByInfo = true
	l.events <- &dialogs.LegEvent{Kind: dialogs.LegMedia, Port: phone.port, Media: m}
	heard := make(keys, 16)
	next(t, browser.given).AddKeys(heard)
	phone.press('5')
	require.Equal(t, byte('5'), next(t, heard))
	for _, digit := range []byte("57") {
		l.events <- &dialogs.LegEvent{Kind: dialogs.LegKey, Key: media.Key{Digit: digit, Ended: true, Duration: 160 * time.Millisecond}}
	}
	require.Equal(t, byte('7'), next(t, heard), "the browser gets it as an event")
	h.eventually(t, ref.Participant, "CALLING, ANSWERED, onConnect, key 0, key 5, key 7")
	var methods []string
	for _, e := range h.drain(t, ref.Participant)[3:] {
		methods = append(methods, e.Method)
	}
	require.Equal(t, []string{"info", "rfc4733", "info"}, methods)

	_, err := h.SendKeys(t.Context(), ref, dialogs.Keys{Digits: "4#", Duration: 200 * time.Millisecond})
	require.NoError(t, err)
	require.Equal(t, infoKey{'4', 200 * time.Millisecond}, next(t, l.keys))
	require.Equal(t, infoKey{'#', 200 * time.Millisecond}, next(t, l.keys))
	l.end(byeBye())
}
