package dialogs

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"tandem/errs"
	"tandem/sessions"
	"tandem/transcode"
	"tandem/trunks"
	"tandem/webhooks"
)

// Config are the defaults of calls. A zero value means the default.
type Config struct {
	RingTimeout time.Duration // 60 s: how long an outbound call may ring
	// Routes counts calls and checks where they go; nil: the Phone does, when it dials.
	Routes Routes
	// TransferTimeout is how long the far end may be silent about a transfer that it was asked for; 60 s.
	TransferTimeout time.Duration
	// SilenceTimeout is how long the far end of an answered call may send neither RTP nor RTCP; 0: for ever. A hold does
	// not count.
	SilenceTimeout time.Duration
	// NoMediaAfter is how long after the answer the first RTP may take until that is told (onNoMedia); 3 s: a person has
	// said "hello?" twice by then.
	NoMediaAfter time.Duration

	Directory Directory // nil: there are no numbers, and no hold music
	Sounds    Sounds    // nil: nothing can be played
}

// Service creates dialogs, answers what the application asks of them, and owns the goroutines of those that live.
type Service struct {
	cfg    Config
	people *sessions.Service
	phone  Phone
	engine *transcode.Engine
	store  Store
	log    *slog.Logger

	calls sync.WaitGroup // one for each call's goroutine

	mu       sync.Mutex // guards what follows
	live     map[string]*call
	legs     map[Leg]*call    // whose leg is whose
	awaiting map[string]*call // by event, those whose application may answer it
	stopped  bool
	drain    drain
}

// New makes the service. Recover must have run before calls are made or taken.
func New(cfg Config, people *sessions.Service, phone Phone, engine *transcode.Engine, store Store, log *slog.Logger) *Service {
	if cfg.RingTimeout == 0 {
		cfg.RingTimeout = time.Minute
	}
	if cfg.TransferTimeout == 0 {
		cfg.TransferTimeout = time.Minute
	}
	if cfg.NoMediaAfter == 0 {
		cfg.NoMediaAfter = 3 * time.Second
	}
	return &Service{
		cfg: cfg, people: people, phone: phone, engine: engine, store: store, log: log,
		live: map[string]*call{}, legs: map[Leg]*call{}, awaiting: map[string]*call{},
	}
}

// Create is an application's wish for an outbound call.
type Create struct {
	Account     string
	Session     string // set when the path names it: the participant must be in it
	Participant string
	To          string            // E.164, or a sip: URI where the account may
	From        string            // E.164, FromUnknown or FromRestricted
	UserToUser  string            // RFC 7433 header value, sent as it is
	Trunk       string            // the only trunk to try, by name; empty: what the routes give
	Headers     map[string]string // X- headers for the INVITE
	RingTimeout time.Duration     // 0: the configured one
	MaxDuration time.Duration     // 0: no limit
	// DetectMachine asks whether a person or a machine answers: it is called back as onMachineDetection.
	DetectMachine bool
}

// Ref names a dialog in a path.
type Ref struct {
	Account, Session, Participant, Dialog string // Session is empty where the path has none
}

// Create saves a dialog, starts the call and returns it in its first state. It is errs.Conflict when the participant
// has a live one.
func (s *Service) Create(ctx context.Context, req Create) (Dialog, error) {
	if err := s.mayBegin(); err != nil {
		return Dialog{}, err
	}
	if err := req.validate(); err != nil {
		return Dialog{}, err
	}
	p, err := s.participant(ctx, req.Account, req.Session, req.Participant)
	if err != nil {
		return Dialog{}, err
	}
	c := s.newCall(Dialog{
		ID: newID(), Account: p.Account, Participant: p.ID, State: StateNew,
		To: req.To, From: req.From, UserToUser: req.UserToUser, Trunk: req.Trunk, Headers: req.Headers,
		RingTimeout: req.RingTimeout, MaxDuration: req.MaxDuration, Created: time.Now(),
	})
	c.detect = req.DetectMachine
	if c.d.RingTimeout == 0 {
		c.d.RingTimeout = s.cfg.RingTimeout
	}
	if c.place, err = s.placeFor(req); err != nil {
		return Dialog{}, err
	}
	// Enlisted first: a gateway that stops leaves no row behind, and whoever finds the row finds the call.
	if !s.enlist(c) {
		c.place.Release()
		return Dialog{}, errs.New(errs.Unavailable, "the gateway is stopping; try again")
	}
	if c.attachment, err = s.people.Attach(p.Account, p.ID, c); err != nil {
		s.forget(c)
		return Dialog{}, err
	}
	created := c.d
	if p, err = s.store.CreateDialog(ctx, c.d); err != nil {
		c.attachment.Detach()
		c.neverWas(err)
		s.start(c) //nolint:contextcheck // its end is written whatever becomes of the request
		return Dialog{}, fmt.Errorf("create dialog: %w", err)
	}
	c.attachment.Know(p)
	s.start(c) //nolint:contextcheck // a call outlives the request that began it
	return created, nil
}

