// Package browser drives headless Chromium with the published browser SDK for tests, and measures what arrives.
package browser

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// Rate is that of recorded sound, in Hz.
const Rate = 48000

// patience bounds every call into a page, beyond the time that it takes by itself.
const patience = 30 * time.Second

// Browser is one Chromium with an empty profile and one fake microphone. Its pages come from a server of their own,
// which is another origin than any gateway's.
type Browser struct {
	ctx context.Context //nolint:containedctx // chromedp keeps the browser in its context
	url string
}

// Start runs a browser until the test ends. Its microphone plays micWAV over and over; empty: Chromium's beeps.
func Start(tb testing.TB, micWAV string) *Browser {
	tb.Helper()
	script := bundle(tb)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/":
			_, _ = w.Write([]byte("<!doctype html><meta charset=utf-8><title>test</title><script src=driver.js></script>"))
		case "/driver.js":
			w.Header().Set("Content-Type", "text/javascript")
			_, _ = w.Write(script)
		default:
			http.NotFound(w, r)
		}
	}))
	tb.Cleanup(server.Close)
	return &Browser{ctx: launch(tb, micWAV), url: server.URL + "/"}
}

// launch runs a Chromium until the test ends and returns its context.
func launch(tb testing.TB, micWAV string) context.Context {
	tb.Helper()
	path := find(tb)
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.NoSandbox, // root has no sandbox, and the pages are our own
		chromedp.DisableGPU,
		chromedp.Flag("use-fake-ui-for-media-stream", true),
		chromedp.Flag("use-fake-device-for-media-stream", true),
		chromedp.Flag("autoplay-policy", "no-user-gesture-required"),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-crash-reporter", true),
	)
	if micWAV != "" {
		options = append(options, chromedp.Flag("use-file-for-fake-audio-capture", micWAV))
	}
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, _ := chromedp.NewContext(allocator)
	tb.Cleanup(func() {
		// Gracefully, so that its profile can be deleted; but not for ever.
		limited, stop := context.WithTimeout(ctx, patience)
		defer stop()
		_ = chromedp.Cancel(limited)
		cancel()
	})
	require.NoError(tb, chromedp.Do(ctx), "start %s", path)
	return ctx
}

// find returns the path of Chromium.
func find(tb testing.TB) string {
	tb.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	require.FailNow(tb, "no Chromium: install the package chromium (make test-deps)")
	return ""
}

// Page is one tab.
type Page struct {
	ctx     context.Context //nolint:containedctx // chromedp keeps the tab in its context
	console *console
}

// Open opens url in a new tab, which is closed when the test ends. On a page that is not our own, only Eval, Click and
// Type work.
func (b *Browser) Open(tb testing.TB, url string) *Page {
	tb.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx)
	tb.Cleanup(cancel)
	require.NoError(tb, chromedp.Do(ctx))
	p := &Page{ctx: ctx, console: &console{}}
	messages := chromedp.Console(ctx)
	go func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			p.console.add(m.String())
		}
	}()
	require.NoError(tb, chromedp.Do(ctx, chromedp.Navigate(url)), "open %s", url)
	return p
}

// Page opens a page that has loaded the SDK but is not connected.
func (b *Browser) Page(tb testing.TB) *Page {
	tb.Helper()
	return b.Open(tb, b.url)
}

// run calls window.tandem.<name>(args…) in the page and decodes what it resolves with into result, unless that is
// nil. The error holds the last lines of the page's console. extra is the time that the call takes by itself.
func (p *Page) run(extra time.Duration, result any, name string, args ...any) error {
	text := make([]string, len(args))
	for i, a := range args {
		encoded, err := json.Marshal(a)
		if err != nil {
			return err
		}
		text[i] = string(encoded)
	}
	expression := fmt.Sprintf("(async () => JSON.stringify((await window.tandem.%s(%s)) ?? null))()", name, strings.Join(text, ", "))
	ctx, cancel := context.WithTimeout(p.ctx, patience+extra)
	defer cancel()
	answer, err := chromedp.Run(ctx, chromedp.Evaluate[string](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		return fmt.Errorf("%s in the page: %w\nconsole:\n%s", name, err, p.Console())
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal([]byte(answer), result)
}

// Eval returns the text that a JavaScript expression is.
func (p *Page) Eval(expression string) (string, error) {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string]("String("+expression+")"))
	if err != nil {
		return "", fmt.Errorf("%s: %w\nconsole:\n%s", expression, err, p.Console())
	}
	return text, nil
}

// Click clicks on the first visible element of a CSS selector, as a mouse does.
func (p *Page) Click(tb testing.TB, selector string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	require.NoError(tb, chromedp.Do(ctx, chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible)),
		"click %s\nconsole:\n%s", selector, p.Console())
}

// Type replaces the text of an input.
func (p *Page) Type(tb testing.TB, selector, text string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	input := chromedp.CSS(selector)
	require.NoError(tb, chromedp.Do(ctx, chromedp.WaitVisible(input)), "no %s\nconsole:\n%s", selector, p.Console())
	_, err := p.Eval(fmt.Sprintf("document.querySelector(%q).value = ''", selector))
	require.NoError(tb, err)
	require.NoError(tb, chromedp.Do(ctx, chromedp.SendKeys(input, text)),
		"type into %s\nconsole:\n%s", selector, p.Console())
}

// Console is what the page wrote to its console, the last lines.
func (p *Page) Console() string { return p.console.String() }

// samples decodes what the driver records.
func samples(text string) ([]int16, error) {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, err
	}
	if len(b)%2 != 0 {
		return nil, errors.New("half a sample")
	}
	out := make([]int16, len(b)/2)
	_, err = binary.Decode(b, binary.LittleEndian, out)
	return out, err
}

// console keeps the last lines of a page's console.
type console struct {
	mu    sync.Mutex
	lines []string
}

const consoleLines = 40

func (c *console) add(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lines = append(c.lines, line)
	c.lines = c.lines[max(0, len(c.lines)-consoleLines):]
}

// String joins the lines.
func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.lines, "\n")
}
