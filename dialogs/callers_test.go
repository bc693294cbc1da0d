package dialogs_test

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
	"tandem/errs"
	"tandem/sessions"
	"tandem/webhooks"
)

const (
	line  = "+15550199" // a number of the account
	quiet = "+15550198" // one whose callers hear an announcement
	says  = "+15550197" // one whose calls are answered for it
)

// directory has three numbers.
type directory struct {
	mu      sync.Mutex
	numbers map[string]dialogs.Number
	music   map[string]string // hold music, by account and trunk
}

func newDirectory() *directory {
	return &directory{numbers: map[string]dialogs.Number{
		line:  {Number: line, CallbackURL: "http://app.example.com/phone"},
		quiet: {Number: quiet, CallbackURL: "http://app.example.com/phone", AnswerTimeout: 5 * time.Second, Announcement: "closed.wav"},
		says:  {Number: says, Announcement: "closed.wav", AnnouncementAnswer: true},
	}}
}

func (d *directory) Number(of, number string) (dialogs.Number, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, ok := d.numbers[number]
	return n, ok && of == account
}

func (d *directory) HoldMusic(of, trunk string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.music[of+" "+trunk]
}

// library has every sound but missing.wav; all are silent but long.wav.
type library struct {
	mu    sync.Mutex
	asked []string
}

func newLibrary() *library { return &library{} }

func (l *library) Sound(ctx context.Context, name string) ([]int16, error) {
	l.mu.Lock()
	l.asked = append(l.asked, name)
	l.mu.Unlock()
	switch name {
	case "missing.wav":
		return nil, errs.New(errs.NotFound, "there is no sound %q", name)
	case "broken.wav":
		panic("injected")
	case "long.wav": // a minute of noise
		return slices.Repeat([]int16{8000, -8000}, 60*4000), nil
	case "hangs.wav":
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return make([]int16, 8000), nil
}

func (l *library) names() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.asked)
}

// logbook keeps what was logged.
type logbook struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *logbook) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// dialIn lets a call come in to a number.
func (h *house) dialIn(t *testing.T, number string) (dialogs.Ref, *leg) {
	t.Helper()
	accept, err := h.Incoming(t.Context(), dialogs.Incoming{
		Trunk: "carrier", Account: account, To: number, From: "+15550123", UserToUser: "cafe;encoding=hex",
		Headers: map[string]string{"X-Queue": "sales"},
	})
	require.NoError(t, err)
	l := newLeg()
	accept(l)
	synctest.Wait()
	d := h.db.lastCaller()
	return dialogs.Ref{Account: account, Participant: d.Participant, Dialog: d.ID}, l
}

// reply is the application's answer to the event of this name that came last.
func (h *house) reply(t *testing.T, ref dialogs.Ref, name webhooks.Name, body string) {
	t.Helper()
	id := ""
	for _, e := range h.drain(t, ref.Participant) {
		if e.Event == string(name) {
			id = e.ID
		}
	}
	require.NotEmpty(t, id, "no such event")
	h.Answered(t.Context(), webhooks.Answer{
		Event: id, Name: name, Account: account, Participant: ref.Participant, Body: []byte(body),
	})
	synctest.Wait()
}

func (h *house) room(t *testing.T, participant string) (string, sessions.Subscriptions) {
	t.Helper()
	p, err := h.people.Participant(t.Context(), account, participant)
	require.NoError(t, err)
	return p.Session, p.Subscriptions
}

func (h *house) session(t *testing.T) string {
	t.Helper()
	s, err := h.people.CreateSession(t.Context(), account, sessions.NewSession{})
	require.NoError(t, err)
	return s.ID
}

func only(t *testing.T, statuses chan int) int {
	t.Helper()
	require.Len(t, statuses, 1)
	return <-statuses
}

const (
	rings    = "onIncomingCall, RINGING"
	talks    = rings + ", ANSWERED, onConnect"
	hungUp   = talks + ", TERMINATED, onLeave"
	silently = rings + ", TERMINATED"
)

