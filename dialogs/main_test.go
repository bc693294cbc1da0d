package dialogs_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"tandem/dialogs"
	"tandem/errs"
	"tandem/sessions"
	"tandem/store"
	"tandem/transcode"
	"tandem/trunks"
	"tandem/webhooks"
)

const (
	account = "9900000"
	number  = "+15550100"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// house is the service on a database of its own, with a telephone network that the test plays.
type house struct {
	*dialogs.Service
	people *sessions.Service
	db     *flaky
	engine *transcode.Engine
	phone  *network
	stop   context.CancelFunc // ends Run
	done   chan error         // what Run returned
	events map[string][]event
	dir    *directory
	sounds *library
	log    *logbook
	routes *trunks.Book // of which everybody may do everything, unless the test says otherwise
}

// open makes a house whose Run has begun. The test must call close.
func open(t *testing.T, more ...func(*dialogs.Config)) *house {
	t.Helper()
	book := &logbook{}
	log := slog.New(slog.NewTextHandler(book, &slog.HandlerOptions{Level: slog.LevelDebug}))
	db, err := store.Open(t.Context(), "sqlite::memory:", nil, log)
	require.NoError(t, err)
	h := &house{
		db: &flaky{DB: db}, phone: &network{legs: make(chan *leg, 16)}, engine: transcode.NewEngine(transcode.Config{}, log),
		done: make(chan error, 1), events: map[string][]event{}, dir: newDirectory(), sounds: newLibrary(), log: book,
		routes: trunks.NewBook(),
	}
	key := []byte(strings.Repeat("k", 32))
	h.people = sessions.New(sessions.Config{}, db, sessions.NewSigner(key, time.Hour), log)
	cfg := dialogs.Config{
		Directory: h.dir, Sounds: h.sounds, Routes: h.routes,
		NoMediaAfter: time.Hour, // most phones here have nothing to say
	}
	for _, change := range more {
		change(&cfg)
	}
	h.Service = dialogs.New(cfg, h.people, h.phone, h.engine, h.db, log)
	ctx, cancel := context.WithCancel(t.Context())
	h.stop = cancel
	go func() { h.done <- h.Run(ctx) }()
	return h
}

func (h *house) close(t *testing.T) {
	t.Helper()
	defer func() { require.NoError(t, h.db.Close()) }()
	h.stop()
	require.NoError(t, <-h.done)
	require.Zero(t, h.Live())
	require.Zero(t, h.people.Live(), "every participant was let go")
	left, err := h.db.Unfinished(context.WithoutCancel(t.Context()))
	require.NoError(t, err)
	require.Empty(t, left)
}

// inBubble runs f in a house with a clock that jumps.
func inBubble(t *testing.T, f func(t *testing.T, h *house)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		defer h.close(t)
		f(t, h)
	})
}

func (h *house) participant(t *testing.T) (id, token string) {
	t.Helper()
	p, token, err := h.people.CreateParticipant(t.Context(), account, sessions.NewParticipant{
		CallbackURL: "http://app.example.com/", Tag: "tag", Permissions: []sessions.Permission{sessions.PublishAudio},
	})
	require.NoError(t, err)
	return p.ID, token
}

// dial makes a participant and a call of it.
func (h *house) dial(t *testing.T, more ...func(*dialogs.Create)) (dialogs.Ref, *leg) {
	t.Helper()
	p, _ := h.participant(t)
	return h.dialAs(t, p, more...)
}

func (h *house) dialAs(t *testing.T, participant string, more ...func(*dialogs.Create)) (dialogs.Ref, *leg) {
	t.Helper()
	req := dialogs.Create{Account: account, Participant: participant, To: number, From: dialogs.FromUnknown}
	for _, change := range more {
		change(&req)
	}
	d, err := h.Create(t.Context(), req)
	require.NoError(t, err)
	require.Equal(t, dialogs.StateNew, d.State)
	return dialogs.Ref{Account: account, Participant: participant, Dialog: d.ID}, <-h.phone.legs
}

