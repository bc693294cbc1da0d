package test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/lab"
	"tandem/test/harness"
)

// postOnce posts with an Idempotency-Key and returns status, body and whether it is an answer that was given before.
func postOnce(t *testing.T, g *harness.Gateway, path, key string, body any) (status int, text string, replayed bool) {
	t.Helper()
	raw, err := json.Marshal(body)
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.URL+"/v1/accounts/"+harness.Account+path, bytes.NewReader(raw))
	require.NoError(t, err)
	req.SetBasicAuth(harness.User, harness.Password)
	req.Header.Set("Idempotency-Key", key)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: harness.Patience}
	resp, err := client.Do(req)
	require.NoError(t, err)
	defer func() { require.NoError(t, resp.Body.Close()) }()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(answer), resp.Header.Get("Idempotency-Replayed") == "true"
}

// TestIdempotencyKey sends the same POST many times at once and again later: one call is made.
func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	g, trunk := harness.WithLab(t, lab.Config{Handlers: map[string]func(*lab.Call){"*": func(c *lab.Call) {
		if c.Ring() == nil {
			<-c.Ended()
		}
	}}})
	callbacks := harness.NewCallbacks(t)
	participant, _ := g.Participant(t, callbacks.URL)
	path := "/participants/" + participant + "/dialogs"

	var (
		mu      sync.Mutex
		made    int
		answers = map[string]bool{}
		all     sync.WaitGroup
	)
	for range 8 {
		all.Go(func() {
			status, text, replayed := postOnce(t, g, path, "call 1", harness.Dial("+15557777"))
			mu.Lock()
			defer mu.Unlock()
			if status == http.StatusConflict {
				return // the first is still at work
			}
			require.Less(t, status, 300, text)
			answers[text] = true
			if !replayed {
				made++
			}
		})
	}
	all.Wait()
	require.Equal(t, 1, made)
	require.Len(t, answers, 1, "all get the same answer")
	trunk.NextCall(t)
	callbacks.WaitState(t, participant, "RINGING")
	status, text, replayed := postOnce(t, g, path, "call 1", harness.Dial("+15557777"))
	require.Less(t, status, 300)
	require.True(t, replayed)
	require.True(t, answers[text], "the answer is that of then, whatever became of the call")

	status, text, _ = postOnce(t, g, path, "call 1", harness.Dial("+15557778"))
	require.Equal(t, http.StatusBadRequest, status)
	require.Contains(t, text, "Idempotency-Key")
	status, _, _ = postOnce(t, g, path, "call 2", harness.Dial("+15557777"))
	require.Equal(t, http.StatusConflict, status, "the participant has a call")
	_, _, replayed = postOnce(t, g, path, "call 2", harness.Dial("+15557777"))
	require.True(t, replayed, "a refusal is an answer too")
	status, _, _ = postOnce(t, g, path, "schlüssel", harness.Dial("+15557777"))
	require.Equal(t, http.StatusBadRequest, status)

	g.HangUp(t, participant, g.LastDialog(t, participant))
	callbacks.WaitState(t, participant, "TERMINATED")
	select {
	case <-trunk.Calls():
		require.FailNow(t, "a second call was made")
	default:
	}
}

// TestIdempotencyKeySurvivesKill asks again after kill -9: the answer stands.
func TestIdempotencyKeySurvivesKill(t *testing.T) {
	t.Parallel()
	p := harness.NewProcess(t, "")
	p.Start(t)
	body := harness.Object{"publishPermissions": []string{"AUDIO"}}
	_, first, replayed := postOnce(t, p.Gateway, "/participants", "made", body)
	require.False(t, replayed)
	p.Kill()
	p.Start(t)
	_, second, replayed := postOnce(t, p.Gateway, "/participants", "made", body)
	require.True(t, replayed)
	require.Equal(t, first, second)
}
