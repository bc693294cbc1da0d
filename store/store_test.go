package store_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"tandem/dialogs"
	"tandem/errs"
	"tandem/media"
	"tandem/sessions"
	"tandem/store"
	"tandem/store/storetest"
	"tandem/webhooks"
)

func TestMain(m *testing.M) {
	if dsn := os.Getenv(childVariable); dsn != "" {
		os.Exit(writeForEver(dsn))
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		storetest.Stop()
		os.Exit(code)
	}))
}

const account = "9900000"

// start is a time that every database can keep: whole milliseconds.
var start = time.Date(2026, 3, 1, 12, 0, 0, int(250*time.Millisecond), time.UTC)

var silent = slog.New(slog.DiscardHandler)

// databases are what the suite runs on. url gives a fresh database; durable ones survive a reopening.
var databases = []struct {
	name    string
	durable bool
	url     func(testing.TB) string
}{
	{"sqlite file", true, func(tb testing.TB) string {
		return "sqlite:" + filepath.Join(tb.TempDir(), "a folder", "100% odd?#name.db")
	}},
	{"sqlite memory", false, func(testing.TB) string { return "sqlite::memory:" }},
	{"postgres", true, storetest.Postgres},
}

// each runs a test on every database.
func each(t *testing.T, test func(t *testing.T, s *suite)) {
	t.Helper()
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) {
			s := &suite{t: t, url: d.url(t), durable: d.durable, wake: webhooks.NewWakeups()}
			s.open()
			t.Cleanup(func() { _ = s.db.Close() })
			test(t, s)
		})
	}
}

// suite is a database under test.
type suite struct {
	t       *testing.T
	url     string
	durable bool
	wake    *webhooks.Wakeups
	db      *store.DB
	made    int
}

func (s *suite) open() {
	s.t.Helper()
	db, err := store.Open(s.t.Context(), s.url, s.wake, silent)
	require.NoError(s.t, err)
	s.db = db
}

func (s *suite) reopen() {
	s.t.Helper()
	require.NoError(s.t, s.db.Close())
	s.open()
}

func (s *suite) session(id string) sessions.Session {
	s.t.Helper()
	v := sessions.Session{ID: id, Account: account, Tag: "tag of " + id, Created: start, Expires: start.Add(9 * time.Hour)}
	require.NoError(s.t, s.db.CreateSession(s.t.Context(), v))
	return v
}

func (s *suite) participant(id string) sessions.Participant {
	s.t.Helper()
	p := sessions.Participant{
		ID: id, Account: account, CallbackURL: "https://app.example.com/" + id, Tag: "tag of " + id,
		Permissions: []sessions.Permission{sessions.PublishAudio, sessions.PublishVideo}, DeviceAPIVersion: "V3", Created: start,
	}
	require.NoError(s.t, s.db.CreateParticipant(s.t.Context(), p))
	return p
}

// join puts a participant into a session as it is in the database now.
func (s *suite) join(id, session string) sessions.Participant {
	s.t.Helper()
	p, err := s.db.Participant(s.t.Context(), account, id)
	require.NoError(s.t, err)
	p.Session, p.Subscriptions = session, sessions.Subscriptions{Session: session}
	p, err = s.db.SaveMembership(s.t.Context(), p, 20)
	require.NoError(s.t, err)
	return p
}

func (s *suite) dialog(id, participant string) dialogs.Dialog {
	return dialogs.Dialog{
		ID: id, Account: account, Participant: participant, Inbound: true, State: dialogs.StateNew, To: "+15550100", From: "UNKNOWN",
		UserToUser: "abc;encoding=base64", RingTimeout: 61 * time.Second, MaxDuration: 90 * time.Minute, Created: start,
		Trunk: "carrier", Headers: map[string]string{"X-Case": "a\"b, ü"},
	}
}

func (s *suite) event(participant string) webhooks.Event {
	s.made++
	return event(participant, fmt.Sprintf("msg_%s_%d", participant, s.made))
}

func event(participant, id string) webhooks.Event {
	return webhooks.Event{
		ID: id, Account: account, URL: "https://app.example.com/cb", Name: webhooks.OnConnect, Time: start, Participant: participant,
	}
}

// drain takes every waiting event of a participant as the worker would.
func (s *suite) drain(participant string) []webhooks.Delivery {
	s.t.Helper()
	var list []webhooks.Delivery
	for {
		d, ok, err := s.db.Next(s.t.Context(), participant)
		require.NoError(s.t, err)
		if !ok {
			return list
		}
		require.NoError(s.t, s.db.Delivered(s.t.Context(), d.ID, start))
		list = append(list, d)
	}
}