func TestDialledIn(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *house) {
		ref, l := h.dialIn(t, line)
		events := h.drain(t, ref.Participant)
		require.Len(t, events, 2)
		asking := events[0]
		require.Equal(t, "onIncomingCall", asking.Event)
		require.Equal(t, "RINGING", asking.State)
		require.Equal(t, ref.Dialog, asking.DialogID)
		require.Equal(t, map[string]any{
			"to": line, "from": "+15550123", "userToUser": "cafe;encoding=hex", "headers": map[string]any{"X-Queue": "sales"},
		}, asking.Data)
		d, err := h.Get(t.Context(), ref)
		require.NoError(t, err)
		require.Equal(t, dialogs.Ringing, d.State)
		p, err := h.people.Participant(t.Context(), account, ref.Participant)
		require.NoError(t, err)
		require.Equal(t, []sessions.Permission{sessions.PublishAudio}, p.Permissions)
		require.Equal(t, "http://app.example.com/phone", p.CallbackURL)
		require.Empty(t, l.answers, "it rings until the application answers")

		room := h.session(t)
		h.reply(t, ref, webhooks.OnIncomingCall, `{"state":"ANSWERED","sessionId":"`+room+`","subscriptions":{"sessionId":"`+room+`"},"later":1}`)
		require.Len(t, l.answers, 1)
		in, subs := h.room(t, ref.Participant)
		require.Equal(t, room, in)
		require.Equal(t, sessions.Subscriptions{Session: room}, subs)
		h.reply(t, ref, webhooks.OnIncomingCall, `{"state":"TERMINATED"}`)
		h.settle(t, ref.Participant, talks) // one event is answered once
		time.Sleep(time.Hour)               // and an empty session ends no call
		h.settle(t, ref.Participant, talks)
		l.end(byeBye())
		h.settle(t, ref.Participant, hungUp)
		in, _ = h.room(t, ref.Participant)
		require.Empty(t, in, "it left its session")
	})
}

// TestWhoReachesNumbers is trust: numbers are called over their own account's trunks only, and nobody else learns which
// there are.
func TestWhoReachesNumbers(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *house) {
		words := map[string]bool{}
		for name, in := range map[string]dialogs.Incoming{
			"no trunk":              {To: line},
			"another account's":     {To: line, Trunk: "other", Account: "1234567"},
			"a number of nobody":    {To: "+15550000", Trunk: "carrier", Account: account},
			"no number":             {To: "alice", Trunk: "carrier", Account: account},
			"nothing":               {Trunk: "carrier", Account: account},
			"an account, no trunk":  {To: line, Account: account},
			"a trunk of no account": {To: line, Trunk: "carrier"},
		} {
			_, err := h.Incoming(t.Context(), in)
			requireCode(t, errs.NotFound, err, "nobody answers")
			words[strings.ReplaceAll(err.Error(), in.To, "")] = true
			_ = name
		}
		require.LessOrEqual(t, len(words), 2, "all are told the same")
		require.Zero(t, h.Live())
		ref, l := h.dialIn(t, strings.TrimPrefix(line, "+"))
		require.Equal(t, line, h.drain(t, ref.Participant)[0].Data["to"], "a trunk that leaves out the plus")
		l.end(byeBye())
		synctest.Wait()
	})
}

