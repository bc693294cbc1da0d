package trunks

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"

	"tandem/errs"
)

// Store keeps trunks and numbers. What is not there, or is another account's, is errs.NotFound; what is there already is
// errs.Conflict.
type Store interface {
	// Trunks and Numbers list those of every account, in the order in which they were made, with their secrets.
	Trunks(ctx context.Context) ([]Trunk, error)
	Numbers(ctx context.Context) ([]Number, error)
	CreateTrunk(ctx context.Context, t Trunk) error
	SaveTrunk(ctx context.Context, t Trunk) error
	DeleteTrunk(ctx context.Context, key Key) error
	CreateNumber(ctx context.Context, n Number) error
	SaveNumber(ctx context.Context, n Number) error
	DeleteNumber(ctx context.Context, account, number string) error
	// Seed writes what the configuration file names, all of it OriginFile, over what is there, and removes what is
	// OriginFile and not named any more; at once or not at all.
	Seed(ctx context.Context, list []Trunk, numbers []Number) error
}

// Service changes trunks and numbers: in the store first, then in the book. Its methods may be called from any goroutine.
type Service struct {
	book  *Book
	store Store
	log   *slog.Logger

	mu sync.Mutex // one change at a time, so that the book follows the store
}

// NewService makes the service. The book is empty until Seed or Load.
func NewService(book *Book, store Store, log *slog.Logger) *Service {
	return &Service{book: book, store: store, log: log}
}

// Seed writes what the configuration file says and lets it take effect, together with what the accounts may do.
func (s *Service) Seed(ctx context.Context, list []Trunk, numbers []Number, accounts []Account) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range list {
		list[i] = list[i].WithDefaults()
		list[i].Origin = OriginFile
	}
	for i := range numbers {
		numbers[i].Origin = OriginFile
	}
	if err := s.store.Seed(ctx, list, numbers); err != nil {
		return fmt.Errorf("write trunks and numbers of the configuration: %w", err)
	}
	s.book.SetAccounts(accounts)
	s.book.SetFiled(list)
	return s.load(ctx)
}

// load makes the book follow the store. The caller holds mu. Trunks of accounts that are not configured any more are
// left out.
func (s *Service) load(ctx context.Context) error {
	list, err := s.store.Trunks(ctx)
	if err != nil {
		return err
	}
	numbers, err := s.store.Numbers(ctx)
	if err != nil {
		return err
	}
	gone := func(account string) bool { _, ok := s.book.Account(account); return !ok }
	list = slices.DeleteFunc(list, func(t Trunk) bool { return gone(t.Account) })
	numbers = slices.DeleteFunc(numbers, func(n Number) bool { return gone(n.Account) })
	s.book.SetTrunks(list, numbers)
	return nil
}

// follow loads after a change that is saved. A failure is logged and not told: the change stands, and the next one, or
// the next start, brings it into effect.
func (s *Service) follow(ctx context.Context) {
	if err := s.load(context.WithoutCancel(ctx)); err != nil {
		s.log.Error("a change of trunks or numbers is saved but not in effect yet", "error", err)
	}
}

// Trunks lists an account's, in the order in which they were made.
func (s *Service) Trunks(ctx context.Context, account string) ([]Trunk, error) {
	all, err := s.store.Trunks(ctx)
	return slices.DeleteFunc(all, func(t Trunk) bool { return t.Account != account }), err
}

// Trunk returns one.
func (s *Service) Trunk(ctx context.Context, key Key) (Trunk, error) {
	all, err := s.Trunks(ctx, key.Account)
	if err != nil {
		return Trunk{}, err
	}
	i := slices.IndexFunc(all, func(t Trunk) bool { return t.Name == key.Name })
	if i < 0 {
		return Trunk{}, errs.New(errs.NotFound, "trunk %q does not exist", clip(key.Name))
	}
	return all[i], nil
}

// CreateTrunk makes one. It is errs.Conflict when the account has one of that name.
func (s *Service) CreateTrunk(ctx context.Context, t Trunk) (Trunk, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t = t.WithDefaults()
	t.Origin = OriginREST
	if err := s.check(&t); err != nil {
		return Trunk{}, err
	}
	if err := s.roomForTrunk(ctx, t.Key()); err != nil {
		return Trunk{}, err
	}
	if err := s.store.CreateTrunk(ctx, t); err != nil {
		if errs.CodeOf(err) == errs.Conflict {
			return Trunk{}, errs.Wrap(err, errs.Conflict, "name: there is a trunk %q already", t.Name)
		}
		return Trunk{}, err
	}
	s.follow(ctx)
	return t, nil
}

// roomForTrunk returns an errs.Conflict when the account has made as many trunks as it may. One that is there already is
// for the store to refuse.
func (s *Service) roomForTrunk(ctx context.Context, key Key) error {
	a, _ := s.book.Account(key.Account)
	if a.MaxTrunks == 0 {
		return nil
	}
	all, err := s.Trunks(ctx, key.Account)
	if err != nil {
		return err
	}
	made := 0
	for i := range all {
		if all[i].Name == key.Name {
			return nil
		}
		if all[i].Origin != OriginFile {
			made++
		}
	}
	if made >= a.MaxTrunks {
		return errs.New(errs.Conflict, "the account has made %d trunks, which is its maxTrunks; delete one first", made)
	}
	return nil
}

