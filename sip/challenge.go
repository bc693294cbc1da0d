package sip

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/icholy/digest"

	"tandem/dialogs"
	"tandem/trunks"
)

const (
	nonceLifetime = time.Minute
	nonceRandom   = 8 // bytes, so that no two challenges are the same
	nonceSize     = 8 + nonceRandom + sha256.Size
	// maxNonces is how many nonces may be in use at a time. Each belongs to somebody who knows a password.
	maxNonces = 1 << 16
)

// algorithms are what a challenge offers. The better should come first (RFC 8760 §2.4), but many that know MD5 alone
// fail at a first challenge that they do not know instead of reading the second.
func algorithms() []string { return []string{"MD5", "SHA-256"} }

// challenger asks those who call in for a password (RFC 3261 §22, RFC 8760). Its nonces carry their own expiry under an
// HMAC and are bound to the call, so that any node with the same key can check them, nothing is kept of a sender that
// never comes back, and a nonce that was overheard opens no other call.
type challenger struct {
	realm string
	key   []byte
	now   func() time.Time

	mu     sync.Mutex
	counts map[string]int // nonces of this period that were answered rightly → the highest nonce count
	before map[string]int // those of the one before
	turned time.Time      // when this period began
}

// newChallenger makes one. Without a key it makes its own, and no other node can check its nonces.
func newChallenger(realm string, key []byte) *challenger {
	if len(key) == 0 {
		key = make([]byte, sha256.Size)
		_, _ = rand.Read(key) // never fails (crypto/rand)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("tandem: nonces of SIP digest authentication"))
	return &challenger{realm: realm, key: mac.Sum(nil), now: time.Now, counts: map[string]int{}}
}

// nonce makes a new one for a call.
func (c *challenger) nonce(call string) string {
	raw := make([]byte, 8+nonceRandom, nonceSize)
	binary.BigEndian.PutUint64(raw, uint64(c.now().Add(nonceLifetime).UnixMilli()))
	_, _ = rand.Read(raw[8:])
	return base64.RawURLEncoding.EncodeToString(c.sign(raw, call))
}

// sign appends the MAC of expiry, random part and call.
func (c *challenger) sign(raw []byte, call string) []byte {
	mac := hmac.New(sha256.New, c.key)
	mac.Write(raw)
	mac.Write([]byte(call))
	return mac.Sum(raw)
}

// fresh says whether a nonce is ours, for this call, and in its time.
func (c *challenger) fresh(nonce, call string) bool {
	raw, err := base64.RawURLEncoding.DecodeString(nonce)
	if err != nil || len(raw) != nonceSize {
		return false
	}
	head := append(make([]byte, 0, nonceSize), raw[:8+nonceRandom]...)
	if !hmac.Equal(raw, c.sign(head, call)) {
		return false
	}
	return c.now().UnixMilli() < int64(binary.BigEndian.Uint64(raw))
}

// first says whether a nonce count is higher than all before it with this nonce (RFC 7616 §5.12). A node that can't
// keep count of more nonces takes none.
func (c *challenger) first(nonce string, count int) bool {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.turned) >= nonceLifetime {
		c.before = c.counts
		if now.Sub(c.turned) >= 2*nonceLifetime {
			c.before = nil
		}
		c.counts, c.turned = map[string]int{}, now
	}
	if count <= max(c.counts[nonce], c.before[nonce]) {
		return false
	}
	if len(c.counts) >= maxNonces {
		return false
	}
	c.counts[nonce] = count
	return true
}

// ask returns the challenges for a request, one for each algorithm.
func (c *challenger) ask(req *sip.Request, stale bool) []sip.Header {
	nonce := c.nonce(req.CallID().Value())
	headers := make([]sip.Header, 0, 2)
	for _, algorithm := range algorithms() {
		made := digest.Challenge{Realm: c.realm, Nonce: nonce, Stale: stale, Algorithm: algorithm, QOP: []string{"auth"}}
		headers = append(headers, sip.NewHeader("WWW-Authenticate", made.String()))
	}
	return headers
}