func TestDeclined(t *testing.T) {
	t.Parallel()
	for body, status := range map[string]int{
		`{"state":"TERMINATED"}`:                                             0, // the leg's own: 603
		`{"state":"TERMINATED","reason":"FAR END BUSY"}`:                     486,
		`{"state":"TERMINATED","reason":"FAR END DECLINED"}`:                 603,
		`{"state":"TERMINATED","reason":"FAR END NOT FOUND"}`:                404,
		`{"state":"TERMINATED","reason":"BUSY"}`:                             486,
		`{"state":"TERMINATED","sipCode":488}`:                               488,
		`{"state":"TERMINATED","sipCode":480,"reason":"FAR END BUSY"}`:       480,
		`{"dialogStateData":{"state":"TERMINATED"},"reason":"FAR END BUSY"}`: 486,
	} {
		for _, how := range []string{"answer", "PATCH"} {
			t.Run(how+" "+body, func(t *testing.T) {
				t.Parallel()
				inBubble(t, func(t *testing.T, h *house) {
					ref, l := h.dialIn(t, line)
					if how == "PATCH" {
						i, err := dialogs.ParseInstruction([]byte(body))
						require.NoError(t, err)
						d, err := h.Instruct(t.Context(), ref, i)
						require.NoError(t, err)
						require.Equal(t, dialogs.Terminated, d.State)
						synctest.Wait()
					} else {
						h.reply(t, ref, webhooks.OnIncomingCall, body)
					}
					require.Equal(t, status, only(t, l.hangups))
					h.settle(t, ref.Participant, silently)
					require.Equal(t, status, h.end(t, ref.Participant).EventData.SIPCode)
					require.Empty(t, h.end(t, ref.Participant).EventData.Reason, "it was our wish")
				})
			})
		}
	}
}

// TestBadAnswers are mistakes of the application: the call is treated as if it had not answered, and the end says why.
func TestBadAnswers(t *testing.T) {
	t.Parallel()
	for body, words := range map[string]string{
		`{"state":"MAYBE"}`:                         `"MAYBE" is not one of`,
		`{"state":"ANSWERED","sessionId":"none"}`:   "session none does not exist",
		`{"state":"ANSWERED","sessionId":7}`:        "sessionId: must be a string",
		`{"state":"ANSWERED","subscriptions":{}}`:   "goes with sessionId",
		`{"sessionId":"x"}`:                         "goes with the state ANSWERED",
		`{"state":"TERMINATED","sipCode":200}`:      "from 400 to 699",
		`{"state":"TERMINATED","sipCode":401}`:      "credentials",
		`{"state":"TERMINATED","reason":"RAINING"}`: `"RAINING" is not one of`,
		`{"state":"CALLING"}`:                       "not to CALLING",
		`{"play":7}`:                                "play: must be a string",
		`{"play":"x","loop":"yes"}`:                 "loop: must be true or false",
		`{"gather":{"digits":0}}`:                   "from 1 to 64",
		`{"gather":{"digits":2.5}}`:                 "whole number",
		`{"gather":{"timeout":1000}}`:               "from 0.1 to 120",
		`{"gather":{"terminator":"x"}}`:             "terminator",
		`{"gather":{},"play":"x"}`:                  "does not go with gather",
		`{"gather":[]}`:                             "must be an object",
		`{"state":"ANSWERED"`:                       "must be a JSON object",
		`[]`:                                        "must be a JSON object",
		`{} {}`:                                     "something follows",
		`{"state":"ANSWERED","sessionId":"x","subscriptions":{"participants":[{}]}}`: "participants[0].participantId: is missing",
	} {
		t.Run(body, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, h *house) {
				ref, l := h.dialIn(t, line)
				h.reply(t, ref, webhooks.OnIncomingCall, body)
				require.Empty(t, l.answers)
				require.Equal(t, 480, only(t, l.hangups))
				h.settle(t, ref.Participant, silently)
				end := h.end(t, ref.Participant).EventData
				require.Equal(t, "ERROR", end.Reason)
				require.Contains(t, end.Details, words)
				require.Equal(t, 480, end.SIPCode)
				require.Contains(t, h.log.text(), "can't be followed")
			})
		})
	}
}

