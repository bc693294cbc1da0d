package api

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"tandem/errs"
	"tandem/sessions"
)

const (
	testTimeout = 10 * time.Second
	testPoll    = time.Millisecond

	// referenceHash is of "password"; the reference implementation's own tests have it.
	referenceHash = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
)

// counter is a hash that counts how often it is asked, and stands still while its gate is closed.
type counter struct {
	right string
	asked atomic.Int64
	gate  chan struct{} // nil: open
}

func (c *counter) matches(password string) bool {
	c.asked.Add(1)
	if c.gate != nil {
		<-c.gate
	}
	return password == c.right
}

// countingGuard knows the user "alice" of account "A" and "bob" of "B".
func countingGuard(t testing.TB) (g *guard, alice, bob *counter) {
	t.Helper()
	hash, err := HashPassword("x")
	require.NoError(t, err)
	g = newGuard([]Account{
		{ID: "A", Username: "alice", PasswordHash: hash},
		{ID: "B", Username: "bob", PasswordHash: hash},
	}, slog.New(slog.DiscardHandler))
	alice, bob = &counter{right: "secret"}, &counter{right: "hunter2"}
	g.byName["alice"].hash, g.byName["bob"].hash = alice, bob
	return g, alice, bob
}

func TestVerifiedPairCostsNoHash(t *testing.T) {
	g, alice, bob := countingGuard(t)
	for range 100 {
		account, err := g.enter(t.Context(), "alice", "secret")
		require.NoError(t, err)
		require.Equal(t, "A", account)
	}
	require.EqualValues(t, 1, alice.asked.Load())
	require.Zero(t, bob.asked.Load())
}

func TestWrongPasswordCostsAHashEachTime(t *testing.T) {
	g, alice, _ := countingGuard(t)
	_, err := g.enter(t.Context(), "alice", "secret")
	require.NoError(t, err)
	for i := range 10 {
		_, err := g.enter(t.Context(), "alice", fmt.Sprint("wrong", i))
		require.Equal(t, errs.Unauthenticated, errs.CodeOf(err))
	}
	require.EqualValues(t, 11, alice.asked.Load())
	_, err = g.enter(t.Context(), "alice", "secret")
	require.NoError(t, err)
	require.EqualValues(t, 11, alice.asked.Load(), "wrong passwords don't push the right one out")
}

func TestUnknownUserCostsAHashToo(t *testing.T) {
	g, alice, bob := countingGuard(t)
	for range 10 {
		_, err := g.enter(t.Context(), "nobody", "secret")
		require.Equal(t, errs.Unauthenticated, errs.CodeOf(err))
		_, err = g.enter(t.Context(), "nobody", "hunter2")
		require.Equal(t, errs.Unauthenticated, errs.CodeOf(err), "even if the decoy's password is right")
	}
	require.EqualValues(t, 20, alice.asked.Load()+bob.asked.Load())
}

func TestNobodyEntersWithoutAccounts(t *testing.T) {
	g := newGuard(nil, slog.New(slog.DiscardHandler))
	_, err := g.enter(t.Context(), "alice", "secret")
	require.Equal(t, errs.Unauthenticated, errs.CodeOf(err))
}

func TestOverlongCredentialsCostNothing(t *testing.T) {
	g, alice, bob := countingGuard(t)
	_, err := g.enter(t.Context(), "alice", strings.Repeat("x", maxCredentials+1))
	require.Equal(t, errs.Unauthenticated, errs.CodeOf(err))
	_, err = g.enter(t.Context(), strings.Repeat("x", maxCredentials+1), "secret")
	require.Equal(t, errs.Unauthenticated, errs.CodeOf(err))
	require.Zero(t, alice.asked.Load()+bob.asked.Load())
}

func TestMACKeepsNameAndPasswordApart(t *testing.T) {
	g, _, _ := countingGuard(t)
	require.NotEqual(t, g.mac("ab", "c"), g.mac("a", "bc"))
	require.NotEqual(t, [sha256.Size]byte{}, g.mac("", ""))
	other, _, _ := countingGuard(t)
	require.NotEqual(t, g.mac("a", "b"), other.mac("a", "b"), "each process has its own key")
}

