package api

import (
	"testing"

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
