package sounds

import (
	"net"
	"net/url"
	"path"
	"strings"
	"testing"
	"unicode/utf8"

	"tandem/errs"
)

// FuzzAllow reads anything as an entry of sounds.allow and anything as a sound's address. An entry that is taken is the
// same when it is written out and read again. An address that is allowed leads to the entry's own server, below its
// folder however its steps are resolved; one that is refused has its query told to nobody.
func FuzzAllow(f *testing.F) {
	f.Add("https://app.example.com/sounds", "https://APP.example.com:443/sounds/x.wav?key=hush")
	f.Add("http://[2001:db8::1%25eth0]:8080/", "http://[2001:db8::1%25eth0]:8080/a/../b")
	f.Add("http://x/a%2fb/", "http://x/a/b//c")
	f.Add("http://x/a/", "http://x/a/%2e%2e/%2E./b")
	f.Add("http://x", "http://user:pass@x/a?secret=hush")
	f.Add("https://x/../", "https:x")
	f.Add("https://x/", "https://y/a?secret=hush-0123456789abcdef")
	f.Add("http://:80/", "http://x\\@y/\x00")
	f.Fuzz(func(t *testing.T, entry, name string) {
		p, err := parsePrefix(entry)
		if (CheckAllow(entry) == nil) != (err == nil) {
			t.Fatalf("%q is read in two ways", entry)
		}
		if err != nil {
			return
		}
		if strings.ContainsAny(p.hostname, "[]") || !utf8.ValidString(p.hostname) {
			return // it leads nowhere
		}
		host, port, err := net.SplitHostPort(p.host)
		if err != nil || host == "" || port == "" || host != strings.ToLower(p.hostname) {
			t.Fatalf("%q has the server %q", entry, p.host)
		}
		if p.scheme != "http" && p.scheme != "https" || !strings.HasSuffix(p.path, "/") || !within("/"+p.path, "/") {
			t.Fatalf("%q becomes %+v", entry, p)
		}
		written := &url.URL{Scheme: p.scheme, Host: p.host, Path: p.path}
		again, err := parsePrefix(written.String())
		if err != nil || again.scheme != p.scheme || again.host != p.host || again.path != p.path {
			t.Fatalf("%q becomes %+v, and %q %+v: %v", entry, p, written, again, err)
		}
		l := &Library{allow: []prefix{p}}
		if _, err := l.allowed(written.String() + "x"); err != nil {
			t.Fatalf("%q does not allow what is in it: %v", entry, err)
		}

		u, err := l.allowed(name)
		if err != nil {
			if code := errs.CodeOf(err); code != errs.Invalid && code != errs.Forbidden {
				t.Fatalf("%q is %s", name, code)
			}
			before, query, _ := strings.Cut(name, "?")
			if len(query) > 20 && !strings.Contains(before, query) && strings.Contains(err.Error(), query) {
				t.Fatalf("%q is told: %v", name, err)
			}
			return
		}
		if u.User != nil || u.Scheme != p.scheme || hostPort(u) != p.host || !within(u.Path, p.path) {
			t.Fatalf("%q allows %q", entry, u)
		}
	})
}

// within says whether a path is below a folder once its steps are resolved.
func within(name, folder string) bool {
	resolved := path.Clean("/"+name) + "/"
	return strings.HasPrefix(resolved, strings.TrimSuffix(path.Clean("/"+folder), "/")+"/")
}