// proof is what a request says to a challenge.
type proof int

const (
	proofNone  proof = iota // it has no credentials for us
	proofStale              // the password is right, the nonce is not, or not any more
	proofWrong              // wrong username or password, or a repeat of what was overheard
	proofRight
)

// check compares what a request shows with what each of the trunks wants, and returns the one whose password it is.
func (c *challenger) check(req *sip.Request, candidates []*trunks.Trunk) (*trunks.Trunk, proof) {
	call, found := req.CallID().Value(), proofNone
	for _, h := range req.GetHeaders("Authorization") {
		given, err := digest.ParseCredentials(h.Value())
		if err != nil || given.Realm != c.realm {
			continue
		}
		found = proofWrong
		for _, t := range candidates {
			if !matches(given, req.Method.String(), t) {
				continue
			}
			switch {
			case !c.fresh(given.Nonce, call):
				return nil, proofStale // RFC 7616 §3.3
			case !c.first(given.Nonce, max(given.Nc, 1)):
				return nil, proofWrong
			}
			return t, proofRight
		}
	}
	return nil, found
}

// matches says whether given was made with the trunk's password. It takes as long for a wrong one.
func matches(given *digest.Credentials, method string, t *trunks.Trunk) bool {
	if (given.QOP != "auth" && given.QOP != "") || given.Userhash || (given.Cnonce != "") != (given.QOP != "") || given.Nc < 0 {
		return false
	}
	algorithm := strings.ToUpper(given.Algorithm)
	if algorithm != "" && algorithm != "MD5" && algorithm != "SHA-256" {
		return false
	}
	asked := &digest.Challenge{Realm: given.Realm, Nonce: given.Nonce, Algorithm: algorithm}
	if given.QOP != "" {
		asked.QOP = []string{given.QOP}
	}
	want, err := digest.Digest(asked, digest.Options{
		Method: method, URI: given.URI, Username: t.InboundUsername, Password: string(t.InboundPassword),
		Count: given.Nc, Cnonce: given.Cnonce,
	})
	if err != nil {
		return false
	}
	named := subtle.ConstantTimeCompare([]byte(given.Username), []byte(t.InboundUsername))
	proved := subtle.ConstantTimeCompare([]byte(want.Response), []byte(strings.ToLower(given.Response)))
	return named&proved == 1
}

// authenticated asks a caller for a password where one may be needed: where the trunk that its address belongs to wants
// one, or where no trunk names the address and some are known by their username alone. Of all trunks that it may be, it
// is the one whose username and password it shows. False: it was answered.
func (a *Agent) authenticated(c *call, req *sip.Request, tx *sip.ServerTx, source netip.AddrPort) bool {
	if c.trunk != nil && c.trunk.InboundUsername == "" {
		return true
	}
	candidates := a.book.Challenged(source.Addr())
	switch {
	case c.trunk != nil: // before others of its name
		candidates = append([]*trunks.Trunk{&c.trunk.Trunk}, candidates...)
	case len(candidates) == 0:
		return true
	default:
		if _, token := dialogs.Token(userToUserOf(req)); token && req.GetHeader("Authorization") == nil {
			return true // it has that instead
		}
	}
	who, answer := a.challenger.check(req, candidates)
	if answer == proofRight {
		t, err := readTrunk(who)
		if err == nil {
			c.trunk, c.log = t, a.callLog(req, t)
			a.guard.befriend(source.Addr(), false)
			return true
		}
		c.log.Error("sip: the trunk of a call", "error", err)
	}
	if answer == proofWrong {
		c.log.Warn("sip: call refused", "status", 401, "why", "wrong username or password for the trunk, or one that was used before")
		a.guard.failed(source.Addr(), "wrong password")
	}
	a.respond(req, tx, sip.StatusUnauthorized, a.challenger.ask(req, answer == proofStale)...)
	return false
}
