package sip

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/icholy/digest"
)

const (
	nonceLifetime = time.Minute
	// maxChallenges is how many challenges one request answers: the first, and the stale ones after it.
	maxChallenges = 3
)

// credentials answers the challenges of one trunk for one request and its retries.
type credentials struct {
	username string
	password Secret
	realm    string
	nonces   []string // those that were answered
}

// answer returns req's authorization header for the challenge in res. An error says why it is not answered.
func (c *credentials) answer(req *sip.Request, res *sip.Response) (sip.Header, error) {
	if c.username == "" {
		return nil, errors.New("the trunk asks for a password and none is configured")
	}
	ask, reply := "WWW-Authenticate", "Authorization"
	if res.StatusCode == sip.StatusProxyAuthRequired {
		ask, reply = "Proxy-Authenticate", "Proxy-Authorization"
	}
	for _, h := range res.GetHeaders(ask) {
		challenge, err := digest.ParseChallenge(h.Value())
		if err != nil {
			continue
		}
		for i := range challenge.QOP {
			challenge.QOP[i] = strings.TrimSpace(challenge.QOP[i])
		}
		if !digest.CanDigest(challenge) {
			continue
		}
		if err := c.mayAnswer(challenge); err != nil {
			return nil, err
		}
		made, err := digest.Digest(challenge, digest.Options{
			Method: req.Method.String(), URI: req.Recipient.String(), Username: c.username, Password: string(c.password), Count: 1,
		})
		if err != nil {
			return nil, fmt.Errorf("answer challenge: %w", err)
		}
		c.realm, c.nonces = challenge.Realm, append(c.nonces, challenge.Nonce)
		return sip.NewHeader(reply, made.String()), nil
	}
	return nil, errors.New("the trunk's challenge is none that can be answered")
}

// mayAnswer refuses a nonce that was answered before (the password is wrong), a new one that is not called stale, and
// the challenge of a realm other than the first: that would be someone behind the trunk who asks for its password.
func (c *credentials) mayAnswer(challenge *digest.Challenge) error {
	if len(c.nonces) == 0 {
		return nil
	}
	switch {
	case slices.Contains(c.nonces, challenge.Nonce):
		return errors.New("the trunk does not take the username and password")
	case challenge.Realm != c.realm:
		return fmt.Errorf("a second realm %q asks for the password", printable(challenge.Realm, 60))
	case !challenge.Stale:
		return errors.New("the trunk does not take the username and password")
	case len(c.nonces) >= maxChallenges:
		return errors.New("the trunk challenges again and again")
	}
	return nil
}

// challenger asks those who call in for a password (RFC 3261 §22). Its nonces carry their own expiry under an HMAC,
// so that it remembers nothing of a sender that never comes back.
type challenger struct {
	realm string
	key   [32]byte
	now   func() time.Time
}

func newChallenger(realm string) *challenger {
	c := &challenger{realm: realm, now: time.Now}
	_, _ = rand.Read(c.key[:]) // never fails (crypto/rand)
	return c
}

// nonce is bound to the call, so that a nonce that was overheard opens no other.
func (c *challenger) nonce(call string, expiry time.Time) string {
	raw := binary.BigEndian.AppendUint64(nil, uint64(expiry.Unix()))
	mac := hmac.New(sha256.New, c.key[:])
	mac.Write(raw)
	mac.Write([]byte(call))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(raw))
}

// fresh says whether a nonce is ours, for this call, and in its time.
func (c *challenger) fresh(nonce, call string) bool {
	raw, err := base64.RawURLEncoding.DecodeString(nonce)
	if err != nil || len(raw) != 8+sha256.Size {
		return false
	}
	expiry := time.Unix(int64(binary.BigEndian.Uint64(raw)), 0)
	return c.now().Before(expiry) && hmac.Equal([]byte(nonce), []byte(c.nonce(call, expiry)))
}

// check returns an empty challenge when req carries the trunk's username and password, and otherwise the value of the
// WWW-Authenticate header to refuse it with. Failed says that credentials came and were wrong.
func (c *challenger) check(req *sip.Request, t *trunk) (challenge string, failed bool) {
	call := req.CallID().Value()
	stale := false
	for _, h := range req.GetHeaders("Authorization") {
		given, err := digest.ParseCredentials(h.Value())
		if err != nil || given.Realm != c.realm {
			continue
		}
		failed = true
		if !matches(given, req.Method.String(), t) {
			continue
		}
		if c.fresh(given.Nonce, call) {
			return "", false
		}
		failed, stale = false, true // the password is right, only the nonce is not (RFC 7616 §3.3)
	}
	made := digest.Challenge{
		Realm: c.realm, Nonce: c.nonce(call, c.now().Add(nonceLifetime)), Stale: stale, Algorithm: "MD5", QOP: []string{"auth"},
	}
	return made.String(), failed
}

// matches says whether given was made with the trunk's password.
func matches(given *digest.Credentials, method string, t *trunk) bool {
	if given.Username != t.InboundUsername || (given.QOP != "auth" && given.QOP != "") || given.Userhash {
		return false
	}
	if given.Algorithm != "" && !strings.EqualFold(given.Algorithm, "MD5") {
		return false
	}
	asked := &digest.Challenge{Realm: given.Realm, Nonce: given.Nonce, Algorithm: given.Algorithm}
	if given.QOP != "" {
		asked.QOP = []string{given.QOP}
	}
	want, err := digest.Digest(asked, digest.Options{
		Method: method, URI: given.URI, Username: t.InboundUsername, Password: string(t.InboundPassword),
		Count: given.Nc, Cnonce: given.Cnonce,
	})
	return err == nil && given.Cnonce != "" == (given.QOP != "") &&
		subtle.ConstantTimeCompare([]byte(want.Response), []byte(strings.ToLower(given.Response))) == 1
}
