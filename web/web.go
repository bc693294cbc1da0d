// Package web is the demo page, embedded in the program: a browser joins a session, a phone is called into it, and
// both are seen and heard. The page is an ordinary client of the REST API and of the device protocol.
package web

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
)

//go:generate go run tandem/web/build

//go:embed dist
var dist embed.FS //nolint:gochecknoglobals // go:embed needs a package variable; it is never written

// policy lets the page load its own files and reach the gateway, and nothing else. A WebSocket may have another host,
// because the gateway's public address can differ from the one that the page was opened with.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
	"connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Handler serves the demo page at / and its files beside it. Everything else is 404. It never writes to the files and
// is safe from any goroutine.
func Handler() http.Handler {
	files, err := fs.Sub(dist, "dist")
	if err != nil {
		panic(err) // the name above is a constant
	}
	tags := etags(files)
	server := http.FileServerFS(files)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.URL.Path[min(1, len(r.URL.Path)):]
		if name == "" {
			name = "index.html"
			r = r.Clone(r.Context())
			r.URL.Path = "/"
		}
		tag, ok := tags[name]
		if !ok {
			http.NotFound(w, r)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
			return
		}
		h := w.Header()
		h.Set("ETag", tag)
		h.Set("Cache-Control", "no-cache") // ask each time, transfer only what is new
		h.Set("Content-Security-Policy", policy)
		h.Set("Permissions-Policy", "microphone=(self), camera=()")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		server.ServeHTTP(w, r)
	})
}

// etags are the files' names with a tag of what they hold: embedded files have no time of change.
func etags(files fs.FS) map[string]string {
	tags := make(map[string]string)
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		panic(err) // an embedded folder can be read
	}
	for _, e := range entries {
		content, err := fs.ReadFile(files, e.Name())
		if err != nil {
			panic(err) // likewise
		}
		sum := sha256.Sum256(content)
		tags[e.Name()] = `"` + hex.EncodeToString(sum[:8]) + `"`
	}
	return tags
}
