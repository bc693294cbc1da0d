package sessions

import (
	"errors"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"tandem/errs"
)

const (
	tokenIssuer = "tandem"
	// deviceAPI is the version that the published browser SDK looks for in the claim "v".
	deviceAPI = "v3"
)

// Signer makes and checks the tokens with which participants connect their devices and phones.
type Signer struct {
	key      []byte
	lifetime time.Duration
}

// NewSigner makes a signer for tokens of the given lifetime; key is the HMAC-SHA256 key, at least 32 bytes.
func NewSigner(key []byte, lifetime time.Duration) *Signer {
	return &Signer{key: key, lifetime: lifetime}
}

type claims struct {
	Account     string `json:"a"`
	Participant string `json:"p"`
	Version     string `json:"v"`
	TokenID     string `json:"tid"`
	jwt.RegisteredClaims
}

// Sign makes a token for a participant, valid from now on.
func (s *Signer) Sign(account, participant string) (string, error) {
	now := time.Now()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims{
		Account:     account,
		Participant: participant,
		Version:     deviceAPI,
		TokenID:     uuid.NewString(),
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer:    tokenIssuer,
			IssuedAt:  jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(now.Add(s.lifetime)),
		},
	}).SignedString(s.key)
	if err != nil {
		return "", errs.Wrap(err, errs.Internal, "sign token")
	}
	return token, nil
}

// Verify checks a token. An expired one is errs.Unauthenticated; one that is malformed, was changed, or was signed by
// somebody else is errs.Forbidden.
func (s *Signer) Verify(token string) (account, participant string, err error) {
	var c claims
	_, err = jwt.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return s.key, nil },
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithIssuer(tokenIssuer), jwt.WithExpirationRequired())
	switch {
	case err == nil:
		return c.Account, c.Participant, nil
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return "", "", errs.Wrap(err, errs.Forbidden, "the token was not signed by this gateway")
	case errors.Is(err, jwt.ErrTokenExpired):
		return "", "", errs.Wrap(err, errs.Unauthenticated, "the token has expired")
	case errors.Is(err, jwt.ErrTokenMalformed):
		return "", "", errs.Wrap(err, errs.Forbidden, "the token is malformed")
	}
	return "", "", errs.Wrap(err, errs.Forbidden, "the token is invalid")
}
