package lab

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/icholy/digest"
)

const (
	realm     = "lab"
	nonceLife = 5 * time.Minute
)

// nonces are made and checked without being remembered: the time, and its HMAC.
type nonces struct{ key [32]byte }

func (n *nonces) make(now time.Time) string {
	stamp := strconv.FormatInt(now.Unix(), 16)
	return stamp + "." + n.sign(stamp)
}

func (n *nonces) valid(nonce string, now time.Time) bool {
	stamp, mac, ok := strings.Cut(nonce, ".")
	if !ok || !hmac.Equal([]byte(mac), []byte(n.sign(stamp))) {
		return false
	}
	made, err := strconv.ParseInt(stamp, 16, 64)
	return err == nil && now.Sub(time.Unix(made, 0)) < nonceLife
}

func (n *nonces) sign(stamp string) string {
	mac := hmac.New(sha256.New, n.key[:])
	mac.Write([]byte(stamp))
	return hex.EncodeToString(mac.Sum(nil))
}

// authorized checks the digest (RFC 3261 §22, RFC 7616) and challenges when it isn't there or is wrong.
func (t *Trunk) authorized(req *sip.Request, tx sip.ServerTransaction) bool {
	if t.cfg.Username == "" {
		return true
	}
	code, phrase, ask, answer := sip.StatusProxyAuthRequired, "Proxy Authentication Required", "Proxy-Authenticate", "Proxy-Authorization"
	if req.Method == sip.REGISTER {
		code, phrase, ask, answer = sip.StatusUnauthorized, "Unauthorized", "WWW-Authenticate", "Authorization"
	}
	if h := req.GetHeader(answer); h != nil && t.checkDigest(req.Method.String(), h.Value()) {
		return true
	}
	challenge := digest.Challenge{Realm: realm, Nonce: t.nonces.make(time.Now()), Algorithm: "MD5", QOP: []string{"auth"}}
	t.respond(req, tx, code, phrase, sip.NewHeader(ask, challenge.String()))
	return false
}

func (t *Trunk) checkDigest(method, header string) bool {
	got, err := digest.ParseCredentials(header)
	if err != nil || got.Username != t.cfg.Username || !t.nonces.valid(got.Nonce, time.Now()) {
		return false
	}
	challenge := digest.Challenge{Realm: realm, Nonce: got.Nonce, Algorithm: "MD5", QOP: []string{"auth"}}
	if got.QOP == "" { // RFC 2069 clients
		challenge.QOP = nil
	}
	want, err := digest.Digest(&challenge, digest.Options{
		Method: method, URI: got.URI, Count: got.Nc, Cnonce: got.Cnonce, Username: t.cfg.Username, Password: t.cfg.Password,
	})
	return err == nil && subtle.ConstantTimeCompare([]byte(want.Response), []byte(got.Response)) == 1
}