// placeFor takes the call's place at its account and trunk, so that a limit or a destination that is not allowed is told
// at once. That no trunk can take it just now is found out, and told, by the call itself.
func (s *Service) placeFor(req Create) (*trunks.Place, error) {
	if s.cfg.Routes == nil {
		return nil, nil //nolint:nilnil // a nil Place counts nowhere
	}
	place, err := s.cfg.Routes.Place(trunks.Request{
		Account: req.Account, To: req.To, From: req.From, Trunk: req.Trunk, Headers: req.Headers,
	})
	if errs.CodeOf(err) == errs.Unavailable {
		return nil, nil //nolint:nilnil // see above
	}
	return place, err
}

// Get returns one dialog.
func (s *Service) Get(ctx context.Context, ref Ref) (Dialog, error) {
	if _, err := s.participant(ctx, ref.Account, ref.Session, ref.Participant); err != nil {
		return Dialog{}, err
	}
	d, err := s.store.Dialog(ctx, ref.Account, ref.Participant, ref.Dialog)
	s.measure(&d)
	return d, err
}

// List returns a participant's dialogs, the oldest first.
func (s *Service) List(ctx context.Context, ref Ref) ([]Dialog, error) {
	if _, err := s.participant(ctx, ref.Account, ref.Session, ref.Participant); err != nil {
		return nil, err
	}
	list, err := s.store.Dialogs(ctx, ref.Account, ref.Participant)
	for i := range list {
		s.measure(&list[i])
	}
	return list, err
}

// Update takes a dialog to a state: ANSWERED for an inbound call that rings, TERMINATED for any that lives. Every
// other wish is errs.Conflict. It returns at once; the SIP side follows.
func (s *Service) Update(ctx context.Context, ref Ref, want State) (Dialog, error) {
	return s.Instruct(ctx, ref, Instruction{State: want})
}

func refused(d Dialog, want State) error {
	if want == Answered && !d.Inbound {
		return errs.New(errs.Conflict, "state: this dialog is outbound; only its far end can answer it")
	}
	if want == "" {
		return errs.New(errs.Conflict, "state: the dialog is %s", d.State)
	}
	return errs.New(errs.Conflict, "state: the dialog is %s and can't become %s", d.State, want)
}

// Delete ends a dialog that lives and hides it.
func (s *Service) Delete(ctx context.Context, ref Ref) error {
	d, err := s.Get(ctx, ref)
	if err != nil {
		return err
	}
	if c := s.find(d.ID); c != nil {
		_, err := c.ask(ctx, func() (Dialog, error) { return c.update(Terminated) }) //nolint:contextcheck // saved whatever becomes of the request
		if err != nil && errs.CodeOf(err) != errs.Conflict {
			return err
		}
	}
	return s.store.DeleteDialog(ctx, ref.Account, ref.Participant, ref.Dialog, time.Now())
}

func (s *Service) participant(ctx context.Context, account, session, id string) (sessions.Participant, error) {
	p, err := s.people.Participant(ctx, account, id)
	if err != nil {
		return sessions.Participant{}, err
	}
	if session != "" && p.Session != session {
		return sessions.Participant{}, errs.New(errs.NotFound, "participant %q is not in session %q", id, session)
	}
	return p, nil
}