// requireCode asserts an error's code and that a stranger reads message, when the code lets him read anything.
func requireCode(t *testing.T, err error, code errs.Code, message string) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, code, errs.CodeOf(err), "%v", err)
	_, ours := errors.AsType[*errs.Error](err)
	require.True(t, ours, "%v is no errs.Error", err)
	if message != "" {
		require.Equal(t, message, errs.MessageOf(err))
	}
}

func TestSessions(t *testing.T) {
	each(t, func(t *testing.T, s *suite) {
		ctx := t.Context()
		plain := sessions.Session{ID: "plain", Account: account, Passthrough: true, Created: start, Expires: start}
		require.NoError(t, s.db.CreateSession(ctx, plain))
		kept, err := s.db.Session(ctx, account, "plain")
		require.NoError(t, err)
		require.Equal(t, plain, kept)
		want := s.session("s1")
		got, err := s.db.Session(ctx, account, "s1")
		require.NoError(t, err)
		require.Equal(t, want, got)

		_, err = s.db.Session(ctx, account, "nope")
		requireCode(t, err, errs.NotFound, "session nope does not exist")
		_, err = s.db.Session(ctx, "another", "s1")
		requireCode(t, err, errs.NotFound, "session s1 does not exist")
		requireCode(t, s.db.CreateSession(ctx, want), errs.Conflict, "")

		_, err = s.db.DeleteSession(ctx, "another", "s1", noEvent)
		requireCode(t, err, errs.NotFound, "session s1 does not exist")
		members, err := s.db.DeleteSession(ctx, account, "s1", noEvent)
		require.NoError(t, err)
		require.Empty(t, members)
		_, err = s.db.DeleteSession(ctx, account, "s1", noEvent)
		requireCode(t, err, errs.NotFound, "session s1 does not exist")
	})
}

func noEvent(sessions.Participant) (webhooks.Event, bool) { return webhooks.Event{}, false }

func TestNextExpiry(t *testing.T) {
	each(t, func(t *testing.T, s *suite) {
		ctx := t.Context()
		_, ok, err := s.db.NextExpiry(ctx)
		require.NoError(t, err)
		require.False(t, ok)
		for id, after := range map[string]time.Duration{"late": 2 * time.Hour, "soon": time.Hour, "later": 3 * time.Hour} {
			require.NoError(t, s.db.CreateSession(ctx, sessions.Session{ID: id, Account: account, Created: start, Expires: start.Add(after)}))
		}
		require.NoError(t, s.db.CreateSession(ctx, sessions.Session{ID: "never", Account: account, Created: start}))
		for _, want := range []string{"soon", "late", "later"} {
			next, ok, err := s.db.NextExpiry(ctx)
			require.NoError(t, err)
			require.True(t, ok)
			require.Equal(t, want, next.ID)
			_, err = s.db.DeleteSession(ctx, account, next.ID, noEvent)
			require.NoError(t, err)
		}
		_, ok, err = s.db.NextExpiry(ctx)
		require.NoError(t, err)
		require.False(t, ok)
	})
}

func TestDeleteSession(t *testing.T) {
	each(t, func(t *testing.T, s *suite) {
		ctx := t.Context()
		s.session("s1")
		s.session("s2")
		for _, id := range []string{"p3", "p1", "p2", "other"} {
			s.participant(id)
		}
		for _, id := range []string{"p1", "p3", "p2"} {
			s.join(id, "s1")
		}
		s.join("other", "s2")
		members, err := s.db.DeleteSession(ctx, account, "s1", func(p sessions.Participant) (webhooks.Event, bool) {
			return event(p.ID, "expired_"+p.ID), p.ID != "p2"
		})
		require.NoError(t, err)
		require.Len(t, members, 3)
		for i, id := range []string{"p3", "p1", "p2"} { // as created, not as joined
			got, err := s.db.Participant(ctx, account, id)
			require.NoError(t, err)
			require.Equal(t, got, members[i])
			require.Empty(t, got.Session)
			require.True(t, got.Subscriptions.Empty())
			require.EqualValues(t, 2, got.Version)
			require.Equal(t, id != "p2", len(s.drain(id)) == 1)
		}
		other, err := s.db.Participant(ctx, account, "other")
		require.NoError(t, err)
		require.Equal(t, "s2", other.Session)
	})
}

