package web_test

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tandem/web"
)

func get(t *testing.T, method, path string, header http.Header) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, path, nil)
	maps.Copy(r.Header, header)
	w := httptest.NewRecorder()
	web.Handler().ServeHTTP(w, r)
	return w
}

func TestHandler(t *testing.T) {
	cases := map[string]struct {
		method, path string
		status       int
		kind, holds  string
	}{
		"page":       {"GET", "/", 200, "text/html", "<title>Tandem demo</title>"},
		"head":       {"HEAD", "/", 200, "text/html", ""},
		"script":     {"GET", "/app.js", 200, "text/javascript", "setMediaPreferences"},
		"styles":     {"GET", "/app.css", 200, "text/css", "prefers-color-scheme"},
		"icon":       {"GET", "/icon.svg", 200, "image/svg+xml", "<svg"},
		"unknown":    {"GET", "/favicon.ico", 404, "text/plain", ""},
		"outside":    {"GET", "/../web.go", 404, "text/plain", ""},
		"the folder": {"GET", "/dist/", 404, "text/plain", ""},
		"post":       {"POST", "/", 405, "text/plain", ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w := get(t, c.method, c.path, nil)
			assert.Equal(t, c.status, w.Code)
			assert.Contains(t, w.Header().Get("Content-Type"), c.kind)
			assert.Contains(t, w.Body.String(), c.holds)
			if c.status == http.StatusOK {
				assert.Contains(t, w.Header().Get("Content-Security-Policy"), "default-src 'none'")
				assert.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
			}
		})
	}
}

func TestHandlerAnswersNotModified(t *testing.T) {
	tag := get(t, "GET", "/app.js", nil).Header().Get("ETag")
	require.NotEmpty(t, tag)
	w := get(t, "GET", "/app.js", http.Header{"If-None-Match": {tag}})
	assert.Equal(t, http.StatusNotModified, w.Code)
	assert.Zero(t, w.Body.Len())
	assert.Equal(t, http.StatusOK, get(t, "GET", "/app.js", http.Header{"If-None-Match": {`"old"`}}).Code)
}

// TestPageObeysItsPolicy: nothing inline, nothing from elsewhere.
func TestPageObeysItsPolicy(t *testing.T) {
	page := get(t, "GET", "/", nil).Body.String()
	assert.NotRegexp(t, regexp.MustCompile(`(?i)<script(?:[^>]*[^-\w]src=)?[^>]*>[^<]`), strings.ReplaceAll(page, "\n", ""))
	assert.NotRegexp(t, regexp.MustCompile(`(?i)\s(on\w+|style)=`), page)
	for name, text := range map[string]string{"page": page, "styles": get(t, "GET", "/app.css", nil).Body.String()} {
		assert.NotRegexp(t, regexp.MustCompile(`(?i)(src|href|url)\s*[=(]\s*["']?(https?:)?//`), text, name)
	}
}

// TestPageNamesItsControls: each control has a text or a label.
func TestPageNamesItsControls(t *testing.T) {
	page := get(t, "GET", "/", nil).Body.String()
	for _, id := range regexp.MustCompile(`<input id="(\w+)"`).FindAllStringSubmatch(page, -1) {
		assert.Contains(t, page, `<label for="`+id[1]+`"`)
	}
	assert.NotRegexp(t, regexp.MustCompile(`<button[^>]*>\s*</button>`), page)
	assert.Contains(t, page, `<html lang="en">`)
}
