package load

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	account  = "9900000"
	username = "bench"
	password = "bench-password"
	maxBody  = 1 << 20
)

// rest is the gateway's API, as far as a call needs it.
type rest struct {
	base   string // http://127.0.0.1:8080
	client *http.Client
}

func newREST(base string) *rest {
	return &rest{base: base, client: &http.Client{
		Timeout:   20 * time.Second,
		Transport: &http.Transport{MaxIdleConnsPerHost: 8},
	}}
}

// do sends in as JSON and reads the answer into out; either may be nil. A status of 300 or more is an error.
func (r *rest) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader = http.NoBody
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("load: %s %s: %w", method, path, err)
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, r.base+"/v1/accounts/"+account+path, body)
	if err != nil {
		return fmt.Errorf("load: %s %s: %w", method, path, err)
	}
	req.SetBasicAuth(username, password)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := r.client.Do(req)
	if err != nil {
		return fmt.Errorf("load: %s %s: %w", method, path, err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err != nil {
		return fmt.Errorf("load: %s %s: %w", method, path, err)
	}
	if res.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("load: %s %s: %d %s", method, path, res.StatusCode, text)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("load: answer of %s %s: %w", method, path, err)
	}
	return nil
}

type idBody struct {
	ID string `json:"id"`
}

func (r *rest) createSession(ctx context.Context, passthrough bool) (string, error) {
	var s idBody
	err := r.do(ctx, http.MethodPost, "/sessions", map[string]any{"tag": "bench", "passthrough": passthrough}, &s)
	return s.ID, err
}

// createParticipant returns the id and the token.
func (r *rest) createParticipant(ctx context.Context, tag string) (id, token string, err error) {
	var answer struct {
		Participant idBody `json:"participant"`
		Token       string `json:"token"`
	}
	err = r.do(ctx, http.MethodPost, "/participants",
		map[string]any{"publishPermissions": []string{"AUDIO"}, "deviceApiVersion": "V3", "tag": tag}, &answer)
	return answer.Participant.ID, answer.Token, err
}

// join puts the participant into the session, where it hears all the others.
func (r *rest) join(ctx context.Context, session, participant string) error {
	return r.do(ctx, http.MethodPut, "/sessions/"+session+"/participants/"+participant, map[string]string{"sessionId": session}, nil)
}

// dial has the gateway call number for the participant.
func (r *rest) dial(ctx context.Context, participant, number string) error {
	return r.do(ctx, http.MethodPost, "/participants/"+participant+"/dialogs", map[string]any{
		"dialogType":      "SIP",
		"dialogStateData": map[string]string{"to": number, "from": "+15550100"},
	}, nil)
}

func (r *rest) deleteParticipant(ctx context.Context, id string) error {
	return r.do(ctx, http.MethodDelete, "/participants/"+id, nil, nil)
}

func (r *rest) deleteSession(ctx context.Context, id string) error {
	return r.do(ctx, http.MethodDelete, "/sessions/"+id, nil, nil)
}