func TestParticipants(t *testing.T) {
	each(t, func(t *testing.T, s *suite) {
		ctx := t.Context()
		want := s.participant("p1")
		got, err := s.db.Participant(ctx, account, "p1")
		require.NoError(t, err)
		require.Equal(t, want, got)
		bare := sessions.Participant{ID: "bare", Account: account, Created: start}
		require.NoError(t, s.db.CreateParticipant(ctx, bare))
		got, err = s.db.Participant(ctx, account, "bare")
		require.NoError(t, err)
		require.Equal(t, bare, got)

		_, err = s.db.Participant(ctx, account, "nope")
		requireCode(t, err, errs.NotFound, "participant nope does not exist")
		_, err = s.db.Participant(ctx, "another", "p1")
		requireCode(t, err, errs.NotFound, "participant p1 does not exist")
		requireCode(t, s.db.CreateParticipant(ctx, want), errs.Conflict, "")

		s.session("s1")
		s.join("p1", "s1")
		requireCode(t, s.db.DeleteParticipant(ctx, "another", "p1", start), errs.NotFound, "participant p1 does not exist")
		require.NoError(t, s.db.DeleteParticipant(ctx, account, "p1", time.Time{}))
		requireCode(t, s.db.DeleteParticipant(ctx, account, "p1", start), errs.NotFound, "participant p1 does not exist")
		_, err = s.db.Participant(ctx, account, "p1")
		requireCode(t, err, errs.NotFound, "participant p1 does not exist")
		members, err := s.db.Members(ctx, "s1")
		require.NoError(t, err)
		require.Empty(t, members)
		requireCode(t, s.db.CreateParticipant(ctx, want), errs.Conflict, "")
		require.NoError(t, s.db.WriteEvent(ctx, s.event("p1")), "events about deleted ones can still be written")
		require.Len(t, s.drain("p1"), 1)
	})
}

// TestHostileText: what PostgreSQL would refuse is kept, and found again, alike on both databases.
func TestHostileText(t *testing.T) {
	each(t, func(t *testing.T, s *suite) {
		ctx := t.Context()
		p := sessions.Participant{ID: "p\x00\xff", Account: account, Tag: "a\x00b\xffc'; DROP TABLE events; -- ☎", Created: start}
		require.NoError(t, s.db.CreateParticipant(ctx, p))
		got, err := s.db.Participant(ctx, account, p.ID)
		require.NoError(t, err)
		require.Equal(t, "a\uFFFDb\uFFFDc'; DROP TABLE events; -- ☎", got.Tag)
		_, err = s.db.Session(ctx, account, "\x00\xfe")
		requireCode(t, err, errs.NotFound, "")
		d := s.dialog("d1", p.ID)
		d.From, d.UserToUser = "\xf0\x00", "\x00"
		e := event(p.ID, "")
		e.Dialog = &webhooks.DialogData{ID: d.ID, From: d.From}
		require.NoError(t, failure(s.db.CreateDialog(ctx, d, e)))
	})
}

