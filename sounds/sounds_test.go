package sounds_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/zaf/g711"
	"go.uber.org/goleak"

	"tandem/errs"
	"tandem/sounds"
	"tandem/test/audio"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wav writes samples, which are interleaved where there are several channels, as PCM of 16 bits.
func wav(rate, channels int, samples []int16) []byte {
	var data bytes.Buffer
	_ = binary.Write(&data, binary.LittleEndian, samples)
	return riff(1, rate, channels, 16, data.Bytes())
}

func riff(tag, rate, channels, bits int, data []byte) []byte {
	var b bytes.Buffer
	frame := channels * bits / 8
	for _, part := range []any{
		[]byte("RIFF"), uint32(44 + len(data)), []byte("WAVE"),
		[]byte("LIST"), uint32(3), []byte("abc\x00"), // a chunk of odd length that nobody knows
		[]byte("fmt "), uint32(16), uint16(tag), uint16(channels), uint32(rate), uint32(rate * frame), uint16(frame), uint16(bits),
		[]byte("data"), uint32(len(data)), data,
	} {
		_ = binary.Write(&b, binary.LittleEndian, part)
	}
	return b.Bytes()
}

func open(t *testing.T, cfg sounds.Config) *sounds.Library {
	t.Helper()
	l, err := sounds.New(cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

// folder makes a library over files.
func folder(t *testing.T, files map[string][]byte, change ...func(*sounds.Config)) (*sounds.Library, string) {
	t.Helper()
	dir := t.TempDir()
	for name, b := range files {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o750))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
	cfg := sounds.Config{Folder: dir}
	for _, f := range change {
		f(&cfg)
	}
	return open(t, cfg), dir
}

func refused(t *testing.T, l *sounds.Library, name string, code errs.Code, words string) {
	t.Helper()
	_, err := l.Sound(t.Context(), name)
	require.Error(t, err, name)
	require.Equal(t, code.String(), errs.CodeOf(err).String(), "%s: %v", name, err)
	require.ErrorContains(t, err, words, name)
}

// TestEveryRate wants a tone of 1 kHz unharmed from every rate, mono and stereo, and what lies above half our rate gone.
func TestEveryRate(t *testing.T) {
	for _, rate := range []int{8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000} {
		t.Run(strconv.Itoa(rate), func(t *testing.T) {
			t.Parallel()
			mono := audio.Tone(1000, -12, rate, time.Second)
			stereo := make([]int16, 0, 2*len(mono))
			for _, s := range mono {
				stereo = append(stereo, s, s)
			}
			l, _ := folder(t, map[string][]byte{"mono.wav": wav(rate, 1, mono), "stereo.wav": wav(rate, 2, stereo)})
			for _, name := range []string{"mono.wav", "stereo.wav"} {
				got, err := l.Sound(t.Context(), name)
				require.NoError(t, err)
				require.InDelta(t, 8000, len(got), 1)
				middle := got[400:7600]
				require.InDelta(t, 1000, audio.Frequency(middle, 8000), 0.1)
				require.InDelta(t, -12, audio.Level(middle), 0.05)
				require.Greater(t, audio.SNR(middle, 8000, 1000), 75.0)
			}
		})
	}
}

// TestAlias measures what the filter lets through and what it keeps out, in dB against the tone that went in.
func TestAlias(t *testing.T) {
	gain := func(rate int, hz float64) float64 {
		l, _ := folder(t, map[string][]byte{"x.wav": wav(rate, 1, audio.Tone(hz, -3, rate, time.Second))})
		got, err := l.Sound(t.Context(), "x.wav")
		require.NoError(t, err)
		return audio.Level(got[800:7200]) + 3
	}
	worst := math.Inf(-1)
	for _, rate := range []int{11025, 16000, 44100, 48000, 96000} {
		for _, hz := range []float64{4000, 4100, 4300, 4600, 5000, 5400, 7000, 7900, 9000, 12000, 15900, 20000, 23000} {
			if hz < float64(rate)/2 {
				g := gain(rate, hz)
				worst = max(worst, g)
				require.Less(t, g, -60.0, "%g Hz of %d Hz comes through", hz, rate)
			}
		}
		for _, hz := range []float64{200, 1000, 3000, 3400} {
			require.InDelta(t, 0, gain(rate, hz), 0.1, "%g Hz of %d Hz", hz, rate)
		}
	}
	t.Logf("the loudest alias has %.1f dB", worst)
}

func TestG711(t *testing.T) {
	pcm := audio.Tone(1000, -12, 8000, time.Second)
	var alaw, mulaw []byte
	for _, s := range pcm {
		alaw, mulaw = append(alaw, g711.EncodeAlawFrame(s)), append(mulaw, g711.EncodeUlawFrame(s))
	}
	l, _ := folder(t, map[string][]byte{"a.wav": riff(6, 8000, 1, 8, alaw), "u.wav": riff(7, 8000, 1, 8, mulaw)})
	for _, name := range []string{"a.wav", "u.wav"} {
		got, err := l.Sound(t.Context(), name)
		require.NoError(t, err)
		require.Len(t, got, 8000)
		require.InDelta(t, -12, audio.Level(got), 0.1)
		require.Greater(t, audio.SNR(got, 8000, 1000), 33.0) // what G.711 leaves of a tone
	}
}

func TestRefusedFiles(t *testing.T) {
	short := audio.Tone(1000, -12, 8000, 100*time.Millisecond)
	l, dir := folder(t, map[string][]byte{
		"good.wav":      wav(8000, 1, short),
		"text.wav":      []byte("hello"),
		"empty":         nil,
		"no data.wav":   riff(1, 8000, 1, 16, nil),
		"24 bits.wav":   riff(1, 8000, 1, 24, make([]byte, 30)),
		"5.1.wav":       riff(1, 48000, 6, 16, make([]byte, 120)),
		"odd rate.wav":  riff(1, 7999, 1, 16, make([]byte, 20)),
		"no format.wav": []byte("RIFF\x10\x00\x00\x00WAVEdata\x04\x00\x00\x00abcd"),
		"long.wav":      wav(8000, 1, make([]int16, 16001)),
		"big.wav":       wav(8000, 1, make([]int16, 40000)),
	}, func(c *sounds.Config) { c.MaxLength, c.MaxBytes = 2*time.Second, 60000 })
	for name, words := range map[string]string{
		"text.wav": "WAV or Ogg", "empty": "WAV or Ogg", "no data.wav": "empty", "24 bits.wav": "24 bits", "5.1.wav": "6 channels",
		"odd rate.wav": "7999", "no format.wav": "before their format", "long.wav": "longer than 2s", "big.wav": "at most 60000",
	} {
		refused(t, l, name, errs.Invalid, words)
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, "folder"), 0o750))
	refused(t, l, "folder", errs.Invalid, "no file")
	refused(t, l, "missing.wav", errs.NotFound, "there is no sound")
	_, err := l.Sound(t.Context(), "good.wav")
	require.NoError(t, err)
}