// TestNoAnswer is an application that is slow, away, or says nothing.
func TestNoAnswer(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *house) {
		ref, l := h.dialIn(t, line)
		h.reply(t, ref, webhooks.OnIncomingCall, `{}`) // it means to use REST
		time.Sleep(30*time.Second - time.Millisecond)
		h.settle(t, ref.Participant, rings)
		time.Sleep(time.Millisecond)
		h.settle(t, ref.Participant, silently)
		require.Equal(t, 480, only(t, l.hangups))
		require.Equal(t, "the application did not answer within 30s", h.end(t, ref.Participant).EventData.Details)
		require.Empty(t, l.progress)

		ref, l = h.dialIn(t, line)
		time.Sleep(29 * time.Second)
		h.reply(t, ref, webhooks.OnIncomingCall, `{"state":"RINGING"}`) // an answer to a later attempt
		time.Sleep(59 * time.Second)
		h.settle(t, ref.Participant, rings)
		_, err := h.Instruct(t.Context(), ref, dialogs.Instruction{State: dialogs.Ringing})
		require.NoError(t, err)
		time.Sleep(59 * time.Second)
		h.settle(t, ref.Participant, rings)
		time.Sleep(time.Second)
		h.settle(t, ref.Participant, silently)
		require.Equal(t, 480, only(t, l.hangups))
	})
}

// TestAnnouncements are numbers whose callers hear something when the application does not answer. That it is heard is
// shown with sockets; here the phone has no media, and the call ends all the same.
func TestAnnouncements(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *house) {
		ref, l := h.dialIn(t, quiet)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		require.True(t, <-l.progress, "early media")
		h.settle(t, ref.Participant, rings)
		require.Equal(t, []string{"closed.wav"}, h.sounds.asked)
		time.Sleep(15 * time.Second)
		h.settle(t, ref.Participant, silently)
		require.Equal(t, 480, only(t, l.hangups))

		ref, l = h.dialIn(t, quiet)
		time.Sleep(5 * time.Second)
		h.patch(t, ref, dialogs.Answered) // late, but not too late
		time.Sleep(time.Hour)
		h.settle(t, ref.Participant, talks)
		require.Len(t, l.answers, 1)
		l.end(byeBye())
		h.settle(t, ref.Participant, hungUp)

		ref, l = h.dialIn(t, says)
		time.Sleep(30 * time.Second)
		h.settle(t, ref.Participant, "") // it has no callback URL: its events are recorded only
		require.Len(t, l.answers, 1)
		time.Sleep(15 * time.Second)
		synctest.Wait()
		require.Len(t, l.hangups, 1)
		d, err := h.Get(t.Context(), ref)
		require.NoError(t, err)
		require.Equal(t, dialogs.Terminated, d.State)
		require.Equal(t, dialogs.NoReason, d.Cause.Reason)

		for name, i := range map[string]dialogs.Instruction{ // late, while the announcement plays to a call that was answered for it
			"to answer": {State: dialogs.Answered}, "into a session": {Session: h.session(t)}, "with a sound": {Play: &dialogs.Play{Sound: "x.wav"}},
		} {
			ref, l = h.dialIn(t, says)
			time.Sleep(31 * time.Second)
			d, err = h.Instruct(t.Context(), ref, i)
			require.NoError(t, err, name)
			require.Equal(t, dialogs.Answered, d.State, name)
			time.Sleep(time.Hour)
			synctest.Wait()
			require.Empty(t, l.hangups, name)
			require.Len(t, l.answers, 1, name)
			l.end(byeBye())
			synctest.Wait()
		}

		h.dir.mu.Lock()
		h.dir.numbers[quiet] = dialogs.Number{Number: quiet, CallbackURL: "http://app.example.com/", Announcement: "missing.wav"}
		h.dir.mu.Unlock()
		ref, l = h.dialIn(t, quiet)
		time.Sleep(30 * time.Second)
		h.settle(t, ref.Participant, silently)
		require.Equal(t, 480, only(t, l.hangups))
		require.Contains(t, h.end(t, ref.Participant).EventData.Details, "its announcement can't be played")
	})
}