func TestSaveMembership(t *testing.T) {
	each(t, func(t *testing.T, s *suite) {
		ctx := t.Context()
		s.session("s1")
		s.session("s2")
		p := s.participant("p1")
		s.participant("p2")
		p.Session = "s1"
		p.Subscriptions.Participants = []sessions.Subscription{{Participant: "p2"}, {Participant: "p3", StreamAliases: []string{"cam", "mic"}}}
		p.Muted, p.MutedFor = true, []string{"p2", "p3"}
		saved, err := s.db.SaveMembership(ctx, p, 1)
		require.NoError(t, err)
		require.EqualValues(t, 1, saved.Version)
		got, err := s.db.Participant(ctx, account, "p1")
		require.NoError(t, err)
		require.Equal(t, saved, got)

		_, err = s.db.SaveMembership(ctx, p, 1)
		require.ErrorIs(t, err, sessions.ErrStale)

		// What a session says of codecs goes with whoever is in it.
		require.NoError(t, s.db.CreateSession(ctx, sessions.Session{ID: "plain", Account: account, Passthrough: true, Created: start}))
		other := s.participant("p4")
		for _, in := range []string{"plain", "plain", "s2", "plain", ""} {
			other.Session = in
			other, err = s.db.SaveMembership(ctx, other, 1)
			require.NoError(t, err)
			require.Equal(t, in == "plain", other.Passthrough)
			read, err := s.db.Participant(ctx, account, "p4")
			require.NoError(t, err)
			require.Equal(t, other, read)
		}

		// A full session is no obstacle to its member, nor to who leaves.
		got.Subscriptions = sessions.Subscriptions{Session: "s1"}
		got, err = s.db.SaveMembership(ctx, got, 1)
		require.NoError(t, err)

		p2, err := s.db.Participant(ctx, account, "p2")
		require.NoError(t, err)
		p2.Session = "s1"
		_, err = s.db.SaveMembership(ctx, p2, 1)
		requireCode(t, err, errs.Conflict, "session s1 has 1 participants, more are not allowed")
		p2.Session = "nope"
		_, err = s.db.SaveMembership(ctx, p2, 1)
		requireCode(t, err, errs.NotFound, "session nope does not exist")

		got.Session, got.Subscriptions = "", sessions.Subscriptions{}
		_, err = s.db.SaveMembership(ctx, got, 1)
		require.NoError(t, err)
		p2.Session = "s1"
		_, err = s.db.SaveMembership(ctx, p2, 1)
		require.NoError(t, err)

		foreign := sessions.Session{ID: "foreign", Account: "another", Created: start, Expires: start}
		require.NoError(t, s.db.CreateSession(ctx, foreign))
		p1, err := s.db.Participant(ctx, account, "p1")
		require.NoError(t, err)
		p1.Session = "foreign"
		_, err = s.db.SaveMembership(ctx, p1, 20)
		requireCode(t, err, errs.NotFound, "session foreign does not exist")

		require.NoError(t, s.db.DeleteParticipant(ctx, account, "p1", start))
		p1.Session = "s2"
		_, err = s.db.SaveMembership(ctx, p1, 20)
		requireCode(t, err, errs.NotFound, "participant p1 does not exist")
	})
}

func TestMembers(t *testing.T) {
	each(t, func(t *testing.T, s *suite) {
		s.session("s1")
		want := []string{"zoe", "adam", "mia"}
		for _, id := range want {
			s.participant(id)
		}
		for _, id := range []string{"mia", "adam", "zoe"} {
			s.join(id, "s1")
		}
		s.participant("outside")
		members, err := s.db.Members(t.Context(), "s1")
		require.NoError(t, err)
		require.Len(t, members, len(want))
		for i, id := range want {
			require.Equal(t, id, members[i].ID)
			require.EqualValues(t, 1, members[i].Version)
		}
		for _, session := range []string{"", "nope"} {
			members, err = s.db.Members(t.Context(), session)
			require.NoError(t, err)
			require.Empty(t, members)
		}
	})
}

func TestConnections(t *testing.T) {
	each(t, func(t *testing.T, s *suite) {
		ctx := t.Context()
		s.participant("p1")
		s.participant("p2")
		c := func(id, participant string) sessions.Connection {
			return sessions.Connection{ID: id, Account: account, Participant: participant, Device: "device of " + id, Opened: start}
		}
		for _, x := range []sessions.Connection{c("c2", "p2"), c("c1", "p1"), c("c3", "p1")} {
			require.NoError(t, s.db.Connected(ctx, x, s.event(x.Participant)))
		}
		requireCode(t, s.db.Connected(ctx, c("c1", "p1"), s.event("p1")), errs.Conflict, "")
		requireCode(t, s.db.Connected(ctx, c("c9", "nope"), s.event("nope")), errs.NotFound, "participant nope does not exist")
		require.NoError(t, s.db.DeleteParticipant(ctx, account, "p2", start))
		requireCode(t, s.db.Connected(ctx, c("c9", "p2"), s.event("p2")), errs.NotFound, "participant p2 does not exist")

		connections, participants, err := s.db.Connections(ctx)
		require.NoError(t, err)
		require.Equal(t, []sessions.Connection{c("c2", "p2"), c("c1", "p1"), c("c3", "p1")}, connections)
		require.Len(t, participants, 2)
		require.Equal(t, "p1", participants[0].ID)
		require.Equal(t, "https://app.example.com/p2", participants[1].CallbackURL, "deleted ones too")

		require.NoError(t, s.db.Disconnected(ctx, "c2", s.event("p2")))
		require.NoError(t, s.db.Disconnected(ctx, "c2", s.event("p2")))
		require.NoError(t, s.db.Disconnected(ctx, "c1", s.event("p1")))
		connections, participants, err = s.db.Connections(ctx)
		require.NoError(t, err)
		require.Equal(t, []sessions.Connection{c("c3", "p1")}, connections)
		require.Len(t, participants, 1)
		require.Len(t, s.drain("p2"), 2, "the second Disconnected wrote nothing")
		require.Len(t, s.drain("p1"), 3)
	})
}