// A flood of wrong passwords hashes two at a time, lets so many wait, turns the rest away, and doesn't stop those who
// are known.
func TestFloodOfWrongPasswords(t *testing.T) {
	g, alice, bob := countingGuard(t)
	_, err := g.enter(t.Context(), "bob", "hunter2")
	require.NoError(t, err)
	alice.gate = make(chan struct{})

	var flood sync.WaitGroup
	var unauthenticated atomic.Int64
	for i := range maxHashing + maxWaiting {
		flood.Go(func() {
			if _, err := g.enter(context.Background(), "alice", fmt.Sprint(i)); errs.CodeOf(err) == errs.Unauthenticated {
				unauthenticated.Add(1)
			}
		})
	}
	require.Eventually(t, func() bool { return len(g.waiting) == cap(g.waiting) }, testTimeout, testPoll)
	require.Eventually(t, func() bool { return alice.asked.Load() == maxHashing }, testTimeout, testPoll)

	_, err = g.enter(t.Context(), "alice", "one more")
	require.Equal(t, errs.Unavailable, errs.CodeOf(err))
	account, err := g.enter(t.Context(), "bob", "hunter2")
	require.NoError(t, err)
	require.Equal(t, "B", account)
	require.EqualValues(t, 1, bob.asked.Load())

	close(alice.gate)
	flood.Wait()
	require.EqualValues(t, maxHashing+maxWaiting, unauthenticated.Load())
	require.Empty(t, g.waiting)
}

// The first requests of an application come all at once: one of them hashes, or two.
func TestFirstRequestsShareAHash(t *testing.T) {
	g, alice, _ := countingGuard(t)
	alice.gate = make(chan struct{})
	var all sync.WaitGroup
	var entered atomic.Int64
	const n = 100
	for range n {
		all.Go(func() {
			if _, err := g.enter(context.Background(), "alice", "secret"); err == nil {
				entered.Add(1)
			}
		})
	}
	require.Eventually(t, func() bool { return len(g.waiting) == n }, testTimeout, testPoll)
	close(alice.gate)
	all.Wait()
	require.EqualValues(t, n, entered.Load())
	require.LessOrEqual(t, alice.asked.Load(), int64(2*maxHashing))
}