func TestPlay(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *house) {
		ref, l := h.dialIn(t, line)
		h.reply(t, ref, webhooks.OnIncomingCall, `{"play":"tone:ringback"}`)
		require.True(t, <-l.progress)
		time.Sleep(59 * time.Second) // it follows the call
		h.settle(t, ref.Participant, rings)
		h.patch(t, ref, dialogs.Answered)
		i, err := dialogs.ParseInstruction([]byte(`{"play":"missing.wav"}`))
		require.NoError(t, err)
		_, err = h.Instruct(t.Context(), ref, i)
		require.NoError(t, err, "whether there is such a sound shows later")
		i, err = dialogs.ParseInstruction([]byte(`{"play":""}`))
		require.NoError(t, err)
		_, err = h.Instruct(t.Context(), ref, i)
		require.NoError(t, err)
		h.settle(t, ref.Participant, talks)
		require.Empty(t, l.progress, "once")
		l.end(byeBye())
		h.settle(t, ref.Participant, hungUp)
		_, err = h.Instruct(t.Context(), ref, i)
		requireCode(t, errs.Conflict, err, "the dialog is TERMINATED")

		ref, l = h.dialIn(t, line)
		h.reply(t, ref, webhooks.OnIncomingCall, `{"play":"hangs.wav"}`)
		l.end(byeBye()) // nobody waits for the sound
		h.settle(t, ref.Participant, silently)

		ref, l = h.dial(t)
		l.happens(dialogs.LegCalling, dialogs.LegRinging)
		synctest.Wait()
		i, err = dialogs.ParseInstruction([]byte(`{"play":"x.wav"}`))
		require.NoError(t, err)
		_, err = h.Instruct(t.Context(), ref, i)
		requireCode(t, errs.Conflict, err, "until its far end answers")
		h.patch(t, ref, dialogs.Terminated)
		synctest.Wait()
	})
}

func TestGather(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name, gather string
		press        func(h *house, ref dialogs.Ref, l *leg)
		words        string
	}{
		{"whole", `{"digits":4}`, func(h *house, ref dialogs.Ref, _ *leg) { h.Press(ref.Dialog, "4711") }, talks + ", typed 4711 by digits"},
		{"the terminator", `{"digits":6}`, func(h *house, ref dialogs.Ref, _ *leg) { h.Press(ref.Dialog, "47#") }, talks + ", typed 47 by terminator"},
		{"another one", `{"terminator":"*"}`, func(h *house, ref dialogs.Ref, _ *leg) { h.Press(ref.Dialog, "4#7*") }, talks + ", typed 4#7 by terminator"},
		{"none", `{"digits":3,"terminator":""}`, func(h *house, ref dialogs.Ref, _ *leg) { h.Press(ref.Dialog, "##*") }, talks + ", typed ##* by digits"},
		{"nothing", `{}`, func(*house, dialogs.Ref, *leg) { time.Sleep(10 * time.Second) }, talks + ", typed  by timeout"},
		{"a pause", `{"timeout":3}`, func(h *house, ref dialogs.Ref, _ *leg) {
			for range 3 {
				time.Sleep(2 * time.Second)
				h.Press(ref.Dialog, "1")
				synctest.Wait()
			}
			time.Sleep(3 * time.Second)
		}, talks + ", typed 111 by timeout"},
		{"hung up", `{"digits":4}`, func(h *house, ref dialogs.Ref, l *leg) { h.Press(ref.Dialog, "47"); l.end(byeBye()) }, talks + ", typed 47 by hangup, TERMINATED, onLeave"},
		{"the first key ends the prompt", `{"digits":2,"prompt":"pin.wav"}`, func(h *house, ref dialogs.Ref, _ *leg) {
			time.Sleep(time.Minute) // it is still played: the phone has no media here
			h.Press(ref.Dialog, "12")
		}, talks + ", typed 12 by digits"},
		{"a prompt that is not there", `{"prompt":"missing.wav"}`, func(*house, dialogs.Ref, *leg) { time.Sleep(10 * time.Second) }, talks + ", typed  by timeout"},
		{"then keys are single", `{"digits":1}`, func(h *house, ref dialogs.Ref, _ *leg) { h.Press(ref.Dialog, "12") }, talks + ", typed 1 by digits, key 2"},
		{"another gather", `{"digits":3}`, func(h *house, ref dialogs.Ref, _ *leg) {
			h.Press(ref.Dialog, "1")
			synctest.Wait()
			_, _ = h.Instruct(context.Background(), ref, dialogs.Instruction{Gather: &dialogs.Gather{Digits: 2, Timeout: time.Second}})
			h.Press(ref.Dialog, "23")
		}, talks + ", typed 1 by cancelled, typed 23 by digits"},
		{"before the answer", `{"digits":2,"answer":false}`, func(h *house, ref dialogs.Ref, _ *leg) { h.Press(ref.Dialog, "12") }, rings + ", typed 12 by digits"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, h *house) {
				ref, l := h.dialIn(t, line)
				h.reply(t, ref, webhooks.OnIncomingCall, `{"gather":`+c.gather+`}`)
				c.press(h, ref, l)
				h.settle(t, ref.Participant, c.words)
				for _, e := range h.drain(t, ref.Participant) {
					if pin := e.Digits; len(pin) > 2 && strings.Trim(pin, "0123456789") == "" {
						require.NotContains(t, h.log.text(), pin, "a PIN is in no log")
					}
				}
			})
		})
	}
}