// incoming lets a call come in with a participant's token.
func (h *house) incoming(t *testing.T, token string) (dialogs.Ref, *leg) {
	t.Helper()
	accept, err := h.Incoming(t.Context(), dialogs.Incoming{To: number, From: "+15550123", UserToUser: token + ";encoding=jwt"})
	require.NoError(t, err)
	l := newLeg()
	accept(l)
	synctest.Wait()
	p, err := h.people.Authenticate(t.Context(), token)
	require.NoError(t, err)
	list, err := h.List(t.Context(), dialogs.Ref{Account: account, Participant: p.ID})
	require.NoError(t, err)
	require.NotEmpty(t, list)
	return dialogs.Ref{Account: account, Participant: p.ID, Dialog: list[len(list)-1].ID}, l
}

func (h *house) patch(t *testing.T, ref dialogs.Ref, want dialogs.State) {
	t.Helper()
	d, err := h.Update(t.Context(), ref, want)
	require.NoError(t, err)
	require.Equal(t, want, d.State)
}

// event is what a test looks at of a callback.
type event struct {
	ID                                                        string `json:"-"`
	Event, ParticipantID, DialogID, Tag, State, Digit, Method string
	Digits, TerminatedBy                                      string
	Data                                                      map[string]any

	Duration              int64
	To, Mode, By, Details string
	Expected, Seen        string
	SIPCode               int `json:"sipCode"`

	EventData struct {
		Reason, Details string
		SIPCode         int `json:"sipCode"`
	}
}

// drain reads all events that were written about a participant, in order.
func (h *house) drain(t *testing.T, participant string) []event {
	t.Helper()
	for {
		d, ok, err := h.db.Next(t.Context(), participant)
		require.NoError(t, err)
		if !ok {
			return h.events[participant]
		}
		var e event
		require.NoError(t, json.Unmarshal(d.Body, &e))
		e.ID = d.ID
		h.events[participant] = append(h.events[participant], e)
		require.EqualValues(t, len(h.events[participant]), d.Sequence)
		require.Equal(t, participant, e.ParticipantID)
		require.Contains(t, []string{"tag", line, quiet, says}, e.Tag)
		require.NoError(t, h.db.Delivered(t.Context(), d.ID, time.Now()))
	}
}

// words is drain in short: the state of a dialog, the digit of a key, the name of any other event.
func (h *house) words(t *testing.T, participant string) string {
	t.Helper()
	var words []string
	for _, e := range h.drain(t, participant) {
		switch e.Event {
		case string(webhooks.OnSipDialogStateChange):
			words = append(words, e.State)
		case string(webhooks.OnDtmf):
			if e.TerminatedBy != "" {
				words = append(words, "typed "+e.Digits+" by "+e.TerminatedBy)
				continue
			}
			words = append(words, "key "+e.Digit)
		case string(webhooks.OnTransfer):
			words = append(words, e.State)
		default:
			words = append(words, e.Event)
		}
	}
	return strings.Join(words, ", ")
}

// end returns the last state event.
func (h *house) end(t *testing.T, participant string) event {
	t.Helper()
	var last event
	for _, e := range h.drain(t, participant) {
		if e.Event == string(webhooks.OnSipDialogStateChange) {
			last = e
		}
	}
	return last
}

// settle waits until nobody has anything to do, and checks the events.
func (h *house) settle(t *testing.T, participant, words string) {
	t.Helper()
	synctest.Wait()
	require.Equal(t, words, h.words(t, participant))
}

// network is the telephone network: each call that is placed comes out of legs.
type network struct {
	legs chan *leg

	mu   sync.Mutex
	err  error // what Dial returns
	last dialogs.Dial
	wrap func(*leg) dialogs.Leg // what Dial returns of a leg; nil: itself
}

func (n *network) Dial(_ context.Context, d dialogs.Dial) (dialogs.Leg, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.last = d
	if n.err != nil {
		return nil, n.err
	}
	l := newLeg()
	n.legs <- l
	if n.wrap != nil {
		return n.wrap(l), nil
	}
	return l, nil
}

