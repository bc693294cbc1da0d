package sessions_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/sessions"
)

// plainRecorder notes what it is told of its session's passthrough, and what it hears of a session when it is told that
// there is none.
type plainRecorder struct {
	*recorder
	told []bool
	late bool
}

func (r *plainRecorder) SetPassthrough(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = append(r.told, on)
}

// Subscribe notes a source that comes before the word of its session.
func (r *plainRecorder) Subscribe(src *media.Source) {
	r.mu.Lock()
	r.late = r.late || len(r.told) == 0 || !r.told[len(r.told)-1]
	r.mu.Unlock()
	r.recorder.Subscribe(src)
}

func (r *plainRecorder) last(t *testing.T) bool {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	require.NotEmpty(t, r.told)
	return r.told[len(r.told)-1]
}

// TestPassthroughIsTold: an endpoint knows what its session wants before it hears anybody in it, however it came there.
func TestPassthroughIsTold(t *testing.T) {
	t.Parallel()
	h := open(t, sessions.Config{})
	plain, err := h.CreateSession(t.Context(), account, sessions.NewSession{Passthrough: true})
	require.NoError(t, err)
	require.True(t, plain.Passthrough)
	read, err := h.Session(t.Context(), account, plain.ID)
	require.NoError(t, err)
	require.True(t, read.Passthrough)

	ann := h.member(t, plain.ID, everybody(plain.ID))
	speaks, _ := h.device(t, ann, "laptop")
	speaks.Publish(voice(ann.ID, "mic", "mic"))

	bob := h.member(t, plain.ID, everybody(plain.ID)) // in the session before he connects
	first := &plainRecorder{recorder: newRecorder()}
	_, err = h.Connect(t.Context(), bob, "desk", first)
	require.NoError(t, err)
	require.True(t, first.last(t))
	require.False(t, first.late)
	second := &plainRecorder{recorder: newRecorder()}
	_, err = h.Connect(t.Context(), bob, "another", second) // in place of the first
	require.NoError(t, err)
	require.True(t, second.last(t))
	require.False(t, second.late)

	eve := h.participant(t) // connected before she joins
	third := &plainRecorder{recorder: newRecorder()}
	_, err = h.Connect(t.Context(), eve, "mobile", third)
	require.NoError(t, err)
	require.NoError(t, h.Join(t.Context(), account, plain.ID, eve.ID, everybody(plain.ID)))
	require.True(t, third.last(t))
	require.Equal(t, []string{"mic"}, third.hears(t))
	require.False(t, third.late)
	require.NoError(t, h.SetSubscriptions(t.Context(), account, plain.ID, eve.ID, everybody(plain.ID)))
	require.True(t, third.last(t), "a change within the session")
	require.NoError(t, h.Leave(t.Context(), account, plain.ID, eve.ID))
	require.False(t, third.last(t))

	ordinary := h.session(t)
	require.NoError(t, h.Join(t.Context(), account, ordinary, eve.ID, sessions.Subscriptions{}))
	require.False(t, third.last(t))
	require.NoError(t, h.DeleteSession(t.Context(), account, plain.ID))
	require.False(t, second.last(t), "its session is gone")
}