// TestPIN is the whole way: ask, judge, put through.
func TestPIN(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *house) {
		room := h.session(t)
		ref, l := h.dialIn(t, line)
		h.reply(t, ref, webhooks.OnIncomingCall, `{"gather":{"digits":4,"timeout":5,"prompt":"pin.wav"}}`)
		h.Press(ref.Dialog, "0000")
		synctest.Wait()
		h.reply(t, ref, webhooks.OnDtmf, `{"gather":{"digits":4,"timeout":5,"prompt":"again.wav"}}`)
		h.Press(ref.Dialog, "4711")
		synctest.Wait()
		h.reply(t, ref, webhooks.OnDtmf, `{"state":"ANSWERED","sessionId":"`+room+`","subscriptions":{"sessionId":"`+room+`"},"play":"welcome.wav"}`)
		in, _ := h.room(t, ref.Participant)
		require.Equal(t, room, in)
		require.Len(t, l.answers, 1)
		h.Press(ref.Dialog, "5")
		h.settle(t, ref.Participant, talks+", typed 0000 by digits, typed 4711 by digits, key 5")

		h.reply(t, ref, webhooks.OnDtmf, `{"state":"NONSENSE"}`)
		h.reply(t, ref, webhooks.OnDtmf, `{`)
		time.Sleep(2 * time.Minute)
		h.settle(t, ref.Participant, talks+", typed 0000 by digits, typed 4711 by digits, key 5") // a mistake ends no call that is up
		h.patch(t, ref, dialogs.Terminated)
		synctest.Wait()
	})
}

// TestBadAnswerToADtmf must not end a call either.
func TestBadAnswerToADtmf(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *house) {
		ref, l := h.dialIn(t, line)
		h.reply(t, ref, webhooks.OnIncomingCall, `{"gather":{"digits":1}}`)
		h.Press(ref.Dialog, "1")
		synctest.Wait()
		h.reply(t, ref, webhooks.OnDtmf, `{"state":"NONSENSE"}`)
		time.Sleep(time.Hour)
		h.settle(t, ref.Participant, talks+", typed 1 by digits")
		require.Empty(t, l.hangups)
		h.reply(t, ref, webhooks.OnDtmf, `{"state":"TERMINATED"}`) // an event is answered once
		h.settle(t, ref.Participant, talks+", typed 1 by digits")
		l.end(byeBye())
		synctest.Wait()
	})
}