func TestDialogs(t *testing.T) {
	each(t, func(t *testing.T, s *suite) {
		ctx := t.Context()
		s.participant("p1")
		s.participant("p2")
		d := s.dialog("d1", "p1")
		who, err := s.db.CreateDialog(ctx, d, s.event("p1"), s.event("p1"))
		require.NoError(t, err)
		p1, err := s.db.Participant(ctx, account, "p1")
		require.NoError(t, err)
		require.Equal(t, p1, who)
		got, err := s.db.Dialog(ctx, account, "p1", "d1")
		require.NoError(t, err)
		require.Equal(t, d, got)
		for _, wrong := range [][3]string{{account, "p1", "nope"}, {account, "p2", "d1"}, {"another", "p1", "d1"}} {
			_, err := s.db.Dialog(ctx, wrong[0], wrong[1], wrong[2])
			requireCode(t, err, errs.NotFound, "dialog "+wrong[2]+" does not exist")
			requireCode(t, s.db.DeleteDialog(ctx, wrong[0], wrong[1], wrong[2], start), errs.NotFound, "dialog "+wrong[2]+" does not exist")
			requireCode(t, s.db.SaveDialog(ctx, dialogs.Dialog{Account: wrong[0], Participant: wrong[1], ID: wrong[2]}),
				errs.NotFound, "dialog "+wrong[2]+" does not exist")
		}
		requireCode(t, failure(s.db.CreateDialog(ctx, s.dialog("d2", "nope"))), errs.NotFound, "participant nope does not exist")
		requireCode(t, failure(s.db.CreateDialog(ctx, s.dialog("d2", "p1"), s.event("p1"))), errs.Conflict,
			"participant p1 has dialog d1, which is not TERMINATED")
		requireCode(t, failure(s.db.CreateDialog(ctx, s.dialog("d1", "p2"))), errs.Conflict, "")

		// A hidden dialog still occupies its participant, is unfinished, and ends.
		require.NoError(t, s.db.DeleteDialog(ctx, account, "p1", "d1", start))
		requireCode(t, s.db.DeleteDialog(ctx, account, "p1", "d1", start), errs.NotFound, "dialog d1 does not exist")
		requireCode(t, failure(s.db.CreateDialog(ctx, s.dialog("d2", "p1"))), errs.Conflict, "")
		unfinished, err := s.db.Unfinished(ctx)
		require.NoError(t, err)
		require.Equal(t, []dialogs.Dialog{d}, unfinished)
		d.State, d.Answered, d.Ended = dialogs.Terminated, start.Add(time.Second), start.Add(time.Minute)
		d.Cause = dialogs.Cause{Reason: dialogs.FarEndBusy, Details: "486 Busy Here", SIPCode: 486}
		require.NoError(t, s.db.SaveDialog(ctx, d, s.event("p1")))
		unfinished, err = s.db.Unfinished(ctx)
		require.NoError(t, err)
		require.Empty(t, unfinished)

		second := s.dialog("d0", "p1")
		require.NoError(t, failure(s.db.CreateDialog(ctx, second)))
		second.State, second.Cause, second.Answered, second.Ended = d.State, d.Cause, d.Answered, d.Ended
		second.To, second.From = "sip:205@pbx.example", dialogs.FromUnknown // somebody else is on the phone
		second.Quality = media.Quality{
			In:        media.Way{Packets: 1 << 40, Lost: 0.1, Burst: 1.5, Jitter: 22 * time.Millisecond, Concealed: 0.11, MOS: 3.2},
			Out:       media.Way{Packets: 3, Delay: 40 * time.Millisecond, MOS: 4.1},
			RoundTrip: 123456 * time.Microsecond,
		}
		require.NoError(t, s.db.SaveDialog(ctx, second))
		got, err = s.db.Dialog(ctx, account, "p1", "d0")
		require.NoError(t, err)
		require.Equal(t, second, got)
		third := s.dialog("c0", "p1")
		require.NoError(t, failure(s.db.CreateDialog(ctx, third)))

		list, err := s.db.Dialogs(ctx, account, "p1")
		require.NoError(t, err)
		require.Equal(t, []dialogs.Dialog{second, third}, list)
		list, err = s.db.Dialogs(ctx, account, "p2")
		require.NoError(t, err)
		require.Empty(t, list)
		_, err = s.db.Dialogs(ctx, "another", "p1")
		requireCode(t, err, errs.NotFound, "participant p1 does not exist")

		require.Len(t, s.drain("p1"), 3, "what was refused wrote no event")
		require.NoError(t, s.db.DeleteParticipant(ctx, account, "p2", start))
		requireCode(t, failure(s.db.CreateDialog(ctx, s.dialog("d3", "p2"))), errs.NotFound, "participant p2 does not exist")
	})
}

