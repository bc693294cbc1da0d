package trunks

import (
	"context"
	"maps"
	"sync"
	"time"

	"tandem/errs"
)

// RegistrationState is how a registration with a trunk stands.
type RegistrationState string

// The values of RegistrationState.
const (
	Registering  RegistrationState = "registering"  // the first REGISTER is on its way
	Registered   RegistrationState = "registered"   // the trunk sends our calls here
	Failed       RegistrationState = "failed"       // it does not, and is tried again after a wait
	Unregistered RegistrationState = "unregistered" // it was taken back
)

// Registration is our registration with a trunk (RFC 3261 §10).
type Registration struct {
	State     RegistrationState
	Since     time.Time // when the state became what it is
	Expires   time.Time // when the trunk forgets it unless it is refreshed; zero: it has none
	LastError string    // why the last attempt failed; empty: it did not
}

// registrations are those of all trunks that want one.
type registrations struct {
	mu    sync.Mutex
	all   map[Key]Registration
	asked map[Key]chan struct{}
}

// SetRegistration notes how a registration stands. Since is kept while the state is the same.
func (b *Book) SetRegistration(key Key, state RegistrationState, expires time.Time, lastError string) {
	r := &b.registrations
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = make(map[Key]Registration)
	}
	since := r.all[key].Since
	if r.all[key].State != state {
		since = time.Now()
	}
	r.all[key] = Registration{State: state, Since: since, Expires: expires, LastError: lastError}
}

// EndRegistration forgets a registration: the trunk is gone, or wants none any more.
func (b *Book) EndRegistration(key Key) {
	r := &b.registrations
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.all, key)
	delete(r.asked, key)
}

// Registration returns how the registration with a trunk stands; ok is false when there is none.
func (b *Book) Registration(key Key) (registration Registration, ok bool) {
	r := &b.registrations
	r.mu.Lock()
	defer r.mu.Unlock()
	registration, ok = r.all[key]
	return registration, ok
}

// Registrations lists how they all stand.
func (b *Book) Registrations() map[Key]Registration {
	r := &b.registrations
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.all)
}

// Refresh asks for a registration to be made anew at once. It is false when the trunk has none.
func (b *Book) Refresh(key Key) bool {
	if _, ok := b.Registration(key); !ok {
		return false
	}
	select {
	case b.refreshes(key) <- struct{}{}:
	default: // it was asked already
	}
	return true
}

// Refreshes tells whoever keeps a registration that it is to be made anew.
func (b *Book) Refreshes(key Key) <-chan struct{} { return b.refreshes(key) }

func (b *Book) refreshes(key Key) chan struct{} {
	r := &b.registrations
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.asked == nil {
		r.asked = make(map[Key]chan struct{})
	}
	if r.asked[key] == nil {
		r.asked[key] = make(chan struct{}, 1)
	}
	return r.asked[key]
}

// Registration returns how the registration with a trunk stands; ok is false when there is none.
func (s *Service) Registration(key Key) (Registration, bool) { return s.book.Registration(key) }

// Register has the registration with a trunk renewed at once.
func (s *Service) Register(ctx context.Context, key Key) error {
	if _, err := s.Trunk(ctx, key); err != nil {
		return err
	}
	if !s.book.Refresh(key) {
		return errs.New(errs.Conflict, "trunk %q keeps no registration: its register is false", key.Name)
	}
	return nil
}
