package api

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"log/slog"
	"sync/atomic"

	"github.com/gin-gonic/gin"

	"tandem/errs"
)

// Account is who may use the API, and for what.
type Account struct {
	ID           string // of the resources that these credentials open
	Username     string // of one account only
	PasswordHash string // from HashPassword, or bcrypt
}

const (
	maxHashing     = 2   // hashes at once: each takes 19 MiB and a core
	maxWaiting     = 256 // requests that wait for their turn to hash; more are told to come again
	maxCredentials = 512 // bytes of a user name or a password
)

// guard checks credentials. A pair that was right once is known again by its MAC: only the first request of each
// account, and wrong passwords, cost a hash.
type guard struct {
	key     []byte // of this process: what a MAC leaks is worth nothing elsewhere
	byName  map[string]*login
	logins  []*login
	waiting chan struct{} // holds an element for each request that hashes or waits to
	hashing chan struct{} // holds one for each that hashes
}

// login is an account that can be entered.
type login struct {
	account string
	hash    matcher
	proved  atomic.Pointer[[sha256.Size]byte] // MAC of the pair that was right last; nil: none yet
}

func (l *login) knows(mac [sha256.Size]byte) bool {
	proved := l.proved.Load()
	return proved != nil && hmac.Equal(proved[:], mac[:])
}

func newGuard(accounts []Account, log *slog.Logger) *guard {
	g := &guard{
		key:     make([]byte, sha256.Size),
		byName:  make(map[string]*login, len(accounts)),
		waiting: make(chan struct{}, maxHashing+maxWaiting),
		hashing: make(chan struct{}, maxHashing),
	}
	_, _ = rand.Read(g.key) // it never fails
	for _, a := range accounts {
		hash, err := parseHash(a.PasswordHash)
		if err != nil {
			log.Error("nobody can enter this account", "account", a.ID, "error", err)
			continue
		}
		if g.byName[a.Username] != nil {
			log.Error("nobody can enter this account: another one has its user name", "account", a.ID, "username", a.Username)
			continue
		}
		l := &login{account: a.ID, hash: hash}
		g.byName[a.Username] = l
		g.logins = append(g.logins, l)
	}
	return g
}

// enter returns the account that the credentials open: errs.Unauthenticated when they open none, errs.Unavailable
// when too many others are being checked.
func (g *guard) enter(ctx context.Context, username, password string) (string, error) {
	if len(username) > maxCredentials || len(password) > maxCredentials {
		return "", errUnauthenticated()
	}
	mac := g.mac(username, password)
	l, known := g.byName[username]
	if known {
		if l.knows(mac) {
			return l.account, nil
		}
	} else if l = g.decoy(username); l == nil {
		return "", errUnauthenticated()
	}
	ok, err := g.check(ctx, l, password, mac)
	if err != nil {
		return "", err
	}
	if !ok || !known {
		return "", errUnauthenticated()
	}
	l.proved.Store(&mac)
	return l.account, nil
}

// decoy picks a login to check an unknown user's password against, always the same for a name: so an unknown name
// takes as long as a known one. It is nil when there are no accounts.
func (g *guard) decoy(username string) *login {
	if len(g.logins) == 0 {
		return nil
	}
	mac := g.mac(username, "")
	return g.logins[binary.BigEndian.Uint64(mac[:])%uint64(len(g.logins))]
}

// check hashes the password when it is its turn, unless another request has proved it meanwhile.
func (g *guard) check(ctx context.Context, l *login, password string, mac [sha256.Size]byte) (bool, error) {
	select {
	case g.waiting <- struct{}{}:
		defer func() { <-g.waiting }()
	default:
		return false, errs.New(errs.Unavailable, "too many credentials are being checked; try again in a second")
	}
	select {
	case g.hashing <- struct{}{}:
		defer func() { <-g.hashing }()
	case <-ctx.Done():
		return false, errs.Wrap(ctx.Err(), errs.Unavailable, "the request was given up")
	}
	if l.knows(mac) {
		return true, nil
	}
	return l.hash.matches(password), nil
}

// mac is over the name's length too, so that no two pairs look the same.
func (g *guard) mac(username, password string) (sum [sha256.Size]byte) {
	h := hmac.New(sha256.New, g.key)
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(username))))
	h.Write([]byte(username))
	h.Write([]byte(password))
	h.Sum(sum[:0])
	return sum
}

func errUnauthenticated() error {
	return errs.New(errs.Unauthenticated, "Unauthorized: send the account's user name and password with HTTP Basic")
}

// authenticate lets a request on when its credentials are right and belong to the account of its path.
func (s *Server) authenticate(c *gin.Context) {
	username, password, ok := c.Request.BasicAuth()
	if !ok {
		refuse(c, errUnauthenticated())
		return
	}
	account, err := s.guard.enter(c.Request.Context(), username, password)
	if err != nil {
		refuse(c, err)
		return
	}
	if path := c.Param("accountId"); account != path {
		refuse(c, errs.New(errs.Forbidden, "Forbidden: these credentials are not for account %q", clip(path, maxID)))
	}
}
