package lab_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"tandem/lab"
	"tandem/media"
)

const patience = 20 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs a trunk until the test ends and fails the test when Run fails.
func start(t *testing.T, cfg lab.Config) *lab.Trunk {
	t.Helper()
	trunk, err := lab.Listen(cfg, slog.New(slog.NewTextHandler(io.Discard, nil)))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- trunk.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			assert.NoError(t, err)
		case <-time.After(patience):
			t.Error("Run did not return")
		}
	})
	return trunk
}

func to(trunk *lab.Trunk, number, transport string) string {
	return "sip:" + number + "@" + strings.TrimPrefix(trunk.URI(transport), "sip:")
}

func call(t *testing.T, from, at *lab.Trunk, r lab.CallRequest) *lab.Call {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if !strings.HasPrefix(r.To, "sip:") {
		r.To = to(at, r.To, "udp")
	}
	c, err := from.Call(ctx, r)
	require.NoError(t, err)
	return c
}

func ended(t *testing.T, c *lab.Call) {
	t.Helper()
	select {
	case <-c.Done():
	case <-time.After(patience):
		t.Fatal("the call did not end")
	}
}

func keys(t *testing.T, c *lab.Call, n int) string {
	t.Helper()
	var got strings.Builder
	for got.Len() < n {
		select {
		case k, ok := <-c.Keys():
			require.True(t, ok, "the call ended after %q", got.String())
			got.WriteByte(k)
		case <-time.After(patience):
			t.Fatalf("no key after %q", got.String())
		}
	}
	return got.String()
}

// strength is the share of the power of samples that lies at f (Goertzel): 1 for a pure tone.
func strength(samples []int16, f float64) float64 {
	var re, im, power float64
	for i, s := range samples {
		v := float64(s)
		re += v * math.Cos(2*math.Pi*f*float64(i)/8000)
		im += v * math.Sin(2*math.Pi*f*float64(i)/8000)
		power += v * v
	}
	if power == 0 {
		return 0
	}
	return 2 * (re*re + im*im) / (power * float64(len(samples)))
}

func power(samples []int16) float64 {
	sum := 0.0
	for _, s := range samples {
		sum += float64(s) * float64(s)
	}
	return sum / float64(max(1, len(samples)))
}

// lastHalfSecond waits until that much was recorded after the first sound.
func lastHalfSecond(t *testing.T, c *lab.Call) []int16 {
	t.Helper()
	var got []int16
	require.Eventually(t, func() bool {
		rec := c.Recorded()
		for i := 0; i+160 <= len(rec); i += 160 {
			if power(rec[i:i+160]) > 100 {
				got = rec[len(rec)-4000*btoi(len(rec) >= 4000):]
				return len(rec)-i > 5600
			}
		}
		return false
	}, patience, 20*time.Millisecond, "nothing was heard")
	return got
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	near, far := start(t, lab.Config{}), start(t, lab.Config{})
	cases := []struct {
		name, number, transport string
		code                    int
	}{
		{"busy", "+15550101", "udp", 486},
		{"declined", "+15550103", "udp", 603},
		{"not found", "+15550104", "udp", 404},
		{"unknown", "+4930123100", "udp", 404},
		{"no user", "", "udp", 404},
		{"busy over TCP", "101", "tcp", 486},
		{"short and without plus", "15550103", "tcp", 603},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			uri := to(far, tc.number, tc.transport)
			if tc.number == "" {
				uri = far.URI(tc.transport)
			}
			c, err := near.Call(ctx, lab.CallRequest{To: uri})
			var refused *lab.CallError
			require.ErrorAs(t, err, &refused)
			assert.Equal(t, tc.code, refused.Code)
			s := c.Status()
			assert.True(t, s.Ended)
			assert.True(t, s.ByFarEnd)
			assert.Equal(t, tc.code, s.Code)
			ended(t, c)
		})
	}
}