func TestOutbox(t *testing.T) {
	each(t, func(t *testing.T, s *suite) {
		ctx := t.Context()
		s.participant("p1")
		s.participant("p2")
		s.wake.Take()
		waiting, err := s.db.Waiting(ctx)
		require.NoError(t, err)
		require.Empty(t, waiting)

		require.NoError(t, s.db.CreateParticipant(ctx, sessions.Participant{ID: "silent", Account: account, Created: start}))
		unheard := s.event("silent")
		unheard.URL = ""
		require.NoError(t, s.db.WriteEvent(ctx, unheard))
		_, ok, err := s.db.Next(ctx, "silent")
		require.NoError(t, err)
		require.False(t, ok, "an event without a URL never waits")
		require.Empty(t, s.wake.Take(), "and wakes nobody")

		filledIn := s.event("p1")
		filledIn.URL, filledIn.Tag = "", ""
		require.NoError(t, s.db.WriteEvent(ctx, filledIn))
		d, ok, err := s.db.Next(ctx, "p1")
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, "https://app.example.com/p1", d.URL, "the participant's")
		require.Contains(t, string(d.Body), `"tag":"tag of p1"`)
		require.NoError(t, s.db.Delivered(ctx, d.ID, start))
		s.wake.Take()

		first, second := s.event("p1"), s.event("p1")
		second.ID = ""
		require.NoError(t, s.db.WriteEvent(ctx, first))
		require.NoError(t, s.db.WriteEvent(ctx, second))
		older := s.event("p2")
		older.Time = start.Add(-time.Hour)
		require.NoError(t, s.db.WriteEvent(ctx, older))
		require.ElementsMatch(t, []string{"p1", "p2"}, s.wake.Take())
		waiting, err = s.db.Waiting(ctx)
		require.NoError(t, err)
		require.Equal(t, []string{"p2", "p1"}, waiting)

		d, ok, err = s.db.Next(ctx, "p1")
		require.NoError(t, err)
		require.True(t, ok)
		told := first
		told.Tag = "tag of p1"
		body, err := told.Body()
		require.NoError(t, err)
		require.Equal(t, webhooks.Delivery{
			ID: first.ID, Name: first.Name, Account: account, Participant: "p1", Sequence: 2, URL: first.URL, Body: body, Created: start,
		}, d)

		require.NoError(t, s.db.Failed(ctx, first.ID, "503 Service Unavailable", start.Add(time.Second), false))
		d, _, err = s.db.Next(ctx, "p1")
		require.NoError(t, err)
		require.Equal(t, 1, d.Attempts)
		require.Equal(t, start.Add(time.Second), d.NotBefore)
		require.NoError(t, s.db.Failed(ctx, first.ID, "timed out", time.Time{}, true))
		require.NoError(t, s.db.Delivered(ctx, first.ID, start), "given up already: nothing changes")

		d, ok, err = s.db.Next(ctx, "p1")
		require.NoError(t, err)
		require.True(t, ok)
		require.EqualValues(t, 3, d.Sequence)
		require.Regexp(t, `^msg_[0-9A-V]{26}$`, d.ID)
		require.NoError(t, s.db.Delivered(ctx, d.ID, start))
		require.NoError(t, s.db.Failed(ctx, d.ID, "late", start, false), "delivered already: nothing changes")
		_, ok, err = s.db.Next(ctx, "p1")
		require.NoError(t, err)
		require.False(t, ok)

		requireCode(t, s.db.WriteEvent(ctx, first), errs.Conflict, "")
		requireCode(t, s.db.WriteEvent(ctx, s.event("nope")), errs.NotFound, "participant nope does not exist")
		foreign := s.event("p1")
		foreign.Account = "another"
		requireCode(t, s.db.WriteEvent(ctx, foreign), errs.NotFound, "participant p1 does not exist")
		requireCode(t, s.db.Delivered(ctx, "nope", start), errs.NotFound, "event nope does not exist")
		requireCode(t, s.db.Failed(ctx, "nope", "", start, true), errs.NotFound, "event nope does not exist")
		require.NoError(t, s.db.WriteEvent(ctx, s.event("p1")))
		require.EqualValues(t, 4, s.drain("p1")[0].Sequence, "what was refused left no gap")
	})
}

