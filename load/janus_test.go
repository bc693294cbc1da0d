package load

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fakeJanus answers each request with what reply says of it, and ends the connection where that is nothing at all.
func fakeJanus(t *testing.T, reply func(request map[string]any) []string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{janusProtocol}})
		if err != nil {
			return
		}
		defer func() { _ = conn.CloseNow() }()
		if conn.Subprotocol() != janusProtocol {
			return
		}
		for {
			var request map[string]any
			if wsjson.Read(r.Context(), conn, &request) != nil {
				return
			}
			texts := reply(request)
			if texts == nil {
				return
			}
			for _, text := range texts {
				if conn.Write(r.Context(), websocket.MessageText, []byte(text)) != nil {
					return
				}
			}
		}
	}))
	t.Cleanup(server.Close)
	return "ws" + strings.TrimPrefix(server.URL, "http")
}

func TestJanusIsAsked(t *testing.T) {
	var session any
	path := fakeJanus(t, func(request map[string]any) []string {
		id := request["transaction"]
		event := func(data, jsep string) string {
			return fmt.Sprintf(`{"janus":"event","transaction":%q,"plugindata":{"plugin":"p","data":%s}%s}`, id, data, jsep)
		}
		switch request["janus"] {
		case "create":
			return []string{"no JSON", fmt.Sprintf(`{"janus":"success","transaction":%q,"data":{"id":7}}`, id)}
		case "attach":
			session = request["session_id"]
			return []string{fmt.Sprintf(`{"janus":"error","transaction":%q,"error":{"code":460,"reason":"No such plugin"}}`, id)}
		}
		body, _ := request["body"].(map[string]any)
		ack := fmt.Sprintf(`{"janus":"ack","transaction":%q}`, id)
		switch body["request"] {
		case "generate":
			return []string{ack, `{"janus":"webrtcup","sender":1}`, event(`{"result":{"sdp":"v=0"}}`, `,"jsep":{"type":"answer","sdp":"v=1"}`)}
		case "odd":
			return []string{ack, event(`[]`, "")}
		case "refused":
			return []string{ack, event(`{"error_code":447,"error":"no offer"}`, "")}
		}
		return []string{} // it hangs
	})
	j, err := dialJanus(t.Context(), path)
	require.NoError(t, err)
	defer j.close()
	_, err = j.attach(t.Context(), "nothing")
	require.ErrorContains(t, err, "No such plugin")
	assert.InDelta(t, 7, session, 0)
	var said struct{ Result struct{ SDP string } }
	jsep, err := j.ask(t.Context(), 1, map[string]any{"request": "generate"}, nil, &said)
	require.NoError(t, err)
	assert.Equal(t, "v=0", said.Result.SDP)
	assert.Equal(t, "v=1", jsep.SDP)
	_, err = j.ask(t.Context(), 1, map[string]any{"request": "refused"}, nil, nil)
	require.ErrorContains(t, err, "no offer")
	_, err = j.ask(t.Context(), 1, map[string]any{"request": "odd"}, nil, &said)
	require.ErrorContains(t, err, "odd")
	ended, end := context.WithCancel(t.Context())
	end()
	for range 20 {
		_, err = j.ask(ended, 1, map[string]any{"request": "hangs"}, nil, nil)
		require.ErrorIs(t, err, context.Canceled)
	}
	impatient, end := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer end()
	_, err = j.ask(impatient, 1, map[string]any{"request": "hangs"}, nil, nil)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = j.ask(t.Context(), 1, map[string]any{"request": "refused"}, nil, nil)
	require.ErrorContains(t, err, "no offer", "the others are answered on")
	_, err = dialJanus(t.Context(), "ws://127.0.0.1:1")
	require.Error(t, err)
}

func TestJanusThatEnds(t *testing.T) {
	url := fakeJanus(t, func(request map[string]any) []string {
		if request["janus"] == "create" {
			return []string{fmt.Sprintf(`{"janus":"success","transaction":%q}`, request["transaction"])}
		}
		return nil
	})
	j, err := dialJanus(t.Context(), url)
	require.NoError(t, err)
	defer j.close()
	_, err = j.do(t.Context(), map[string]any{"janus": "info"})
	require.ErrorIs(t, err, errEnded)
}

// inside runs the test once more in a network namespace, for what Janus is part of, and is true in there.
func inside(t *testing.T) bool {
	t.Helper()
	if isolated() {
		return true
	}
	switch {
	case !hasJanus():
		t.Skip("Janus is not installed (scripts/install bench)")
	case !canIsolate(t.Context()):
		t.Skip("no network namespace can be made")
	}
	self, err := os.Executable()
	require.NoError(t, err)
	var said bytes.Buffer
	err = inNamespace(t.Context(), io.MultiWriter(&said, t.Output()), self, "-test.v", "-test.run=^"+t.Name()+"$")
	require.NoError(t, err)
	require.Contains(t, said.String(), "--- PASS: "+t.Name(), "it ran there")
	return false
}

// TestNosip: both ends of calls over Janus hear each other, and what is dropped on purpose is missed.
func TestNosip(t *testing.T) {
	if !inside(t) {
		return
	}
	cfg := Config{
		Gateway: []string{"none"}, Calls: 2, Duration: 3 * time.Second, DropPercent: 10, Idle: time.Millisecond, Passthrough: true,
		Log: slog.New(slog.DiscardHandler),
	}
	r, err := hold(t.Context(), viaNosip, cfg, nil, plainSounds(), nil)
	require.NoError(t, err)
	t.Logf("%+v", r)
	for _, f := range []FlowResult{r.ToBrowser, r.ToPhone} {
		assert.Positive(t, f.Dropped)
		assert.InDelta(t, 0, f.own(), 2)
	}
}
