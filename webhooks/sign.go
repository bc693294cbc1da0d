package webhooks

import (
	"encoding/base64"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"tandem/errs"
)

const (
	redacted     = "[redacted]"
	secretPrefix = "whsec_"
)

// Secret signs an account's callbacks: "whsec_" and the key in base64, as Standard Webhooks has it. It shows itself in
// no log, no JSON and no message.
type Secret string

// String hides the secret.
func (Secret) String() string { return redacted }

// GoString hides the secret from %#v.
func (Secret) GoString() string { return redacted }

// LogValue hides the secret from logs.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText hides the secret from JSON and YAML.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Validate is errs.Invalid when the secret cannot sign; the message says what it should be and not what it is.
func (s Secret) Validate() error {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(string(s), secretPrefix))
	if err != nil || len(key) == 0 {
		return errs.New(errs.Invalid, "a callback secret must be %q and a key in base64", secretPrefix)
	}
	return nil
}

// sign sets the headers of Standard Webhooks: the id stays the same on every retry, the time is the attempt's. Without
// a secret there is no signature.
func sign(h http.Header, secret Secret, id string, at time.Time, body []byte) error {
	h.Set(standardwebhooks.HeaderWebhookID, id)
	h.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(at.Unix(), 10))
	if secret == "" {
		return nil
	}
	signer, err := standardwebhooks.NewWebhook(string(secret))
	if err != nil {
		return errs.New(errs.Internal, "the callback secret is not in base64") // the cause may quote it
	}
	signature, err := signer.Sign(id, at, body)
	if err != nil {
		return errs.Wrap(err, errs.Internal, "sign event %s", id)
	}
	h.Set(standardwebhooks.HeaderWebhookSignature, signature)
	return nil
}
