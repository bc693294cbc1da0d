package load

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/pion/webrtc/v4"
)

const (
	janusProgram  = "janus"
	janusProtocol = "janus-protocol" // of its WebSocket
	janusLimit    = 5 * time.Second
	nosip         = "janus.plugin.nosip"
	audiobridge   = "janus.plugin.audiobridge"
)

// hasJanus says whether it is installed.
func hasJanus() bool {
	_, err := exec.LookPath(janusProgram)
	return err == nil
}

// janus is its API over a WebSocket, one session.
type janus struct {
	conn    *websocket.Conn
	cancel  context.CancelFunc // ends read
	session uint64
	done    chan struct{} // closed by read

	mu      sync.Mutex // guards all below
	next    int
	waiting map[string]chan janusReply
}

// janusReply is an answer, or an event that belongs to a request.
type janusReply struct {
	Janus       string `json:"janus"`
	Transaction string `json:"transaction"`
	Data        struct {
		ID uint64 `json:"id"`
	} `json:"data"`
	Error *struct {
		Reason string `json:"reason"`
	} `json:"error"`
	Plugin struct {
		Data json.RawMessage `json:"data"`
	} `json:"plugindata"`
	JSEP *janusJSEP `json:"jsep"`
}

// janusJSEP is a session description; all candidates are in it.
type janusJSEP struct {
	Type    string `json:"type"`
	SDP     string `json:"sdp"`
	Trickle bool   `json:"trickle"`
}

// startJanus starts Janus as b.child: as Debian packages it, but that it has one way to be asked and the plugins that are
// needed, all on the loopback.
func (b *bench) startJanus(ctx context.Context, dir string) (*janus, error) {
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	first := rivalFirstPort + rand.IntN(10)*rivalPorts/10
	ports := fmt.Sprintf("%d-%d", first, first+rivalPorts)
	for name, text := range map[string]string{
		"janus.jcfg": `general: { session_timeout = 0 }
nat: { ice_enforce_list = "` + janusAddress + `" }
transports: { disable = "libjanus_http.so,libjanus_pfunix.so,libjanus_mqtt.so,libjanus_nanomsg.so,libjanus_rabbitmq.so" }
plugins: { disable = "libjanus_duktape.so,libjanus_echotest.so,libjanus_lua.so,libjanus_recordplay.so,libjanus_sip.so,libjanus_streaming.so,libjanus_textroom.so,libjanus_videocall.so,libjanus_videoroom.so,libjanus_voicemail.so" }
`,
		"janus.transport.websockets.jcfg": `general: { ws = true, ws_ip = "127.0.0.1", ws_port = ` + strconv.Itoa(port) + ` }` + "\n",
		"janus.plugin.nosip.jcfg":         `general: { local_ip = "127.0.0.1", rtp_port_range = "` + ports + `" }` + "\n",
		"janus.plugin.audiobridge.jcfg":   `general: { local_ip = "127.0.0.1", rtp_port_range = "` + ports + `" }` + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, fmt.Errorf("load: configuration of Janus: %w", err)
		}
	}
	var j *janus
	argv := append(pinned(b.cfg.Pinned), janusProgram, "--disable-colors", "--configs-folder="+dir)
	b.child, err = startProcess(ctx, argv, filepath.Join(dir, "rival.log"), func(ctx context.Context, c *child) error {
		ctx, cancel := context.WithTimeout(ctx, readyLimit)
		defer cancel()
		tick := time.NewTicker(readyPoll)
		defer tick.Stop()
		for {
			var err error
			if j, err = dialJanus(ctx, "ws://127.0.0.1:"+strconv.Itoa(port)); err == nil {
				return nil
			}
			select {
			case <-c.exited:
				return fmt.Errorf("load: Janus: %w", errEnded)
			case <-ctx.Done():
				return err
			case <-tick.C:
			}
		}
	})
	return j, err
}

