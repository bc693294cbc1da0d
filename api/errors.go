package api

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"tandem/errs"
)

// status is the one table from the code of an error to the status of its answer.
func status(code errs.Code) int {
	switch code {
	case errs.Invalid:
		return http.StatusBadRequest
	case errs.Unauthenticated:
		return http.StatusUnauthorized
	case errs.Forbidden:
		return http.StatusForbidden
	case errs.NotFound:
		return http.StatusNotFound
	case errs.Conflict:
		return http.StatusConflict
	case errs.TooMany:
		return http.StatusTooManyRequests
	case errs.Unavailable:
		return http.StatusServiceUnavailable
	case errs.Internal:
		return http.StatusInternalServerError
	}
	return http.StatusInternalServerError
}

// requestError is the body of every refusal but the two below.
type requestError struct {
	Error     string `json:"error"`
	RequestID string `json:"requestId"`
}

// accessError is the body of 401 and 403.
type accessError struct {
	Message string `json:"message"`
}

// retrySoon is told as Retry-After where nobody knows better.
const retrySoon = time.Second

// refuse answers with what a stranger may read of err, and keeps all of it for the access log.
func refuse(c *gin.Context, err error) {
	_ = c.Error(err) // it returns what it was given
	code, after := errs.CodeOf(err), errs.RetryAfterOf(err)
	if after == 0 && (code == errs.TooMany || code == errs.Unavailable) {
		after = retrySoon // nobody knows; clients expect it with 429 and 503 (RFC 9110 §10.2.3)
	}
	if after > 0 {
		c.Header("Retry-After", strconv.Itoa(int(math.Ceil(after.Seconds()))))
	}
	writeError(c, status(code), errs.MessageOf(err))
}

// writeError ends the request with a refusal in the contract's form.
func writeError(c *gin.Context, status int, message string) {
	c.Abort()
	switch status {
	case http.StatusUnauthorized:
		c.Header("WWW-Authenticate", `Basic realm="tandem", charset="UTF-8"`)
		writeJSON(c, status, accessError{Message: message})
	case http.StatusForbidden:
		writeJSON(c, status, accessError{Message: message})
	default:
		writeJSON(c, status, requestError{Error: message, RequestID: requestID(c)})
	}
}

// invalid is a refusal of one field of the body, named by its JSON path.
func invalid(path, format string, args ...any) error {
	return errs.New(errs.Invalid, "%s: %s", path, fmt.Sprintf(format, args...))
}
