package api

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"tandem/errs"
)

const (
	requestIDHeader = "X-Request-Id"
	maxRequestID    = 128
	maxID           = 128 // bytes of an id in a path; ours have 36
	maxLoggedPath   = 512
)

// identify gives the request its id: the client's, when it has one that is fit for a header and a log line.
func identify(c *gin.Context) {
	id := c.GetHeader(requestIDHeader)
	if !saneRequestID(id) {
		id = strings.ToLower(rand.Text())
	}
	c.Header(requestIDHeader, id)
	c.Header("Cache-Control", "no-store") // answers carry tokens
}

func saneRequestID(id string) bool {
	if id == "" || len(id) > maxRequestID {
		return false
	}
	return strings.IndexFunc(id, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.:/+=@", r)
	}) < 0
}

func requestID(c *gin.Context) string { return c.Writer.Header().Get(requestIDHeader) }

// logAccess writes one line per request: never a header, a query or a body, which hold credentials and tokens.
func (s *Server) logAccess(c *gin.Context) {
	start := time.Now()
	c.Next()
	level, attrs := slog.LevelDebug, []slog.Attr{
		slog.String("request", requestID(c)),
		slog.String("method", c.Request.Method),
		slog.String("path", clip(c.Request.URL.Path, maxLoggedPath)),
		slog.Int("status", c.Writer.Status()),
		slog.Duration("took", time.Since(start)),
		slog.String("remote", c.Request.RemoteAddr),
	}
	if last := c.Errors.Last(); last != nil {
		level = levelOf(c)
		attrs = append(attrs, slog.String("error", last.Err.Error()))
	}
	s.log.LogAttrs(c.Request.Context(), level, "request", attrs...)
}

// levelOf is how loud a refusal is: a fault of ours is an error unless the client just went away; that we can't now is
// a warning; the rest is the client's.
func levelOf(c *gin.Context) slog.Level {
	switch {
	case c.Request.Context().Err() != nil:
		return slog.LevelInfo
	case c.Writer.Status() == http.StatusServiceUnavailable:
		return slog.LevelWarn
	case c.Writer.Status() >= http.StatusInternalServerError:
		return slog.LevelError
	}
	return slog.LevelInfo
}

// recoverPanic turns a panic of ours into a 500 and a log line with its stack.
func (s *Server) recoverPanic(c *gin.Context) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(v)
		}
		s.log.ErrorContext(c.Request.Context(), "a handler panicked", "request", requestID(c), "panic", v, "stack", string(debug.Stack()))
		c.Abort()
		if !c.Writer.Written() {
			refuse(c, fmt.Errorf("panic: %v", v))
		}
	}()
	c.Next()
}

// limitBody bounds how long the body may take to come, also where nobody reads it: net/http takes it off the connection
// before it answers. decode lifts the limit once it has all of it.
func (s *Server) limitBody(c *gin.Context) {
	if c.Request.ContentLength != 0 {
		setReadDeadline(c, time.Now().Add(s.cfg.BodyTimeout))
	}
}

// setReadDeadline has no error worth telling: only a recorder of a test has no deadline to set.
func setReadDeadline(c *gin.Context, at time.Time) {
	_ = http.NewResponseController(c.Writer).SetReadDeadline(at)
}

// checkIDs refuses ids that no resource can have before a database chokes on them.
func checkIDs(c *gin.Context) {
	for _, p := range c.Params {
		if len(p.Value) > maxID || !utf8.ValidString(p.Value) || strings.ContainsFunc(p.Value, isControl) {
			kind := strings.TrimSuffix(p.Key, "Id")
			refuse(c, errs.New(errs.NotFound, "%s %q does not exist", kind, clip(p.Value, maxID)))
			return
		}
	}
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// writeJSON writes a view. It is encoded before the status goes out, so that a failure can still be a 500, whose own
// body can't fail.
func writeJSON(c *gin.Context, status int, view any) {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(view); err != nil {
		refuse(c, fmt.Errorf("encode answer: %w", err))
		return
	}
	c.Data(status, "application/json; charset=utf-8", body.Bytes())
}

// clip shortens s to at most n bytes without cutting a character.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
