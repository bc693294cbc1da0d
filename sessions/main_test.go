package sessions_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"tandem/errs"
	"tandem/media"
	"tandem/sessions"
	"tandem/store"
)

const (
	account  = "9900000"
	patience = 10 * time.Second // how long a test waits for what must come
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// house is a service on a database of its own.
type house struct {
	*sessions.Service
	db     *store.DB
	events map[string][]event // what drain has read so far, by participant
}

// event is what a test looks at of a callback.
type event struct {
	Event, ParticipantID, DeviceID, SessionID, Tag string
	sequence                                       int64
}

func open(t testing.TB, cfg sessions.Config) *house {
	t.Helper()
	db, err := store.Open(t.Context(), "sqlite::memory:", nil, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return &house{Service: serve(cfg, db), db: db, events: map[string][]event{}}
}

func serve(cfg sessions.Config, db sessions.Store) *sessions.Service {
	return sessions.New(cfg, db, sessions.NewSigner(tokenKey, time.Hour), slog.New(slog.DiscardHandler))
}

// participant makes one that may publish everything and wants callbacks.
func (h *house) participant(t testing.TB) sessions.Participant {
	t.Helper()
	p, _, err := h.CreateParticipant(t.Context(), account, sessions.NewParticipant{
		CallbackURL: "https://app.example.com/", Permissions: []sessions.Permission{sessions.PublishAudio, sessions.PublishVideo},
	})
	require.NoError(t, err)
	return p
}

func (h *house) session(t testing.TB) string {
	t.Helper()
	s, err := h.CreateSession(t.Context(), account, sessions.NewSession{})
	require.NoError(t, err)
	return s.ID
}

// member makes a participant that is in a session.
func (h *house) member(t testing.TB, session string, subs sessions.Subscriptions) sessions.Participant {
	t.Helper()
	p := h.participant(t)
	require.NoError(t, h.Join(t.Context(), account, session, p.ID, subs))
	return p
}

// device connects a recorder as the participant's device.
func (h *house) device(t testing.TB, p sessions.Participant, name string) (*sessions.Attachment, *recorder) {
	t.Helper()
	r := newRecorder()
	a, err := h.Connect(t.Context(), p, name, r)
	require.NoError(t, err)
	return a, r
}

// phone attaches a recorder as the participant's phone leg.
func (h *house) phone(t testing.TB, p sessions.Participant) (*sessions.Attachment, *recorder) {
	t.Helper()
	r := newRecorder()
	a, err := attach(t.Context(), h.Service, p, r)
	require.NoError(t, err)
	return a, r
}

// attach brings a phone leg in as a call does.
func attach(ctx context.Context, s *sessions.Service, p sessions.Participant, ep sessions.Endpoint) (*sessions.Attachment, error) {
	a, err := s.Attach(p.Account, p.ID, ep)
	if err != nil {
		return nil, err
	}
	row, err := s.Participant(ctx, p.Account, p.ID)
	if err != nil {
		a.Detach()
		return nil, err
	}
	a.Know(row)
	return a, nil
}

// drain returns all events that were written about a participant, in order.
func (h *house) drain(t testing.TB, participant string) []event {
	t.Helper()
	for {
		d, ok, err := h.db.Next(t.Context(), participant)
		require.NoError(t, err)
		if !ok {
			return h.events[participant]
		}
		e := event{sequence: d.Sequence}
		require.NoError(t, json.Unmarshal(d.Body, &e))
		h.events[participant] = append(h.events[participant], e)
		require.NoError(t, h.db.Delivered(t.Context(), d.ID, time.Now()))
	}
}

// words is drain as "event of device".
func (h *house) words(t testing.TB, participant string) []string {
	t.Helper()
	var words []string
	for _, e := range h.drain(t, participant) {
		words = append(words, e.Event+" "+e.DeviceID)
	}
	return words
}

// recorder is an endpoint that keeps what it was told. A source that is subscribed twice, or taken away without having
// been given, is a fault.
type recorder struct {
	closed chan struct{} // closed by the first Close

	mu      sync.Mutex
	has     map[*media.Source]bool
	ever    []*media.Source // every source that was given since the last call of given
	faults  []string
	cause   error
	dialogs []sessions.DialogChange
	muted   map[*media.Source]bool
	mutes   []sessions.MuteChange
}

func newRecorder() *recorder {
	return &recorder{closed: make(chan struct{}), has: map[*media.Source]bool{}, muted: map[*media.Source]bool{}}
}

func (r *recorder) Subscribe(src *media.Source) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.has[src] {
		r.faults = append(r.faults, "subscribed twice: "+src.Stream)
	}
	r.has[src] = true
	r.ever = append(r.ever, src)
}

func (r *recorder) Unsubscribe(src *media.Source) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.has[src] {
		r.faults = append(r.faults, "unsubscribed what it had not: "+src.Stream)
	}
	delete(r.has, src)
	delete(r.muted, src)
}