func TestRingsAndIsCancelled(t *testing.T) {
	t.Parallel()
	near, far := start(t, lab.Config{}), start(t, lab.Config{})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c, err := near.Call(ctx, lab.CallRequest{To: to(far, "+15550102", "udp"), Progress: func(_ *lab.Call, code int) {
		if code == 180 {
			cancel()
		}
	}})
	require.Error(t, err)
	assert.Equal(t, 180, c.Status().Code)
	their := <-far.Calls()
	ended(t, their)
	assert.Equal(t, lab.Status{Ended: true, ByFarEnd: true, Code: 487, Reason: "cancelled"}, their.Status())
}

func TestEcho(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, transport string
		codecs          []string
	}{
		{"PCMU over UDP", "udp", []string{"PCMU"}},
		{"PCMA over TCP", "tcp", []string{"PCMA", "PCMU"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			near, far := start(t, lab.Config{}), start(t, lab.Config{})
			c := call(t, near, far, lab.CallRequest{To: to(far, "+15550100", tc.transport), Codecs: tc.codecs})
			c.SetSource(lab.Tone(0.5, 1000))
			assert.Greater(t, strength(lastHalfSecond(t, c), 1000), 0.95)
			require.NoError(t, c.SendKeys("12#d"))
			assert.Equal(t, "12#D", keys(t, c, 4))
			require.NoError(t, c.Hangup())
			ended(t, c)
			their := <-far.Calls()
			ended(t, their)
			assert.True(t, their.Status().ByFarEnd)
			assert.False(t, c.Status().ByFarEnd)
			_, open := <-c.Keys()
			assert.False(t, open)
		})
	}
}

func TestSpeaks(t *testing.T) {
	t.Parallel()
	near, far := start(t, lab.Config{}), start(t, lab.Config{})
	c := call(t, near, far, lab.CallRequest{To: "+15550105"})
	heard := lastHalfSecond(t, c)
	rec := c.Recorded()
	assert.Greater(t, power(heard), 100.0)
	speech := lab.Speech()
	from := 0
	for rec[from] == 0 && from < len(rec)-1 {
		from++
	}
	for start := range speech { // the recording begins with the sentence, sample by sample
		if speech[start] == 0 {
			continue
		}
		n := min(1600, len(rec)-from)
		assert.Equal(t, speech[start:start+n], rec[from:from+n])
		break
	}
	require.NoError(t, c.Hangup())
	ended(t, c)
}

func TestEarlyMedia(t *testing.T) {
	t.Parallel()
	near, far := start(t, lab.Config{}), start(t, lab.Config{})
	var codes []int
	early := 0
	c := call(t, near, far, lab.CallRequest{To: "+15550106", Progress: func(_ *lab.Call, code int) { codes = append(codes, code) }})
	early = len(c.Recorded())
	assert.Contains(t, codes, 183)
	assert.Greater(t, early, 8000, "audio before the answer")
	ring := c.Recorded()[1600:6400]
	assert.Greater(t, strength(ring, 440)+strength(ring, 480), 0.9)
	require.NoError(t, c.Hangup())
	ended(t, c)
}

func TestHangsUpByItself(t *testing.T) {
	t.Parallel()
	near, far := start(t, lab.Config{}), start(t, lab.Config{})
	c := call(t, near, far, lab.CallRequest{To: "+15550107"})
	ended(t, c)
	s := c.Status()
	assert.True(t, s.Answered)
	assert.True(t, s.ByFarEnd)
	require.NoError(t, c.Hangup(), "a second end is none")
}