// TestNothingLeavesTheFolder is a name that leads elsewhere, in every way.
func TestNothingLeavesTheFolder(t *testing.T) {
	good := wav(8000, 1, make([]int16, 800))
	l, dir := folder(t, map[string][]byte{"sub/good.wav": good})
	outside := filepath.Join(t.TempDir(), "secret.wav")
	require.NoError(t, os.WriteFile(outside, good, 0o600))
	require.NoError(t, os.Symlink(outside, filepath.Join(dir, "link.wav")))
	require.NoError(t, os.Symlink(filepath.Dir(outside), filepath.Join(dir, "linked")))
	require.NoError(t, os.Symlink("sub/good.wav", filepath.Join(dir, "inner.wav")))
	for _, name := range []string{
		outside, "../" + filepath.Base(filepath.Dir(outside)) + "/secret.wav", "sub/../../x.wav", "..", "link.wav", "linked/secret.wav", "",
	} {
		refused(t, l, name, errs.Forbidden, "folder of sounds")
	}
	for _, name := range []string{"sub/good.wav", "inner.wav", "sub/../sub/good.wav"} {
		_, err := l.Sound(t.Context(), name)
		require.NoError(t, err, name)
	}
	refused(t, open(t, sounds.Config{}), "good.wav", errs.NotFound, "sounds.folder is not configured")
}

func TestAFileThatChanges(t *testing.T) {
	l, dir := folder(t, map[string][]byte{"x.wav": wav(8000, 1, make([]int16, 800))})
	first, err := l.Sound(t.Context(), "x.wav")
	require.NoError(t, err)
	again, err := l.Sound(t.Context(), "x.wav")
	require.NoError(t, err)
	require.Same(t, &first[0], &again[0], "it is not read twice")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "x.wav"), wav(8000, 1, make([]int16, 1600)), 0o600))
	changed, err := l.Sound(t.Context(), "x.wav")
	require.NoError(t, err)
	require.Len(t, changed, 1600)
}