func (r *recorder) Mute(src *media.Source, muted bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.muted[src] == muted {
		r.faults = append(r.faults, "muted or not already: "+src.Stream)
	}
	if muted {
		r.muted[src] = true
	} else {
		delete(r.muted, src)
	}
}

// silent lists the streams that the endpoint has without their sound.
func (r *recorder) silent() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	names := []string{}
	for src := range r.muted {
		names = append(names, src.Stream)
	}
	return names
}

// toldMutes returns the mutes that the endpoint was told of since the last call.
func (r *recorder) toldMutes() []sessions.MuteChange {
	r.mu.Lock()
	defer r.mu.Unlock()
	mutes := r.mutes
	r.mutes = nil
	return mutes
}

func (r *recorder) Close(cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cause == nil {
		r.cause = cause
		close(r.closed)
	}
}

func (r *recorder) StreamMuted(change sessions.MuteChange) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mutes = append(r.mutes, change)
}

func (r *recorder) DialogChanged(change sessions.DialogChange) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dialogs = append(r.dialogs, change)
}

// hears lists the streams that the endpoint has now.
func (r *recorder) hears(t testing.TB) []string {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	require.Empty(t, r.faults)
	names := []string{}
	for src := range r.has {
		names = append(names, src.Stream)
	}
	slices.Sort(names)
	return names
}

// given lists the streams that the endpoint was given since the last call, even if for a moment.
func (r *recorder) given() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	names := map[string]bool{}
	for _, src := range r.ever {
		names[src.Stream] = true
	}
	r.ever = nil
	return slices.Sorted(maps.Keys(names))
}

func (r *recorder) closeCause() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cause
}

func (r *recorder) told() []sessions.DialogChange {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.dialogs)
}

// voice makes a source with one audio track.
func voice(participant, stream, alias string) *media.Source {
	return &media.Source{
		Participant: participant, Stream: stream, Alias: alias,
		Tracks: []*media.Track{media.NewTrack("audio", media.Audio, media.BrowserOpus(), nil)},
	}
}

func picture(participant, stream string) *media.Source {
	return &media.Source{
		Participant: participant, Stream: stream,
		Tracks: []*media.Track{media.NewTrack("video", media.Video, media.Codec{MimeType: "video/VP8", ClockRate: 90000}, nil)},
	}
}

func everybody(session string) sessions.Subscriptions {
	return sessions.Subscriptions{Session: session}
}

func these(ids ...string) sessions.Subscriptions {
	var subs sessions.Subscriptions
	for _, id := range ids {
		subs.Participants = append(subs.Participants, sessions.Subscription{Participant: id})
	}
	return subs
}

func requireCode(t testing.TB, want errs.Code, err error, words string) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, want.String(), errs.CodeOf(err).String(), err)
	require.ErrorContains(t, err, words)
}
