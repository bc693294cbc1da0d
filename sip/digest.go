package sip

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/emiago/sipgo/sip"
	"github.com/icholy/digest"
)

// maxChallenges is how many challenges one request answers: the first, and the stale ones after it.
const maxChallenges = 3

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
