package sip

import (
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// The defaults of GuardConfig.
const (
	defaultBanAfter          = 10
	defaultBanFor            = 15 * time.Minute
	defaultRequestsPerSecond = 20
)

const (
	// maxWatched is how many unknown senders are remembered at a time: twice that many entries of some 150 bytes.
	maxWatched = 16384
	// maxBans and maxFriends bound the two lists beside it.
	maxBans    = 16384
	maxFriends = 16384

	failureWindow = 10 * time.Minute // failures further apart are not added up
	friendFor     = 15 * time.Minute // how long an address stays a friend after it was last shown to be one
	maxCredit     = 128 << 10        // bytes that an unknown sender may be owed
)

// GuardConfig bounds what senders that no trunk names may do. The zero value means the defaults.
type GuardConfig struct {
	BanAfter          int           // failures within ten minutes; 0: 10; negative: nobody is banned
	BanFor            time.Duration // 0: 15 min
	RequestsPerSecond float64       // of one sender, in bursts of twice that; 0: 20; negative: no limit
}

// Ban is a sender that is not listened to for a while.
type Ban struct {
	Address string // an IPv4 address, or an IPv6 network of 64 bits
	Reason  string // of the last failure
	Since   time.Time
	Until   time.Time
	Dropped uint64 // messages since then
}

// GuardStats counts messages of senders that no trunk names, since the start.
type GuardStats struct {
	Banned     uint64 // dropped: the sender is banned
	Limited    uint64 // dropped: too many a second
	Scanners   uint64 // dropped: a known scanner's
	Malformed  uint64 // against the grammar: answered 4xx or dropped by the front, of anybody
	Amplifying uint64 // answers that were not sent: they are larger than what was asked with
	Failures   uint64 // counted towards a ban
	Bans       uint64 // senders that were banned
}

// guard watches those who send and belong to no trunk. What it remembers is bounded, whatever addresses are forged. An
// address that a trunk names, or that we called ourselves, is never limited and never banned: anybody can forge it.
type guard struct {
	cfg   GuardConfig
	log   *slog.Logger
	known func(netip.Addr) bool // belongs to a trunk; called without the lock
	now   func() time.Time

	mu       sync.Mutex
	watched  map[netip.Addr]*sender
	before   map[netip.Addr]*sender // those of the generation before: whoever comes again moves to watched
	bans     map[netip.Addr]*Ban
	friends  map[netip.Addr]friend
	counters GuardStats
}

// sender is what is remembered of an address.
type sender struct {
	limit    *rate.Limiter
	failures int
	last     time.Time // of the last failure
	credit   int       // bytes that it sent us beyond those that we answered
}

// friend is an address that answered for itself: we called it, or it showed a token or a password.
type friend struct {
	until  time.Time
	called bool
}

func newGuard(cfg GuardConfig, known func(netip.Addr) bool, log *slog.Logger) *guard {
	if cfg.BanAfter == 0 {
		cfg.BanAfter = defaultBanAfter
	}
	if cfg.BanFor == 0 {
		cfg.BanFor = defaultBanFor
	}
	if cfg.RequestsPerSecond == 0 {
		cfg.RequestsPerSecond = defaultRequestsPerSecond
	}
	return &guard{
		cfg: cfg, log: log, known: known, now: time.Now,
		watched: map[netip.Addr]*sender{}, bans: map[netip.Addr]*Ban{}, friends: map[netip.Addr]friend{},
	}
}

// keyOf is what an address is watched under: one who has an IPv6 network has all of its addresses.
func keyOf(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return addr
}

// shown is how a key is shown.
func shown(key netip.Addr) string {
	if key.Is6() {
		return key.String() + "/64"
	}
	return key.String()
}

// admit says whether a message of n bytes is to be read at all. A request spends one of the sender's second, a response
// does not: those who answer may be many, and an answer that nobody waits for costs little.
func (g *guard) admit(from netip.Addr, n int, request bool) bool {
	if g.known(from.Unmap()) {
		return true
	}
	key, now := keyOf(from), g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	f, isFriend := g.friends[key]
	isFriend = isFriend && now.Before(f.until)
	if isFriend && f.called {
		return true
	}
	if ban := g.bans[key]; ban != nil {
		if now.Before(ban.Until) {
			ban.Dropped++
			g.counters.Banned++
			return false
		}
		delete(g.bans, key)
	}
	if isFriend {
		return true
	}
	s := g.sender(key)
	if request && g.cfg.RequestsPerSecond > 0 && !s.limit.AllowN(now, 1) {
		g.counters.Limited++
		return false
	}
	s.credit = min(s.credit+n, maxCredit)
	return true
}

// sender returns what is remembered of key, newly made if need be. The lock is held.
func (g *guard) sender(key netip.Addr) *sender {
	if s := g.watched[key]; s != nil {
		return s
	}
	s := g.before[key]
	if s == nil {
		r := g.cfg.RequestsPerSecond
		s = &sender{limit: rate.NewLimiter(rate.Limit(r), max(int(2*r), 1))}
	}
	if len(g.watched) >= maxWatched {
		g.before, g.watched = g.watched, make(map[netip.Addr]*sender)
	}
	g.watched[key] = s
	return s
}

// mayAnswer says whether an answer of n bytes may go to an address over UDP: an unknown one, which may be forged, never
// gets more bytes than came from it, so that nobody can be flooded through us. That goes for repeats too.
func (g *guard) mayAnswer(to netip.Addr, n int) bool {
	if g.known(to.Unmap()) {
		return true
	}
	key, now := keyOf(to), g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	if f, ok := g.friends[key]; ok && now.Before(f.until) {
		return true
	}
	s := g.sender(key)
	if s.credit < n {
		g.counters.Amplifying++
		return false
	}
	s.credit -= n
	return true
}

// stranger says whether an address is neither a trunk's nor a friend's.
func (g *guard) stranger(addr netip.Addr) bool {
	if g.known(addr.Unmap()) {
		return false
	}
	key, now := keyOf(addr), g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	f, ok := g.friends[key]
	return !ok || !now.Before(f.until)
}

// befriend notes that an address answers for itself. Called: we sent it a request of our own accord, so what is forged
// in its name must not harm it.
func (g *guard) befriend(addr netip.Addr, called bool) {
	key, now := keyOf(addr), g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.friends[key]
	if f.until.After(now.Add(friendFor/2)) && (f.called || !called) {
		return
	}
	if f.until.IsZero() && len(g.friends) >= maxFriends {
		delete(g.friends, soonest(g.friends, func(f friend) time.Time { return f.until }))
	}
	g.friends[key] = friend{until: now.Add(friendFor), called: f.called || called}
}

// failed counts a failure of a sender: a wrong answer to a challenge, a refused INVITE or REGISTER, a scanner's message.
// The first round of a challenge is none.
func (g *guard) failed(from netip.Addr, reason string) {
	if g.known(from.Unmap()) {
		return
	}
	key, now := keyOf(from), g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	if f, ok := g.friends[key]; ok && f.called && now.Before(f.until) {
		return
	}
	g.counters.Failures++
	s := g.sender(key)
	if now.Sub(s.last) > failureWindow {
		s.failures = 0
	}
	s.failures, s.last = s.failures+1, now
	if g.cfg.BanAfter < 0 || s.failures < g.cfg.BanAfter {
		return
	}
	s.failures = 0
	delete(g.friends, key)
	if len(g.bans) >= maxBans && g.bans[key] == nil {
		delete(g.bans, soonest(g.bans, func(b *Ban) time.Time { return b.Until }))
	}
	g.bans[key] = &Ban{Address: shown(key), Reason: reason, Since: now, Until: now.Add(g.cfg.BanFor)}
	g.counters.Bans++
	g.log.Warn("sip: sender banned", "address", shown(key), "for", g.cfg.BanFor, "reason", reason)
}

// soonest returns, of a few entries of a list that is full, the one that ends first: to look at all would cost too much.
func soonest[V any](list map[netip.Addr]V, end func(V) time.Time) netip.Addr {
	var first netip.Addr
	looked := 0
	for key, value := range list {
		if !first.IsValid() || end(value).Before(end(list[first])) {
			first = key
		}
		if looked++; looked == 16 {
			break
		}
	}
	return first
}

// isBanned says whether an address is not listened to.
func (g *guard) isBanned(addr netip.Addr) bool {
	if g.known(addr.Unmap()) {
		return false
	}
	key, now := keyOf(addr), g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	if f, ok := g.friends[key]; ok && f.called && now.Before(f.until) {
		return false
	}
	ban := g.bans[key]
	return ban != nil && now.Before(ban.Until)
}

// list returns the bans that stand, the oldest first.
func (g *guard) list() []Ban {
	now := g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	bans := make([]Ban, 0, len(g.bans))
	for _, ban := range g.bans {
		if now.Before(ban.Until) {
			bans = append(bans, *ban)
		}
	}
	slices.SortFunc(bans, func(a, b Ban) int {
		if c := a.Since.Compare(b.Since); c != 0 {
			return c
		}
		return strings.Compare(a.Address, b.Address)
	})
	return bans
}

// pardon lifts the ban of an address, and forgets its failures. It is false when there is none.
func (g *guard) pardon(addr netip.Addr) bool {
	key, now := keyOf(addr), g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	ban := g.bans[key]
	if ban == nil {
		return false
	}
	delete(g.bans, key)
	delete(g.watched, key)
	delete(g.before, key)
	return now.Before(ban.Until)
}

func (g *guard) count(add func(*GuardStats)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	add(&g.counters)
}

func (g *guard) stats() GuardStats {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.counters
}

// isScanner says whether a User-Agent, or the name in From, is that of a tool that looks for gateways to abuse.
func isScanner(text string) bool {
	if text == "" {
		return false
	}
	text = strings.ToLower(text)
	for _, name := range [...]string{
		"friendly-scanner", "friendly-request", "sipvicious", "sipcli", "sip-scan", "sipscan", "sundayddr", "vaxsipuseragent",
		"siparmyknife", "pplsip", "scan-sip", "voipscan", "sipptk",
	} {
		if strings.Contains(text, name) {
			return true
		}
	}
	return false
}

// Bans lists the senders that are banned, the oldest ban first.
func (a *Agent) Bans() []Ban { return a.guard.list() }

// Pardon lifts a ban; false: there is none.
func (a *Agent) Pardon(addr netip.Addr) bool { return a.guard.pardon(addr) }

// GuardStats counts what the front kept away.
func (a *Agent) GuardStats() GuardStats { return a.guard.stats() }