func TestTheCacheIsBounded(t *testing.T) {
	files := map[string][]byte{}
	for i := range 5 {
		files[strconv.Itoa(i)] = wav(8000, 1, make([]int16, 1000))
	}
	l, _ := folder(t, files, func(c *sounds.Config) { c.CacheBytes = 8000 })
	at := map[string]*int16{}
	get := func(name string) bool { // whether it came from the cache
		got, err := l.Sound(t.Context(), name)
		require.NoError(t, err)
		was := at[name]
		at[name] = &got[0]
		return was == &got[0]
	}
	for _, name := range []string{"0", "1", "2"} {
		require.False(t, get(name))
	}
	require.True(t, get("0"))
	require.False(t, get("3"), "a fourth has no room")
	require.False(t, get("1"), "the least used went")
	require.True(t, get("0"))
	require.True(t, get("3"))

	// A short sound takes room too: an application can ask for it under any number of names.
	short := wav(8000, 1, make([]int16, 1))
	l, _ = folder(t, map[string][]byte{"x": short}, func(c *sounds.Config) { c.CacheBytes = 1500 })
	for _, name := range []string{"x", "./x", "././x"} {
		require.False(t, get(name))
	}
	require.False(t, get("x"), "it went when the third came")
	require.True(t, get("x"))
}

// server is an application's sounds.
type server struct {
	*httptest.Server

	hits, unchanged atomic.Int32
	down            atomic.Bool
	cacheControl    string
}