func TestGivenUpWhileWaiting(t *testing.T) {
	g, alice, _ := countingGuard(t)
	for range maxHashing {
		g.hashing <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := g.enter(ctx, "alice", "secret")
	require.Equal(t, errs.Unavailable, errs.CodeOf(err))
	require.Zero(t, alice.asked.Load())
	require.Empty(t, g.waiting)
}

func TestAccountsThatNobodyCanEnter(t *testing.T) {
	var log strings.Builder
	hash, err := HashPassword("right")
	require.NoError(t, err)
	g := newGuard([]Account{
		{ID: "1", Username: "plain", PasswordHash: "plain"},
		{ID: "2", Username: "same", PasswordHash: hash},
		{ID: "3", Username: "same", PasswordHash: hash},
	}, slog.New(slog.NewTextHandler(&log, nil)))
	require.Contains(t, log.String(), "account=1")
	require.NotContains(t, log.String(), "account=2")
	require.Contains(t, log.String(), "account=3")
	account, err := g.enter(t.Context(), "same", "right")
	require.NoError(t, err)
	require.Equal(t, "2", account)
	_, err = g.enter(t.Context(), "plain", "plain")
	require.Equal(t, errs.Unauthenticated, errs.CodeOf(err))
}

func TestHashPassword(t *testing.T) {
	one, err := HashPassword("api-pass")
	require.NoError(t, err)
	two, err := HashPassword("api-pass")
	require.NoError(t, err)
	require.NotEqual(t, one, two, "each has its own salt")
	require.Regexp(t, `^\$argon2id\$v=19\$m=19456,t=2,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$`, one)
	require.NoError(t, CheckHash(one))
	_, err = HashPassword("")
	require.Error(t, err)
}

func TestHashes(t *testing.T) {
	ours, err := HashPassword("pässword")
	require.NoError(t, err)
	blowfish, err := bcrypt.GenerateFromPassword([]byte("pässword"), bcrypt.MinCost)
	require.NoError(t, err)
	for name, encoded := range map[string]string{
		"ours":                         ours,
		"bcrypt":                       string(blowfish),
		"another program's parameters": referenceHash,
	} {
		t.Run(name, func(t *testing.T) {
			h, err := parseHash(encoded)
			require.NoError(t, err)
			right := "pässword"
			if encoded == referenceHash {
				right = "password"
			}
			require.True(t, h.matches(right))
			require.False(t, h.matches(right+"x"))
			require.False(t, h.matches(""))
		})
	}
}

func TestBcryptCutsNothingOff(t *testing.T) {
	long := strings.Repeat("x", maxBcrypt)
	encoded, err := bcrypt.GenerateFromPassword([]byte(long), bcrypt.MinCost)
	require.NoError(t, err)
	h, err := parseHash(string(encoded))
	require.NoError(t, err)
	require.True(t, h.matches(long))
	require.False(t, h.matches(long+"y"))
}

func TestCheckHash(t *testing.T) {
	const salt, key = "c29tZXNhbHQ", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	good := "$argon2id$v=19$m=64,t=1,p=1$" + salt + "$" + key
	require.NoError(t, CheckHash(good))
	for name, bad := range map[string]string{
		"empty":              "",
		"plain":              "api-pass",
		"argon2i":            strings.Replace(good, "argon2id", "argon2i", 1),
		"older version":      strings.Replace(good, "v=19", "v=16", 1),
		"no version":         strings.Replace(good, "v=19$", "", 1),
		"no parameters":      strings.Replace(good, "m=64,t=1,p=1", "", 1),
		"other order":        strings.Replace(good, "m=64,t=1,p=1", "t=1,m=64,p=1", 1),
		"something behind p": strings.Replace(good, "p=1", "p=1,x=2", 1),
		"negative":           strings.Replace(good, "t=1", "t=-1", 1),
		"no passes":          strings.Replace(good, "t=1", "t=0", 1),
		"no threads":         strings.Replace(good, "p=1", "p=0", 1),
		"4 GiB":              strings.Replace(good, "m=64", "m=4194304", 1),
		"more than a number": strings.Replace(good, "m=64", "m=99999999999", 1),
		"hours":              strings.Replace(good, "t=1", "t=1000", 1),
		"short salt":         strings.Replace(good, salt, "AAAA", 1),
		"short key":          strings.Replace(good, key, "AAAA", 1),
		"long key":           good + strings.Repeat("A", 64),
		"padding":            good + "=",
		"something behind":   good + "$x",
		"bcrypt cut off":     "$2a$10$abc",
		"bcrypt for hours":   "$2a$31$" + strings.Repeat("a", 53),
	} {
		require.Error(t, CheckHash(bad), name)
	}
}

// sessionsStub has every session.
type sessionsStub struct{ Sessions }

func (sessionsStub) CreateSession(_ context.Context, account string, n sessions.NewSession) (sessions.Session, error) {
	return sessions.Session{ID: "1", Account: account, Tag: n.Tag}, nil
}

func (sessionsStub) Session(_ context.Context, account, id string) (sessions.Session, error) {
	return sessions.Session{ID: id, Account: account}, nil
}

// The whole way of a GET with credentials that are known: no hash, which costs some 20 ms (BenchmarkHash).
func BenchmarkAuthenticatedGet(b *testing.B) {
	hash, err := HashPassword("secret")
	require.NoError(b, err)
	s := New(Config{Accounts: []Account{{ID: "A", Username: "alice", PasswordHash: hash}}}, sessionsStub{}, nil, slog.New(slog.DiscardHandler))
	counted := &counter{right: "secret"}
	s.guard.byName["alice"].hash = counted
	req := httptest.NewRequest(http.MethodGet, "/v1/accounts/A/sessions/1", http.NoBody)
	req.SetBasicAuth("alice", "secret")
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, req)
		if w.Code != http.StatusOK {
			b.Fatal(w.Code, w.Body)
		}
	}
	if n := counted.asked.Load(); n != 1 {
		b.Fatalf("%d hashes", n)
	}
}

func BenchmarkHash(b *testing.B) {
	hash, err := HashPassword("secret")
	require.NoError(b, err)
	h, err := parseHash(hash)
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		h.matches("secret")
	}
}

// FuzzHash reads anything as a configured password hash: what is let through can be computed on a request.
func FuzzHash(f *testing.F) {
	f.Add("$argon2id$v=19$m=65536,t=1,p=4$c2FsdHNhbHQ$a2V5a2V5a2V5a2V5a2V5a2V5")
	f.Add("$2a$10$abcdefghijklmnopqrstuuWkZ1Zk1Zk1Zk1Zk1Zk1Zk1Zk1Zk1Zk1")
	f.Add("$argon2id$v=19$m=4294967295,t=1,p=1$c2FsdHNhbHQ$a2V5a2V5a2V5a2V5a2V5a2V5")
	f.Fuzz(func(t *testing.T, encoded string) {
		m, err := parseHash(encoded)
		if h, ok := m.(argonHash); err == nil && ok {
			require.LessOrEqual(t, h.memory, uint32(maxArgonMemory))
			require.Positive(t, h.passes)
			require.LessOrEqual(t, h.passes, uint32(maxArgonPasses))
			require.Positive(t, h.threads)
		}
	})
}
