package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"tandem/errs"
)

// The headers of draft-ietf-httpapi-idempotency-key-header, and ours that marks an answer that was given before.
const (
	idempotencyHeader = "Idempotency-Key"
	replayedHeader    = "Idempotency-Replayed"

	maxIdempotencyKey = 255
)

// Answers keeps what was answered to requests that carry an Idempotency-Key, for a day at least.
type Answers interface {
	// ClaimAnswer takes a key for a request, known by its fingerprint, or returns the answer that it has got already
	// (status is not 0). It is errs.Conflict while another request works under the key, or when one was cut by the
	// gateway's end, and errs.Invalid when the key was another request's.
	ClaimAnswer(ctx context.Context, account, key, fingerprint string, at time.Time) (status int, body []byte, err error)
	// KeepAnswer keeps the answer under a claimed key.
	KeepAnswer(ctx context.Context, account, key string, status int, body []byte) error
	// DropAnswer gives a claimed key back: the request may be tried again.
	DropAnswer(ctx context.Context, account, key string) error
}

// once lets a request with an Idempotency-Key happen once, however often it is sent: a client that lost the answer to
// POST sends it again and gets the same answer, instead of a second call.
func (s *Server) once(c *gin.Context) {
	values := c.Request.Header.Values(idempotencyHeader)
	if len(values) == 0 || s.cfg.Answers == nil || c.Request.Method != http.MethodPost {
		return
	}
	key := values[0]
	if len(values) > 1 || !saneKey(key) {
		refuse(c, errs.New(errs.Invalid, "%s: must be one value of 1 to %d printable ASCII characters", idempotencyHeader, maxIdempotencyKey))
		return
	}
	raw, err := readBody(c)
	if err != nil {
		refuse(c, err)
		return
	}
	c.Request.Body = io.NopCloser(bytes.NewReader(raw))
	sum := sha256.Sum256(append([]byte(c.Request.Method+" "+c.Request.URL.Path+"\n"), raw...))
	account := c.Param("accountId")
	status, body, err := s.cfg.Answers.ClaimAnswer(c.Request.Context(), account, key, hex.EncodeToString(sum[:]), time.Now())
	if err != nil {
		if errs.CodeOf(err) == errs.Conflict {
			c.Header("Retry-After", "1")
		}
		refuse(c, err)
		return
	}
	if status != 0 {
		c.Header(replayedHeader, "true")
		c.Abort()
		c.Data(status, "application/json; charset=utf-8", body)
		return
	}
	s.record(c, account, key)
}

// record runs the request and keeps its answer, or gives the key back when the same request may do better later. The
// client may be gone by then: that is what the key is for.
func (s *Server) record(c *gin.Context, account, key string) {
	ctx := context.WithoutCancel(c.Request.Context())
	answer := &recorder{ResponseWriter: c.Writer}
	c.Writer = answer
	kept := false
	defer func() { // also when the handler panics
		if kept {
			return
		}
		if err := s.cfg.Answers.DropAnswer(ctx, account, key); err != nil {
			s.log.ErrorContext(ctx, "an idempotency key could not be given back", "request", requestID(c), "error", err)
		}
	}()
	c.Next()
	status := answer.Status()
	if status == http.StatusTooManyRequests || status >= http.StatusInternalServerError {
		return
	}
	kept = true // even if this fails: the request has happened
	if err := s.cfg.Answers.KeepAnswer(ctx, account, key, status, answer.body.Bytes()); err != nil {
		s.log.ErrorContext(ctx, "an answer could not be kept for its idempotency key", "request", requestID(c), "error", err)
	}
}

func saneKey(key string) bool {
	return key != "" && len(key) <= maxIdempotencyKey && strings.IndexFunc(key, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}

// recorder notes the body that is written.
type recorder struct {
	gin.ResponseWriter

	body bytes.Buffer
}

func (r *recorder) Write(b []byte) (int, error) {
	r.body.Write(b)
	return r.ResponseWriter.Write(b)
}

func (r *recorder) WriteString(text string) (int, error) {
	r.body.WriteString(text)
	return r.ResponseWriter.WriteString(text)
}

// Unwrap lets http.ResponseController find the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