func TestPressesKeys(t *testing.T) {
	t.Parallel()
	near, far := start(t, lab.Config{}), start(t, lab.Config{})
	uri := strings.TrimPrefix(far.URI("udp"), "sip:")
	for _, tc := range []struct {
		name string
		req  lab.CallRequest
		want string
	}{
		{"default", lab.CallRequest{To: "sip:+15550108@" + uri}, "1234"},
		{"URI parameter", lab.CallRequest{To: "sip:+15550108@" + uri + ";digits=98"}, "98"},
		{"header", lab.CallRequest{To: "sip:+15550108@" + uri, Headers: map[string]string{"X-Digits": "*7#"}}, "*7#"},
		{"User-to-User", lab.CallRequest{To: "sip:+15550108@" + uri, UserToUser: "5511"}, "5511"},
		{"User-to-User in hex", lab.CallRequest{To: "sip:+15550108@" + uri, UserToUser: "3632;encoding=hex"}, "62"},
		{"nothing usable", lab.CallRequest{To: "sip:+15550108@" + uri, UserToUser: "abc-x;encoding=jwt"}, "1234"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := call(t, near, far, tc.req)
			assert.Equal(t, tc.want, keys(t, c, len(tc.want)))
			require.NoError(t, c.Hangup())
			ended(t, c)
		})
	}
}

func TestPressesKeysInTheSound(t *testing.T) {
	t.Parallel()
	near, far := start(t, lab.Config{}), start(t, lab.Config{})
	uri := strings.TrimPrefix(far.URI("udp"), "sip:")
	for _, req := range []lab.CallRequest{
		{To: "sip:+15550108@" + uri + ";digits=159*d;method=inband"},
		{To: "sip:+15550108@" + uri, Headers: map[string]string{"X-Digits": "159*d", "X-Digits-Method": "InBand"}},
	} {
		c := call(t, near, far, req)
		require.Eventually(t, func() bool {
			var r media.ToneReader
			got, _ := r.Sound(nil, c.Recorded())
			digits := ""
			for _, k := range got {
				if k.Ended {
					digits += string(k.Digit)
				}
			}
			return digits == "159*D"
		}, patience, 20*time.Millisecond)
		assert.Error(t, c.SoundKeys("1x"))
		require.NoError(t, c.Hangup())
		ended(t, c)
	}
}

func TestHandlersAndPlay(t *testing.T) {
	t.Parallel()
	tone := make([]int16, 8000)
	lab.Tone(0.4, 700)(tone)
	far := start(t, lab.Config{Handlers: map[string]func(*lab.Call){
		"+15551234567": func(c *lab.Call) {
			c.Play(tone)
			if c.Answer() == nil {
				<-c.Ended()
			}
		},
		"*": func(c *lab.Call) { _ = c.Reject(480, "Temporarily Unavailable") },
	}})
	near := start(t, lab.Config{})
	c := call(t, near, far, lab.CallRequest{To: "+15551234567", From: "+15557654321", UserToUser: "abc;encoding=jwt"})
	their := <-far.Calls()
	assert.Equal(t, "+15551234567", their.Number)
	assert.Contains(t, their.From, "+15557654321")
	assert.Equal(t, "abc;encoding=jwt", their.UserToUser)
	require.Eventually(t, func() bool { return len(c.Recorded()) > 12000 }, patience, 20*time.Millisecond)
	rec := c.Recorded()
	assert.Greater(t, strength(rec[1600:6400], 700), 0.95)
	assert.Less(t, power(rec[10000:12000]), 100.0, "silence after what was played")
	require.NoError(t, their.Hangup())
	ended(t, c)

	_, err := near.Call(t.Context(), lab.CallRequest{To: to(far, "999", "udp")})
	var refused *lab.CallError
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, 480, refused.Code)
}

func TestChallenge(t *testing.T) {
	t.Parallel()
	far := start(t, lab.Config{Username: "carrier", Password: "secret"})
	near := start(t, lab.Config{})
	for _, tc := range []struct {
		name, user, password string
		code                 int
	}{
		{"right", "carrier", "secret", 0},
		{"wrong password", "carrier", "guess", 407},
		{"wrong user", "somebody", "secret", 407},
		{"none", "", "", 407},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			c, err := near.Call(ctx, lab.CallRequest{To: to(far, "100", "udp"), Username: tc.user, Password: tc.password})
			if tc.code == 0 {
				require.NoError(t, err)
				require.NoError(t, c.Hangup())
				return
			}
			var refused *lab.CallError
			require.ErrorAs(t, err, &refused)
			assert.Equal(t, tc.code, refused.Code)
		})
	}
}

