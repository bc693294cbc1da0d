package sessions

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"tandem/errs"
	"tandem/webhooks"
)

// Config are the limits. A zero value means the default.
type Config struct {
	ParticipantsPerSession int           // 20
	SessionLifetime        time.Duration // 9 h
}

func (c Config) withDefaults() Config {
	if c.ParticipantsPerSession == 0 {
		c.ParticipantsPerSession = 20
	}
	if c.SessionLifetime == 0 {
		c.SessionLifetime = 9 * time.Hour
	}
	return c
}

// Service is the truth about who is here. What it answers is saved first; live media follows the saved rows.
type Service struct {
	cfg    Config
	store  Store
	signer *Signer
	log    *slog.Logger

	created chan struct{} // tells Run that there is a session to expire
	owing   chan struct{} // tells Run that something is owed

	mu    sync.Mutex // guards what follows; nothing that blocks is called while it is held
	live  registry
	turns map[string]chan struct{} // by participant, the last of its line; see turn
	owed  []end                    // in the order in which they happened
}

// New makes the service. Recover must have run before endpoints are attached.
func New(cfg Config, store Store, signer *Signer, log *slog.Logger) *Service {
	return &Service{
		cfg:     cfg.withDefaults(),
		store:   store,
		signer:  signer,
		log:     log,
		created: make(chan struct{}, 1),
		owing:   make(chan struct{}, 1),
		live:    newRegistry(),
		turns:   map[string]chan struct{}{},
	}
}

// NewParticipant is what the application says of a participant that it creates.
type NewParticipant struct {
	CallbackURL      string
	Tag              string
	Permissions      []Permission
	DeviceAPIVersion string
}

// CreateParticipant saves a participant and returns it with the token that its device or phone connects with.
func (s *Service) CreateParticipant(ctx context.Context, account string, n NewParticipant) (Participant, string, error) {
	if err := validateTag(n.Tag); err != nil {
		return Participant{}, "", err
	}
	if err := validateCallbackURL(n.CallbackURL); err != nil {
		return Participant{}, "", err
	}
	p := Participant{
		ID:               uuid.NewString(),
		Account:          account,
		CallbackURL:      n.CallbackURL,
		Tag:              n.Tag,
		Permissions:      slices.Compact(slices.Sorted(slices.Values(n.Permissions))),
		DeviceAPIVersion: "V3",
		Created:          time.Now(),
	}
	token, err := s.signer.Sign(account, p.ID)
	if err != nil {
		return Participant{}, "", err
	}
	if err := s.store.CreateParticipant(ctx, p); err != nil {
		return Participant{}, "", fmt.Errorf("create participant: %w", err)
	}
	return p, token, nil
}

// NewCaller makes the participant of a phone that dials in: it may publish audio. It is not saved, and no token for it
// is given to anybody.
func (s *Service) NewCaller(account, callbackURL, tag string) Participant {
	return Participant{
		ID: uuid.NewString(), Account: account, CallbackURL: callbackURL, Tag: tag,
		Permissions: []Permission{PublishAudio}, DeviceAPIVersion: "V3", Created: time.Now(),
	}
}

// Participant returns one of the account's participants.
func (s *Service) Participant(ctx context.Context, account, id string) (Participant, error) {
	return s.store.Participant(ctx, account, id)
}

// DeleteParticipant hides it, takes it out of its session, and closes its device and its phone leg.
func (s *Service) DeleteParticipant(ctx context.Context, account, id string) error {
	if err := s.store.DeleteParticipant(ctx, account, id, time.Now()); err != nil {
		return fmt.Errorf("delete participant: %w", err)
	}
	s.deleted(id)
	return nil
}

// CreateSession opens a session that ends by itself after the configured lifetime.
func (s *Service) CreateSession(ctx context.Context, account string, n NewSession) (Session, error) {
	if err := validateTag(n.Tag); err != nil {
		return Session{}, err
	}
	now := time.Now()
	session := Session{
		ID: uuid.NewString(), Account: account, Tag: n.Tag, Passthrough: n.Passthrough,
		Created: now, Expires: now.Add(s.cfg.SessionLifetime),
	}
	if err := s.store.CreateSession(ctx, session); err != nil {
		return Session{}, fmt.Errorf("create session: %w", err)
	}
	select {
	case s.created <- struct{}{}:
	default:
	}
	return session, nil
}

// Session returns one of the account's sessions.
func (s *Service) Session(ctx context.Context, account, id string) (Session, error) {
	return s.store.Session(ctx, account, id)
}

// DeleteSession removes a session, its members and their subscriptions. Devices stay connected and calls stay up, off
// the air.
func (s *Service) DeleteSession(ctx context.Context, account, id string) error {
	return s.endSession(ctx, account, id, func(Participant) (webhooks.Event, bool) { return webhooks.Event{}, false })
}