// Recover ends the dialogs that a crash cut: TERMINATED (ERROR), each with its callbacks. It must run before calls
// are made or taken.
func (s *Service) Recover(ctx context.Context) error {
	cut, err := s.store.Unfinished(ctx)
	if err != nil {
		return err
	}
	for _, d := range cut {
		up := d.State == Answered
		d.State, d.Cause, d.Ended = Terminated, Cause{Reason: Error, Details: "gateway restarted"}, time.Now()
		var events []webhooks.Event
		if t := d.Transfer; t != (Transfer{}) {
			events = append(events, transferEvent(d, t, Cause{Details: "gateway restarted"}, false))
			d.Transfer = Transfer{}
		}
		if err := s.store.SaveDialog(ctx, d, append(events, stateEvents(d, up)...)...); err != nil {
			return err
		}
	}
	if len(cut) > 0 {
		s.log.Info("calls that were up before the restart are reported as terminated", "dialogs", len(cut))
	}
	return nil
}

// Run deletes what callers leave behind until ctx ends, and then ends every call, with its callbacks.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			s.sweep(ctx)
		}
	}
	s.mu.Lock()
	s.stopped = true
	for _, c := range s.live {
		c.stop()
	}
	s.mu.Unlock()
	s.calls.Wait()
	return nil
}

// enlist takes a call up among those that live; false when the service has stopped. start or forget must follow.
func (s *Service) enlist(c *call) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return false
	}
	s.live[c.id] = c
	s.calls.Add(1)
	return true
}

// start runs a call's goroutine.
func (s *Service) start(c *call) {
	go func() {
		defer s.forget(c)
		c.supervise()
	}()
}

// forget takes a call out when it is over, or when nothing came of it.
func (s *Service) forget(c *call) {
	close(c.done)
	c.place.Release()
	s.mu.Lock()
	delete(s.live, c.id)
	s.settle()
	for _, leg := range c.owned {
		delete(s.legs, leg)
	}
	for _, event := range c.awaits {
		delete(s.awaiting, event)
	}
	s.mu.Unlock()
	s.calls.Done()
}

// own notes that leg is c's, so that whoever names the leg finds the call.
func (s *Service) own(c *call, leg Leg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.legs[leg] = c
	c.owned = append(c.owned, leg)
}

// owner returns the call that a leg belongs to; nil when that is over.
func (s *Service) owner(leg Leg) *call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.legs[leg]
}

// order lets the goroutine of a call do something soon, without waiting for it; otherwise is done when the call is
// over already. It may be called from the goroutine of another call.
func (s *Service) order(c *call, do, otherwise func()) {
	s.mu.Lock()
	stopped := s.stopped
	if !stopped {
		s.calls.Add(1)
	}
	s.mu.Unlock()
	if stopped {
		otherwise()
		return
	}
	go func() {
		defer s.calls.Done()
		if _, err := c.ask(context.Background(), func() (Dialog, error) { do(); return c.d, nil }); err != nil {
			otherwise()
		}
	}()
}

func (s *Service) find(id string) *call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live[id]
}

// stateEvents are the events of d's present state, in order. up says whether the phone leg was up before.
func stateEvents(d Dialog, up bool) []webhooks.Event {
	events := []webhooks.Event{dialogEvent(d)}
	leg := webhooks.Event{ID: webhooks.NewID(), Account: d.Account, Time: events[0].Time, Participant: d.Participant, DialogID: d.ID}
	switch {
	case d.State == Answered:
		leg.Name = webhooks.OnConnect
	case d.State == Terminated && up && d.Cause.Reason == Error:
		leg.Name = webhooks.OnDisconnect
	case d.State == Terminated && up:
		leg.Name = webhooks.OnLeave
	default:
		return events
	}
	return append(events, leg)
}

// dialogEvent reports d's state and cause.
func dialogEvent(d Dialog) webhooks.Event {
	return webhooks.Event{
		ID: webhooks.NewID(), Account: d.Account, Name: webhooks.OnSipDialogStateChange, Time: time.Now(), Participant: d.Participant,
		Dialog: &webhooks.DialogData{
			ID: d.ID, State: string(d.State), To: d.To, From: d.From, UserToUser: d.UserToUser, Headers: d.Headers,
			Reason: string(d.Cause.Reason), Details: d.Cause.Details, SIPCode: d.Cause.SIPCode,
		},
	}
}

// newID names a dialog. It begins with the time, so that the indexes of the database grow at their end.
func newID() string { return uuid.Must(uuid.NewV7()).String() }

// Live counts the calls that are not over.
func (s *Service) Live() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.live)
}