// Pair makes two legs, which come out of legs in their order; the test lets them have each other.
func (n *network) Pair() (calls, answers dialogs.Leg, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err != nil {
		return nil, nil, n.err
	}
	a, b := newLeg(), newLeg()
	n.legs <- a
	n.legs <- b
	return a, b, nil
}

// leg is a far end that does what the test says. Unless it is stubborn, it ends when it is hung up.
type leg struct {
	wishes

	events   chan *dialogs.LegEvent
	answers  chan struct{}
	hangups  chan int
	progress chan bool

	mu       sync.Mutex
	stubborn bool
	ended    bool
	watched  bool // it has a session timer
}

func newLeg() *leg {
	return &leg{wishes: newWishes(), events: make(chan *dialogs.LegEvent, 16), answers: make(chan struct{}, 16), hangups: make(chan int, 16), progress: make(chan bool, 16)}
}

func (l *leg) Events() <-chan *dialogs.LegEvent { return l.events }

func (l *leg) Answer() { l.answers <- struct{}{} }

func (l *leg) Progress(early bool) { l.progress <- early }

func (l *leg) Hangup(status int) {
	l.hangups <- status
	l.mu.Lock()
	stubborn := l.stubborn
	l.mu.Unlock()
	if !stubborn {
		l.end(dialogs.Cause{Details: "hung up by us"})
	}
}

func (l *leg) Watched() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.watched
}

func (l *leg) setWatched(on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watched = on
}

func (l *leg) beStubborn() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stubborn = true
}

func (l *leg) happens(kinds ...dialogs.LegEventKind) {
	for _, kind := range kinds {
		l.events <- &dialogs.LegEvent{Kind: kind}
	}
}

// end reports the end, once, and closes the channel.
func (l *leg) end(cause dialogs.Cause) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended {
		l.ended = true
		l.events <- &dialogs.LegEvent{Kind: dialogs.LegEnded, Cause: cause}
		close(l.events)
	}
}

// vanish closes the channel without a word.
func (l *leg) vanish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	close(l.events)
}

// flaky is a database that fails for a while, or that writes and loses the answer.
type flaky struct {
	*store.DB

	mu                  sync.Mutex
	fails, loses, tries int
	caller              dialogs.Dialog // that dialled in last
}

func (f *flaky) set(fails, loses int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fails, f.loses, f.tries = fails, loses, 0
}

func (f *flaky) tried() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tries
}

func (f *flaky) write(do func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tries++
	away := errs.New(errs.Unavailable, "the database is away")
	if f.fails > 0 {
		f.fails--
		return away
	}
	if err := do(); err != nil || f.loses == 0 {
		return err
	}
	f.loses--
	return away
}

func (f *flaky) CreateDialog(ctx context.Context, d dialogs.Dialog, events ...webhooks.Event) (p sessions.Participant, err error) {
	err = f.write(func() (err error) {
		p, err = f.DB.CreateDialog(ctx, d, events...)
		return err
	})
	return p, err
}

func (f *flaky) CreateCaller(ctx context.Context, p sessions.Participant, d dialogs.Dialog, events ...webhooks.Event) error {
	return f.write(func() error {
		f.caller = d
		return f.DB.CreateCaller(ctx, p, d, events...)
	})
}

func (f *flaky) lastCaller() dialogs.Dialog {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.caller
}

func (f *flaky) SaveDialog(ctx context.Context, d dialogs.Dialog, events ...webhooks.Event) error {
	return f.write(func() error { return f.DB.SaveDialog(ctx, d, events...) })
}

func (f *flaky) WriteEvent(ctx context.Context, e webhooks.Event) error {
	return f.write(func() error { return f.DB.WriteEvent(ctx, e) })
}

func requireCode(t *testing.T, want errs.Code, err error, words string) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, want.String(), errs.CodeOf(err).String(), err)
	require.ErrorContains(t, err, words)
}

// failure is the error of what returns a value too.
func failure[T any](_ T, err error) error { return err }