// dialJanus opens a session.
func dialJanus(ctx context.Context, url string) (*janus, error) {
	conn, res, err := websocket.Dial(ctx, url, &websocket.DialOptions{Subprotocols: []string{janusProtocol}})
	if err != nil {
		return nil, fmt.Errorf("load: Janus: %w", err)
	}
	if res.Body != nil {
		_ = res.Body.Close()
	}
	conn.SetReadLimit(maxMessage)
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	j := &janus{conn: conn, cancel: cancel, done: make(chan struct{}), waiting: make(map[string]chan janusReply)}
	go j.read(life)
	made, err := j.do(ctx, map[string]any{"janus": "create"})
	if err != nil {
		j.close()
		return nil, err
	}
	j.session = made.Data.ID
	return j, nil
}

func (j *janus) close() {
	j.cancel()
	<-j.done
	_ = j.conn.CloseNow()
}

// read hands out the answers until the connection ends.
func (j *janus) read(ctx context.Context) {
	defer close(j.done)
	for {
		_, text, err := j.conn.Read(ctx)
		if err != nil {
			return
		}
		var r janusReply
		if json.Unmarshal(text, &r) != nil || r.Janus == "ack" {
			continue // an event follows
		}
		j.mu.Lock()
		answer := j.waiting[r.Transaction]
		delete(j.waiting, r.Transaction)
		j.mu.Unlock()
		if answer != nil {
			answer <- r
		}
	}
}

// do sends a request and returns its answer, or the event that answers it. Who gives up leaves the connection as it is.
func (j *janus) do(ctx context.Context, request map[string]any) (janusReply, error) {
	ctx, cancel := context.WithTimeout(ctx, janusLimit)
	defer cancel()
	gaveUp := func() error { return fmt.Errorf("load: Janus: no answer to %v: %w", request["janus"], ctx.Err()) }
	if ctx.Err() != nil {
		return janusReply{}, gaveUp()
	}
	answer := make(chan janusReply, 1)
	j.mu.Lock()
	j.next++
	id := strconv.Itoa(j.next)
	j.waiting[id] = answer
	j.mu.Unlock()
	request["transaction"] = id
	if j.session != 0 {
		request["session_id"] = j.session
	}
	text, err := json.Marshal(request)
	if err != nil {
		return janusReply{}, fmt.Errorf("load: Janus: %w", err)
	}
	writing, written := context.WithTimeout(context.WithoutCancel(ctx), janusLimit) // whose end closes the connection
	defer written()
	if err := j.conn.Write(writing, websocket.MessageText, text); err != nil {
		return janusReply{}, fmt.Errorf("load: Janus: %w", err)
	}
	select {
	case r := <-answer:
		if r.Error != nil {
			return r, fmt.Errorf("load: Janus: %v: %s", request["janus"], r.Error.Reason)
		}
		return r, nil
	case <-j.done:
		return janusReply{}, fmt.Errorf("load: Janus: %w", errEnded)
	case <-ctx.Done():
		return janusReply{}, gaveUp()
	}
}

// attach makes a handle of a plugin.
func (j *janus) attach(ctx context.Context, plugin string) (uint64, error) {
	r, err := j.do(ctx, map[string]any{"janus": "attach", "plugin": plugin})
	return r.Data.ID, err
}

// ask sends a message to a plugin and reads what it says into out.
func (j *janus) ask(ctx context.Context, handle uint64, body map[string]any, offer *webrtc.SessionDescription, out any) (*janusJSEP, error) {
	request := map[string]any{"janus": "message", "handle_id": handle, "body": body}
	if offer != nil {
		request["jsep"] = janusJSEP{Type: offer.Type.String(), SDP: offer.SDP}
	}
	r, err := j.do(ctx, request)
	if err != nil {
		return nil, err
	}
	var failed struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(r.Plugin.Data, &failed) == nil && failed.Error != "" {
		return nil, fmt.Errorf("load: Janus: %v: %s", body["request"], failed.Error)
	}
	if out != nil {
		if err := json.Unmarshal(r.Plugin.Data, out); err != nil {
			return nil, fmt.Errorf("load: Janus: answer to %v: %w", body["request"], err)
		}
	}
	return r.JSEP, nil
}