// TestCallerHangsUp counts the ends: one, whenever the caller goes.
func TestCallerHangsUp(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ body, words string }{
		"while it rings":        {"", silently},
		"in early media":        {`{"play":"tone:ringback"}`, silently},
		"while a PIN is typed":  {`{"gather":{}}`, talks + ", typed  by hangup, TERMINATED, onLeave"},
		"after it was answered": {`{"state":"ANSWERED"}`, hungUp},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, h *house) {
				ref, l := h.dialIn(t, line)
				if c.body != "" {
					h.reply(t, ref, webhooks.OnIncomingCall, c.body)
				}
				l.end(byeBye())
				h.settle(t, ref.Participant, c.words)
				h.Answered(t.Context(), webhooks.Answer{Event: h.drain(t, ref.Participant)[0].ID, Name: webhooks.OnIncomingCall, Body: []byte(`{"state":"ANSWERED"}`)})
				time.Sleep(2 * time.Minute)
				h.settle(t, ref.Participant, c.words)
				require.Empty(t, l.hangups)
			})
		})
	}
}

// TestCallersAreClearedAway keeps the participant that was made for a call for an hour, so that its dialog can be read.
func TestCallersAreClearedAway(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *house) {
		ref, l := h.dialIn(t, line)
		long, longLeg := h.dialIn(t, line)
		h.reply(t, long, webhooks.OnIncomingCall, `{"state":"ANSWERED"}`)
		ours, _ := h.participant(t)
		l.end(byeBye())
		time.Sleep(59 * time.Minute)
		d, err := h.Get(t.Context(), ref)
		require.NoError(t, err)
		require.Equal(t, dialogs.Terminated, d.State)
		time.Sleep(3 * time.Minute)
		_, err = h.Get(t.Context(), ref)
		requireCode(t, errs.NotFound, err, "does not exist")
		for _, stays := range []string{long.Participant, ours} {
			_, err = h.people.Participant(t.Context(), account, stays)
			require.NoError(t, err)
		}
		longLeg.end(byeBye())
		time.Sleep(62 * time.Minute)
		_, err = h.people.Participant(t.Context(), account, long.Participant)
		requireCode(t, errs.NotFound, err, "does not exist")
		_, err = h.people.Participant(t.Context(), account, ours)
		require.NoError(t, err, "what the application made stays")
		h.settle(t, long.Participant, hungUp)
	})
}

// TestDatabaseAwayWhenCalled refuses a caller that can't be saved, and leaves nothing behind.
func TestDatabaseAwayWhenCalled(t *testing.T) {
	t.Parallel()
	for name, loses := range map[string]int{"away": 0, "its answer is lost": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, h *house) {
				h.db.set(1-loses, loses)
				accept, err := h.Incoming(t.Context(), dialogs.Incoming{Trunk: "carrier", Account: account, To: line, From: "+15550123"})
				require.NoError(t, err)
				l := newLeg()
				accept(l)
				synctest.Wait()
				require.Equal(t, 503, only(t, l.hangups))
				time.Sleep(time.Minute)
				require.Zero(t, h.Live())
				words := ""
				if loses > 0 {
					words = silently // the row stands, and so must its end
				}
				h.settle(t, h.db.lastCaller().Participant, words)
			})
		})
	}
}

func FuzzInstruction(f *testing.F) {
	f.Add([]byte(`{"state":"ANSWERED","sessionId":"x","subscriptions":{"sessionId":"x","participants":[{"participantId":"p","streamAliases":["a"]}]}}`))
	f.Add([]byte(`{"gather":{"digits":6,"timeout":10,"prompt":"https://app.example.com/pin.wav","terminator":"#","answer":false}}`))
	f.Add([]byte(`{"state":"TERMINATED","sipCode":486,"reason":"FAR END BUSY","play":"tone:ringback","loop":true}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		i, err := dialogs.ParseInstruction(raw)
		if err != nil {
			require.Equal(t, errs.Invalid, errs.CodeOf(err))
			return
		}
		require.True(t, i.SIPCode == 0 || i.SIPCode >= 400 && i.SIPCode < 700)
		if g := i.Gather; g != nil {
			require.True(t, g.Digits > 0 && g.Digits <= 64 && g.Timeout > 0 && g.Timeout <= 2*time.Minute && len(g.Terminator) < 2)
		}
	})
}
