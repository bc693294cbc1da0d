package api

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"

	"tandem/errs"
)

func TestStatusOfEveryCode(t *testing.T) {
	want := map[errs.Code]int{
		errs.Internal:        500,
		errs.Invalid:         400,
		errs.Unauthenticated: 401,
		errs.Forbidden:       403,
		errs.NotFound:        404,
		errs.Conflict:        409,
		errs.TooMany:         429,
		errs.Unavailable:     503,
	}
	require.Len(t, want, len(errs.Codes()))
	for _, code := range errs.Codes() {
		require.Equal(t, want[code], status(code), code.String())
	}
	require.Equal(t, 500, status(errs.Code(99)), "a code that there is not")
}

// TestRetryAfter: 429 and 503 always say when to come again.
func TestRetryAfter(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{errs.New(errs.TooMany, "full"), "1"},
		{errs.New(errs.Unavailable, "away"), "1"},
		{errs.New(errs.Unavailable, "away").After(1500 * time.Millisecond), "2"},
		{errs.New(errs.Conflict, "no"), ""},
		{errs.New(errs.Invalid, "no"), ""},
	} {
		w := httptest.NewRecorder()
		gc, _ := gin.CreateTestContext(w)
		gc.Request = httptest.NewRequest(http.MethodGet, "/", nil)
		refuse(gc, c.err)
		require.Equal(t, c.want, w.Header().Get("Retry-After"), c.err)
	}
}
