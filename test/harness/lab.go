package harness

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/lab"
)

// Lab is a lab trunk that runs until the test ends.
type Lab struct{ *lab.Trunk }

// StartLab runs a lab trunk on free ports.
func StartLab(tb testing.TB, cfg lab.Config) Lab {
	tb.Helper()
	trunk, err := lab.Listen(cfg, Log(tb).With("part", "lab"))
	require.NoError(tb, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- trunk.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		require.NoError(tb, <-done)
	})
	return Lab{trunk}
}

// WithLab starts a lab and a gateway whose one trunk it is.
func WithLab(tb testing.TB, cfg lab.Config) (*Gateway, Lab) {
	tb.Helper()
	trunk := StartLab(tb, cfg)
	settings := Config(tb)
	settings.Trunks = append(settings.Trunks, Trunk("lab", trunk.URI("udp")))
	return Start(tb, settings), trunk
}

// NextCall waits for the next call that reaches the lab.
func (l Lab) NextCall(tb testing.TB) *lab.Call {
	tb.Helper()
	select {
	case c := <-l.Calls():
		return c
	case <-time.After(Patience):
		require.FailNow(tb, "no call reached the lab")
		return nil
	}
}

// Dial calls the gateway with a User-to-User value and fails the test unless it is answered.
func (l Lab) Dial(tb testing.TB, g *Gateway, userToUser string) *lab.Call {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	call, err := l.Call(ctx, lab.CallRequest{To: "sip:" + g.SIPAddr(tb, "udp"), From: "+15550123", UserToUser: userToUser})
	require.NoError(tb, err)
	return call
}

// WaitRecorded waits until a call has received this long a piece more than skip samples, and returns that piece.
func WaitRecorded(tb testing.TB, c *lab.Call, skip int, length time.Duration) []int16 {
	tb.Helper()
	want := skip + int(length.Seconds()*Rate)
	require.Eventually(tb, func() bool { return len(c.Recorded()) >= want }, Patience, 20*time.Millisecond,
		"the phone received too little")
	return c.Recorded()[skip:want]
}