func TestSecret(t *testing.T) {
	each(t, func(t *testing.T, s *suite) {
		ctx := t.Context()
		broken := errors.New("no randomness")
		_, err := s.db.Secret(ctx, "token key", func() ([]byte, error) { return nil, broken })
		require.ErrorIs(t, err, broken)
		var answers [8][]byte
		parallel(t, len(answers), func(i int) error {
			got, err := s.db.Secret(ctx, "token key", func() ([]byte, error) { return []byte{0, 255, byte(i)}, nil })
			answers[i] = got
			return err
		})
		for _, a := range answers {
			require.Equal(t, answers[0], a)
		}
		if s.durable {
			s.reopen()
			got, err := s.db.Secret(ctx, "token key", func() ([]byte, error) { return nil, broken })
			require.NoError(t, err)
			require.Equal(t, answers[0], got)
		}
	})
}

func TestReopen(t *testing.T) {
	each(t, func(t *testing.T, s *suite) {
		if !s.durable {
			t.Skip("a database in memory ends with the program")
		}
		ctx := t.Context()
		session := s.session("s1")
		s.participant("p1")
		p := s.join("p1", "s1")
		c := sessions.Connection{ID: "c1", Account: account, Participant: "p1", Device: "d", Opened: start}
		require.NoError(t, s.db.Connected(ctx, c, s.event("p1")))
		d := s.dialog("d1", "p1")
		require.NoError(t, failure(s.db.CreateDialog(ctx, d, s.event("p1"))))
		before, _, err := s.db.Next(ctx, "p1")
		require.NoError(t, err)

		s.reopen()
		gotSession, err := s.db.Session(ctx, account, "s1")
		require.NoError(t, err)
		require.Equal(t, session, gotSession)
		members, err := s.db.Members(ctx, "s1")
		require.NoError(t, err)
		require.Equal(t, []sessions.Participant{p}, members)
		connections, _, err := s.db.Connections(ctx)
		require.NoError(t, err)
		require.Equal(t, []sessions.Connection{c}, connections)
		unfinished, err := s.db.Unfinished(ctx)
		require.NoError(t, err)
		require.Equal(t, []dialogs.Dialog{d}, unfinished)
		after, ok, err := s.db.Next(ctx, "p1")
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, before, after)
		require.NoError(t, s.db.WriteEvent(ctx, s.event("p1")))
		require.Len(t, s.drain("p1"), 3)
	})
}

func TestCancelled(t *testing.T) {
	each(t, func(t *testing.T, s *suite) {
		s.participant("p1")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := s.db.WriteEvent(ctx, s.event("p1"))
		requireCode(t, err, errs.Internal, "internal error")
		require.ErrorIs(t, err, context.Canceled)
		_, err = s.db.Participant(ctx, account, "p1")
		require.ErrorIs(t, err, context.Canceled)
		require.NoError(t, s.db.WriteEvent(t.Context(), s.event("p1")))
		require.EqualValues(t, 1, s.drain("p1")[0].Sequence)
	})
}

// failure is the error of what returns a value too.
func failure[T any](_ T, err error) error { return err }

// TestManyEventsOfOneChange has more events than one statement inserts.
func TestManyEventsOfOneChange(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *suite) {
		s.participant("p1")
		var events []webhooks.Event
		for range 9 {
			events = append(events, s.event("p1"))
		}
		require.NoError(t, failure(s.db.CreateDialog(t.Context(), s.dialog("d1", "p1"), events...)))
		for i, e := range events {
			d, ok, err := s.db.Next(t.Context(), "p1")
			require.NoError(t, err)
			require.True(t, ok, i)
			require.Equal(t, e.ID, d.ID)
			require.Equal(t, int64(i+1), d.Sequence)
			require.NoError(t, s.db.Delivered(t.Context(), d.ID, start))
		}
	})
}
