package api_test

import (
	"context"
	"slices"
	"sync"
	"time"

	"tandem/dialogs"
	"tandem/errs"
	"tandem/sessions"
	"tandem/webhooks"
)

// memory is the record that the real services keep here: maps instead of a database. Only what the API leads to is
// there; the rest of sessions.Store panics.
type memory struct {
	sessions.Store

	mu           sync.Mutex
	sessions     map[string]sessions.Session
	participants []sessions.Participant
	dialogs      []dialogs.Dialog
}

func newMemory() *memory { return &memory{sessions: map[string]sessions.Session{}} }

func notFound(kind, id string) error {
	return errs.New(errs.NotFound, "%s %q does not exist", kind, id)
}

func (m *memory) CreateSession(_ context.Context, s sessions.Session) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sessions[s.ID] = s
	return nil
}

func (m *memory) Session(_ context.Context, account, id string) (sessions.Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.sessions[id]
	if !ok || s.Account != account {
		return sessions.Session{}, notFound("session", id)
	}
	return s, nil
}

func (m *memory) DeleteSession(ctx context.Context, account, id string, _ func(sessions.Participant) (webhooks.Event, bool)) ([]sessions.Participant, error) {
	if _, err := m.Session(ctx, account, id); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.sessions, id)
	var members []sessions.Participant
	for i := range m.participants {
		if p := &m.participants[i]; p.Session == id {
			p.Session, p.Subscriptions, p.Version = "", sessions.Subscriptions{}, p.Version+1
			members = append(members, *p)
		}
	}
	return members, nil
}

func (m *memory) Members(_ context.Context, session string) ([]sessions.Participant, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var members []sessions.Participant
	for _, p := range m.participants {
		if p.Session == session {
			members = append(members, p)
		}
	}
	return members, nil
}

func (m *memory) CreateParticipant(_ context.Context, p sessions.Participant) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.participants = append(m.participants, p)
	return nil
}

// index is where a participant is; mu is held.
func (m *memory) index(account, id string) (int, error) {
	i := slices.IndexFunc(m.participants, func(p sessions.Participant) bool { return p.ID == id && p.Account == account })
	if i < 0 {
		return 0, notFound("participant", id)
	}
	return i, nil
}

func (m *memory) Participant(_ context.Context, account, id string) (sessions.Participant, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, err := m.index(account, id)
	if err != nil {
		return sessions.Participant{}, err
	}
	return m.participants[i], nil
}

func (m *memory) SaveMembership(ctx context.Context, p sessions.Participant, limit int) (sessions.Participant, error) {
	members, _ := m.Members(ctx, p.Session)
	m.mu.Lock()
	defer m.mu.Unlock()
	i, err := m.index(p.Account, p.ID)
	if err != nil {
		return p, err
	}
	if p.Session != "" && m.participants[i].Session != p.Session && len(members) >= limit {
		return p, errs.New(errs.Conflict, "session %q is full: it has %d participants", p.Session, len(members))
	}
	p.Version++
	m.participants[i] = p
	return p, nil
}

func (m *memory) DeleteParticipant(_ context.Context, account, id string, _ time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, err := m.index(account, id)
	if err == nil {
		m.participants = slices.Delete(m.participants, i, i+1)
	}
	return err
}

func (m *memory) WriteEvent(context.Context, webhooks.Event) error { return nil }

func (m *memory) CreateDialog(ctx context.Context, d dialogs.Dialog, _ ...webhooks.Event) (sessions.Participant, error) {
	m.mu.Lock()
	m.dialogs = append(m.dialogs, d)
	m.mu.Unlock()
	return m.Participant(ctx, d.Account, d.Participant)
}

func (m *memory) SaveDialog(_ context.Context, d dialogs.Dialog, _ ...webhooks.Event) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.dialogs {
		if m.dialogs[i].ID == d.ID {
			m.dialogs[i] = d
		}
	}
	return nil
}

func (m *memory) Dialog(ctx context.Context, account, participant, id string) (dialogs.Dialog, error) {
	all, err := m.Dialogs(ctx, account, participant)
	if err != nil {
		return dialogs.Dialog{}, err
	}
	for _, d := range all {
		if d.ID == id {
			return d, nil
		}
	}
	return dialogs.Dialog{}, notFound("dialog", id)
}

func (m *memory) Dialogs(_ context.Context, account, participant string) ([]dialogs.Dialog, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []dialogs.Dialog
	for _, d := range m.dialogs {
		if d.Account == account && d.Participant == participant {
			all = append(all, d)
		}
	}
	return all, nil
}

func (m *memory) DeleteDialog(_ context.Context, _, _, id string, _ time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dialogs = slices.DeleteFunc(m.dialogs, func(d dialogs.Dialog) bool { return d.ID == id })
	return nil
}

func (m *memory) CreateCaller(ctx context.Context, p sessions.Participant, d dialogs.Dialog, events ...webhooks.Event) error {
	err := m.CreateParticipant(ctx, p)
	if err == nil {
		_, err = m.CreateDialog(ctx, d, events...)
	}
	return err
}

func (m *memory) IdleCallers(context.Context, time.Time, int) ([]sessions.Participant, error) {
	return nil, nil
}

func (m *memory) Unfinished(context.Context) ([]dialogs.Dialog, error) { return nil, nil }

// phone is a telephone network in which +15550105 answers at once, and every other number is silent until it is hung up.
type phone struct{}

func (phone) Dial(_ context.Context, d dialogs.Dial) (dialogs.Leg, error) {
	l := &leg{events: make(chan *dialogs.LegEvent, 8)}
	if d.To == "+15550105" {
		l.events <- &dialogs.LegEvent{Kind: dialogs.LegCalling}
		l.events <- &dialogs.LegEvent{Kind: dialogs.LegAnswered}
	}
	return l, nil
}

func (phone) Pair() (calls, answers dialogs.Leg, err error) {
	return nil, nil, errs.New(errs.Unavailable, "no media port is free")
}

type leg struct {
	events chan *dialogs.LegEvent
	once   sync.Once
}

func (l *leg) Events() <-chan *dialogs.LegEvent { return l.events }
func (l *leg) Answer()                          {}
func (l *leg) Progress(bool)                    {}
func (l *leg) Watched() bool                    { return false }
func (l *leg) Hold(on bool) {
	l.events <- &dialogs.LegEvent{Kind: dialogs.LegHold, Hold: dialogs.Hold{ByUs: on}}
}
func (l *leg) SendKey(byte, time.Duration) {}
func (l *leg) Refer(dialogs.Refer)         {}
func (l *leg) Referred(int)                {}
func (l *leg) Hangup(int) {
	l.once.Do(func() {
		l.events <- &dialogs.LegEvent{Kind: dialogs.LegEnded}
		close(l.events)
	})
}