// deafTo answers calls at a socket of its own until the test ends, but none of the first so many BYEs, as if they had been
// lost. It returns its URI, and the number of each BYE as it comes.
func deafTo(t *testing.T, lost int) (uri string, byes <-chan int) {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	came := make(chan int, 32)
	var contact sip.Uri
	require.NoError(t, sip.ParseUri("sip:"+conn.LocalAddr().String(), &contact))
	var reading sync.WaitGroup
	reading.Go(func() {
		buffer := make([]byte, 1<<16)
		for n := 0; ; {
			size, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			message, err := sip.ParseMessage(buffer[:size])
			if !assert.NoError(t, err) {
				return
			}
			req, ok := message.(*sip.Request)
			if !ok || req.Method == sip.ACK {
				continue
			}
			if req.Method == sip.BYE {
				n++
				came <- n
				if n <= lost {
					continue
				}
			}
			res := sip.NewResponseFromRequest(req, sip.StatusOK, "OK", []byte("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\n"+
				"c=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\na=inactive\r\n"))
			res.AppendHeader(&sip.ContactHeader{Address: contact})
			res.AppendHeader(sip.NewHeader("Content-Type", "application/sdp"))
			_, err = conn.WriteTo([]byte(res.String()), from)
			assert.NoError(t, err)
		}
	})
	t.Cleanup(func() {
		_ = conn.Close()
		reading.Wait()
	})
	return "sip:+15550105@" + conn.LocalAddr().String(), came
}

func TestHangsUpThoughFourByesAreLost(t *testing.T) {
	t.Parallel()
	near := start(t, lab.Config{})
	uri, byes := deafTo(t, 4)
	c := call(t, near, nil, lab.CallRequest{To: uri})
	require.NoError(t, c.Hangup())
	ended(t, c)
	require.Len(t, byes, 5)
}

func TestEndOfRunDoesNotWaitForALostBye(t *testing.T) {
	t.Parallel()
	uri, byes := deafTo(t, math.MaxInt)
	hungUp := make(chan error, 1)
	t.Cleanup(func() { assert.Error(t, <-hungUp) }) // after the end of Run, which has to come within patience
	c := call(t, start(t, lab.Config{}), nil, lab.CallRequest{To: uri})
	go func() { hungUp <- c.Hangup() }()
	<-byes
}

func TestEndOfRunHangsUp(t *testing.T) {
	t.Parallel()
	near := start(t, lab.Config{})
	far, err := lab.Listen(lab.Config{}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- far.Run(ctx) }()
	c := call(t, near, far, lab.CallRequest{To: "105"})
	cancel()
	ended(t, c)
	assert.True(t, c.Status().ByFarEnd)
	require.NoError(t, <-done)
}

func TestBadConfigAndRequests(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	for _, listen := range []string{"sctp://127.0.0.1:0", "udp://256.0.0.1:0", "::"} {
		_, err := lab.Listen(lab.Config{Listen: []string{"udp://127.0.0.1:0", listen}}, log)
		assert.Error(t, err, listen)
	}
	near := start(t, lab.Config{Listen: []string{"udp://127.0.0.1:0"}})
	for _, r := range []lab.CallRequest{
		{To: ""},
		{To: "sip:1@127.0.0.1:9", Transport: "tcp"},
		{To: "sip:1@127.0.0.1:9", Codecs: []string{"G729"}},
	} {
		_, err := near.Call(t.Context(), r)
		assert.Error(t, err, "%+v", r)
		var refused *lab.CallError
		assert.False(t, errors.As(err, &refused))
	}
	c := call(t, near, near, lab.CallRequest{To: "100"})
	assert.Error(t, c.SendKeys("1x"))
	assert.Error(t, c.SendKeys(strings.Repeat("1", 300)))
	assert.Error(t, c.Ring(), "ours to call, not to answer")
	require.NoError(t, c.Hangup())
}