func serve(t *testing.T, body []byte) *server {
	t.Helper()
	s := &server{}
	mux := http.NewServeMux()
	mux.HandleFunc("/sounds/x.wav", func(w http.ResponseWriter, r *http.Request) {
		s.hits.Add(1)
		if s.down.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		w.Header().Set("ETag", `"1"`)
		if s.cacheControl != "" {
			w.Header().Set("Cache-Control", s.cacheControl)
		}
		if r.Header.Get("If-None-Match") == `"1"` {
			s.unchanged.Add(1)
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = w.Write(body)
	})
	redirect := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) }
	}
	mux.HandleFunc("/sounds/inside", redirect("/sounds/x.wav"))
	mux.HandleFunc("/sounds/outside", redirect("/secret.wav"))
	mux.HandleFunc("/sounds/elsewhere", redirect("http://127.0.0.2:1/sounds/x.wav"))
	mux.HandleFunc("/sounds/round", redirect("/sounds/round"))
	mux.HandleFunc("/secret.wav", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })
	mux.HandleFunc("/sounds/error", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	mux.HandleFunc("/sounds/endless", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/sounds/hangs", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func TestFetch(t *testing.T) {
	s := serve(t, wav(8000, 1, audio.Tone(700, -12, 8000, time.Second)))
	l := open(t, sounds.Config{Allow: []string{s.URL + "/sounds"}, MaxBytes: 1 << 20, Timeout: 300 * time.Millisecond})
	got, err := l.Sound(t.Context(), s.URL+"/sounds/x.wav?secret=hunter2")
	require.NoError(t, err)
	require.InDelta(t, 700, audio.Frequency(got, 8000), 0.1)
	_, err = l.Sound(t.Context(), s.URL+"/sounds/inside")
	require.NoError(t, err, "a redirect below the allowed address")
	for _, c := range []struct {
		name  string
		code  errs.Code
		words string
	}{
		{s.URL + "/secret.wav", errs.Forbidden, "sounds.allow"},
		{s.URL + "/sounds/../secret.wav", errs.Forbidden, "sounds.allow"},
		{s.URL + "/sounds/%2e%2e/secret.wav", errs.Forbidden, "sounds.allow"},
		{s.URL + "/soundsx/x.wav", errs.Forbidden, "sounds.allow"},
		{strings.Replace(s.URL, "http://", "http://user:pass@", 1) + "/sounds/x.wav", errs.Forbidden, "sounds.allow"},
		{strings.Replace(s.URL, "http://", "https://", 1) + "/sounds/x.wav", errs.Forbidden, "sounds.allow"},
		{s.URL + "@evil.example.com/sounds/x.wav", errs.Forbidden, "sounds.allow"},
		{"http://evil.example.com/sounds/x.wav", errs.Forbidden, "sounds.allow"},
		{"file:///etc/passwd", errs.Invalid, "malformed"},
		{s.URL + "/sounds/outside", errs.Forbidden, "redirects to"},
		{s.URL + "/sounds/elsewhere", errs.Forbidden, "redirects to"},
		{s.URL + "/sounds/round", errs.Unavailable, "too often"},
		{s.URL + "/sounds/none.wav", errs.NotFound, "does not exist"},
		{s.URL + "/sounds/error", errs.Unavailable, "418"},
		{s.URL + "/sounds/endless", errs.Invalid, "1048576 bytes"},
		{s.URL + "/sounds/hangs?secret=hunter2", errs.Unavailable, "can't be fetched"},
	} {
		_, err := l.Sound(t.Context(), c.name)
		require.Error(t, err, c.name)
		require.Equal(t, c.code.String(), errs.CodeOf(err).String(), "%s: %v", c.name, err)
		require.ErrorContains(t, err, c.words, c.name)
		require.NotContains(t, err.Error(), "hunter2")
		require.NotContains(t, err.Error(), "user:pass")
	}
}

// TestPrivateAddresses is a name that leads into the machine: only an address that the list itself has may.
func TestPrivateAddresses(t *testing.T) {
	s := serve(t, wav(8000, 1, make([]int16, 800)))
	byName := strings.Replace(s.URL, "127.0.0.1", "localhost", 1)
	refused(t, open(t, sounds.Config{Allow: []string{byName}}), byName+"/sounds/x.wav", errs.Forbidden, "private address")
	require.Zero(t, s.hits.Load())
	_, err := open(t, sounds.Config{Allow: []string{byName}, AllowPrivate: true}).Sound(t.Context(), byName+"/sounds/x.wav")
	require.NoError(t, err)
	_, err = open(t, sounds.Config{Allow: []string{s.URL}}).Sound(t.Context(), s.URL+"/sounds/x.wav")
	require.NoError(t, err)
}

func TestACopyIsAskedForAgain(t *testing.T) {
	s := serve(t, wav(8000, 1, make([]int16, 800)))
	s.cacheControl = "max-age=0"
	l := open(t, sounds.Config{Allow: []string{s.URL}})
	name := s.URL + "/sounds/x.wav"
	first, err := l.Sound(t.Context(), name)
	require.NoError(t, err)
	again, err := l.Sound(t.Context(), name)
	require.NoError(t, err)
	require.Same(t, &first[0], &again[0])
	require.EqualValues(t, 2, s.hits.Load())
	require.EqualValues(t, 1, s.unchanged.Load(), "asked with its ETag")
	s.down.Store(true)
	_, err = l.Sound(t.Context(), name)
	require.NoError(t, err, "while the server fails, the copy is played")

	s.cacheControl = ""
	s.down.Store(false)
	fresh := open(t, sounds.Config{Allow: []string{s.URL}})
	s.hits.Store(0)
	for range 3 {
		_, err := fresh.Sound(t.Context(), name)
		require.NoError(t, err)
	}
	require.EqualValues(t, 1, s.hits.Load(), "for five minutes it is not asked for again")
}

func TestManyWantTheSame(t *testing.T) {
	s := serve(t, wav(8000, 1, make([]int16, 800)))
	l := open(t, sounds.Config{Allow: []string{s.URL}})
	var wg sync.WaitGroup
	var failures atomic.Int32
	for range 50 {
		wg.Go(func() {
			if _, err := l.Sound(t.Context(), s.URL+"/sounds/x.wav"); err != nil {
				failures.Add(1)
			}
		})
	}
	wg.Wait()
	require.Zero(t, failures.Load())
	require.EqualValues(t, 1, s.hits.Load())
}

func TestGivenUp(t *testing.T) {
	s := serve(t, nil)
	l := open(t, sounds.Config{Allow: []string{s.URL}})
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("the call is over"))
	_, err := l.Sound(ctx, s.URL+"/sounds/hangs")
	require.Equal(t, errs.Unavailable, errs.CodeOf(err))
}

func TestTones(t *testing.T) {
	l := open(t, sounds.Config{})
	ring, err := l.Sound(t.Context(), "tone:ringback")
	require.NoError(t, err)
	require.Len(t, ring, 6*8000)
	for _, hz := range []float64{440, 480} {
		// 0 dBm0 is 3.14 dB below the loudest tone that G.711 has (ITU-T G.711).
		require.InDelta(t, -19-3.14, audio.Goertzel(ring[4000:12000], 8000, hz), 0.3)
	}
	require.Zero(t, ring[2*8000+1], "then a pause")
	refused(t, l, "tone:nothing", errs.NotFound, "tone:busy, tone:ringback")
}

func TestConfig(t *testing.T) {
	for _, cfg := range []sounds.Config{
		{Allow: []string{"ftp://x/"}},
		{Allow: []string{"app.example.com"}},
		{Allow: []string{"https://u:p@x/"}},
		{Allow: []string{"https://x/../"}},
		{Folder: "/does/not/exist"},
	} {
		_, err := sounds.New(cfg, slog.New(slog.DiscardHandler))
		require.Error(t, err)
		require.Equal(t, errs.Invalid, errs.CodeOf(err))
		require.ErrorContains(t, err, "sounds.")
	}
}
