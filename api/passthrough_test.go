package api_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPassthrough(t *testing.T) {
	w := newWorld(t)
	got := w.do("POST", home+"/sessions", `{"passthrough":true,"tag":"plain"}`)
	require.Equal(t, http.StatusOK, got.status, got.body)
	id, _ := got.field(t, "id").(string)
	require.Equal(t, true, got.field(t, "passthrough"))
	require.Equal(t, true, w.do("GET", home+"/sessions/"+id, "").field(t, "passthrough"))
	for _, body := range []string{`{}`, `{"passthrough":false}`, `{"passthrough":null}`} {
		require.Nil(t, w.do("POST", home+"/sessions", body).field(t, "passthrough"), body)
	}
	got = w.do("POST", home+"/sessions", `{"passthrough":"yes"}`)
	require.Equal(t, http.StatusBadRequest, got.status)
	require.Contains(t, got.body, "passthrough: must be")
}