func (s *Service) endSession(ctx context.Context, account, id string, event func(Participant) (webhooks.Event, bool)) error {
	members, err := s.store.DeleteSession(ctx, account, id, event)
	if err != nil {
		return fmt.Errorf("delete session: %w", err)
	}
	s.apply(members...)
	return nil
}

// Members lists who is in a session.
func (s *Service) Members(ctx context.Context, account, session string) ([]Participant, error) {
	if _, err := s.store.Session(ctx, account, session); err != nil {
		return nil, err
	}
	return s.store.Members(ctx, session)
}

// Join puts a participant into a session. Where it is already there, non-empty subs replace what it had. It is
// errs.Conflict when the participant is in another session or the session is full.
func (s *Service) Join(ctx context.Context, account, session, participant string, subs Subscriptions) error {
	return s.change(ctx, account, session, participant, func(p *Participant, members []Participant) error {
		if p.Session != "" && p.Session != session {
			return errs.New(errs.Conflict, "participant %q is in session %q; remove it there first", p.ID, p.Session)
		}
		joining := *p
		joining.Session = session
		if err := validateSubscriptions(subs, session, append(members, joining)); err != nil {
			return err
		}
		if p.Session == "" || !subs.Empty() {
			joining.Subscriptions = subs
		}
		*p = joining
		return nil
	})
}

// Leave takes a participant out of a session and forgets its subscriptions. Its device and its call stay.
func (s *Service) Leave(ctx context.Context, account, session, participant string) error {
	return s.change(ctx, account, session, participant, func(p *Participant, _ []Participant) error {
		if err := memberOf(*p, session); err != nil {
			return err
		}
		p.Session, p.Subscriptions = "", Subscriptions{}
		return nil
	})
}

// Subscriptions returns what a member of a session subscribes to.
func (s *Service) Subscriptions(ctx context.Context, account, session, participant string) (Subscriptions, error) {
	if _, err := s.store.Session(ctx, account, session); err != nil {
		return Subscriptions{}, err
	}
	p, err := s.store.Participant(ctx, account, participant)
	if err != nil {
		return Subscriptions{}, err
	}
	return p.Subscriptions, memberOf(p, session)
}

// SetSubscriptions replaces a member's subscriptions; running media follows at once.
func (s *Service) SetSubscriptions(ctx context.Context, account, session, participant string, subs Subscriptions) error {
	return s.change(ctx, account, session, participant, func(p *Participant, members []Participant) error {
		if err := memberOf(*p, session); err != nil {
			return err
		}
		p.Subscriptions = subs
		return validateSubscriptions(subs, session, members)
	})
}

func memberOf(p Participant, session string) error {
	if p.Session != session {
		return errs.New(errs.NotFound, "participant %q is not in session %q", p.ID, session)
	}
	return nil
}

// maxRetries bounds how often a change is tried again because another writer was faster.
const maxRetries = 20

// change reads a participant, lets edit decide, saves, and starts over when somebody else wrote in between.
func (s *Service) change(ctx context.Context, account, session, participant string, edit func(*Participant, []Participant) error) error {
	for range maxRetries {
		if _, err := s.store.Session(ctx, account, session); err != nil {
			return err
		}
		p, err := s.store.Participant(ctx, account, participant)
		if err != nil {
			return err
		}
		members, err := s.store.Members(ctx, session)
		if err != nil {
			return fmt.Errorf("list members of %s: %w", session, err)
		}
		if err := edit(&p, members); err != nil {
			return err
		}
		saved, err := s.store.SaveMembership(ctx, p, s.cfg.ParticipantsPerSession)
		if errors.Is(err, ErrStale) {
			continue
		}
		if err != nil {
			return fmt.Errorf("save participant %s: %w", p.ID, err)
		}
		s.apply(saved)
		return nil
	}
	return errs.New(errs.Conflict, "participant %q is being changed by too many requests at once; try again", participant)
}

// Authenticate returns the participant that a token belongs to. The error's code says why it is refused: expired
// errs.Unauthenticated, forged or malformed errs.Forbidden, a participant that is gone errs.NotFound.
func (s *Service) Authenticate(ctx context.Context, token string) (Participant, error) {
	account, id, err := s.Verify(token)
	if err != nil {
		return Participant{}, err
	}
	return s.store.Participant(ctx, account, id)
}

// Verify returns the account and the participant that a token was made for, who may be gone since. Its errors are those of
// Authenticate.
func (s *Service) Verify(token string) (account, participant string, err error) {
	return s.signer.Verify(token)
}