// roomForNumber is roomForTrunk for numbers.
func (s *Service) roomForNumber(ctx context.Context, n *Number) error {
	a, _ := s.book.Account(n.Account)
	if a.MaxNumbers == 0 {
		return nil
	}
	all, err := s.Numbers(ctx, n.Account)
	if err != nil {
		return err
	}
	made := 0
	for _, other := range all {
		if other.Number == n.Number {
			return nil
		}
		if other.Origin != OriginFile {
			made++
		}
	}
	if made >= a.MaxNumbers {
		return errs.New(errs.Conflict, "the account has made %d numbers, which is its maxNumbers; delete one first", made)
	}
	return nil
}

// ChangeTrunk lets edit change a trunk; its name, account and origin stay. Calls that are up keep the one they began with.
func (s *Service) ChangeTrunk(ctx context.Context, key Key, edit func(*Trunk) error) (Trunk, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.Trunk(ctx, key)
	if err != nil {
		return Trunk{}, err
	}
	origin := t.Origin
	if err := edit(&t); err != nil {
		return Trunk{}, err
	}
	t.Name, t.Account, t.Origin = key.Name, key.Account, origin
	t = t.WithDefaults()
	if err := s.check(&t); err != nil {
		return Trunk{}, err
	}
	if err := s.store.SaveTrunk(ctx, t); err != nil {
		return Trunk{}, err
	}
	s.follow(ctx)
	return t, nil
}

// DeleteTrunk removes one. Calls that are up on it go on.
func (s *Service) DeleteTrunk(ctx context.Context, key Key) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.store.DeleteTrunk(ctx, key); err != nil {
		return err
	}
	s.follow(ctx)
	return nil
}

// check validates a trunk by itself and beside those of the operator and of other accounts: whoever could claim a network
// of another account would be given its callers, and whoever could go to its carrier would call at its cost.
func (s *Service) check(t *Trunk) error {
	if err := t.Validate(); err != nil {
		return err
	}
	now := s.book.now.Load()
	if err := now.keepsFiled(t); err != nil {
		return err
	}
	if now.trespasses(t) {
		return errs.New(errs.Conflict, "uri: %s is where a trunk of the configuration file or of another account goes", clip(t.URI))
	}
	others, _ := s.book.Trunks()
	for _, other := range others {
		if other.Account == t.Account {
			continue
		}
		for i, network := range t.Allow {
			if slices.ContainsFunc(other.Allow, func(p netip.Prefix) bool { return p.Overlaps(network) }) {
				return errs.New(errs.Conflict, "allow[%d]: %s overlaps a network of another account", i, network)
			}
		}
	}
	return nil
}

// Numbers lists an account's, in the order in which they were made.
func (s *Service) Numbers(ctx context.Context, account string) ([]Number, error) {
	all, err := s.store.Numbers(ctx)
	return slices.DeleteFunc(all, func(n Number) bool { return n.Account != account }), err
}

// Number returns one.
func (s *Service) Number(ctx context.Context, account, number string) (Number, error) {
	all, err := s.Numbers(ctx, account)
	if err != nil {
		return Number{}, err
	}
	i := slices.IndexFunc(all, func(n Number) bool { return n.Number == number })
	if i < 0 {
		return Number{}, errs.New(errs.NotFound, "number %q does not exist", clip(number))
	}
	return all[i], nil
}

// CreateNumber makes one. It is errs.Conflict when the account has it already.
func (s *Service) CreateNumber(ctx context.Context, n Number) (Number, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n.Origin = OriginREST
	if err := n.Validate(); err != nil {
		return Number{}, err
	}
	if err := s.roomForNumber(ctx, &n); err != nil {
		return Number{}, err
	}
	if err := s.store.CreateNumber(ctx, n); err != nil {
		if errs.CodeOf(err) == errs.Conflict {
			return Number{}, errs.Wrap(err, errs.Conflict, "number: there is a number %s already", n.Number)
		}
		return Number{}, err
	}
	s.follow(ctx)
	return n, nil
}

// ChangeNumber lets edit change a number; what it is, its account and its origin stay.
func (s *Service) ChangeNumber(ctx context.Context, account, number string, edit func(*Number) error) (Number, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.Number(ctx, account, number)
	if err != nil {
		return Number{}, err
	}
	origin := n.Origin
	if err := edit(&n); err != nil {
		return Number{}, err
	}
	n.Number, n.Account, n.Origin = number, account, origin
	if err := n.Validate(); err != nil {
		return Number{}, err
	}
	if err := s.store.SaveNumber(ctx, n); err != nil {
		return Number{}, err
	}
	s.follow(ctx)
	return n, nil
}

// DeleteNumber removes one.
func (s *Service) DeleteNumber(ctx context.Context, account, number string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.store.DeleteNumber(ctx, account, number); err != nil {
		return err
	}
	s.follow(ctx)
	return nil
}

// Explain says, without a call, which trunks a call would take and why the others not.
func (s *Service) Explain(r Request) Explanation { return s.book.Explain(r) }

// State returns how a trunk does.
func (s *Service) State(key Key) State { return s.book.State(key) }
