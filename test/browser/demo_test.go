package browser_test

import (
	"fmt"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"

	"tandem/lab"
	"tandem/test/browser"
	"tandem/test/harness"
)

// startDemo is what "tandem demo" runs: a gateway with the demo page, and the lab.
func startDemo(t *testing.T) *harness.Gateway {
	t.Helper()
	trunk := harness.StartLab(t, lab.Config{})
	cfg := harness.Config(t)
	cfg.Demo = true
	cfg.Trunks = append(cfg.Trunks, harness.Trunk("lab", trunk.URI("udp")))
	return harness.Start(t, cfg)
}

// shows waits until the text of what a CSS selector finds matches a pattern.
func shows(t *testing.T, p *browser.Page, element, want string) {
	t.Helper()
	pattern := regexp.MustCompile(want)
	p.Until(t, func() error {
		got, err := p.Eval("[...document.querySelectorAll(" + strconv.Quote(element) + ")].map(e => e.innerText).join(' | ')")
		if err == nil && !pattern.MatchString(got) {
			err = fmt.Errorf("%s shows %q, not %q", element, got, want)
		}
		return err
	})
}

// TestDemoPage is a visitor: connect, call the lab, hear it, press a key, mute, hang up, leave, come back.
func TestDemoPage(t *testing.T) {
	g := startDemo(t)
	page := browser.Start(t, browser.WriteTone(t, highTone, -12)).Open(t, g.URL+"/")
	shows(t, page, "#status", "Not connected")

	page.Click(t, "#connect")
	shows(t, page, "#status", "^Connected$")
	shows(t, page, "#members", "(?s)You.*Phone")
	level(t, page, "#mic-meter", -20, "the tone of the microphone")

	// +15550105 answers and speaks.
	page.Click(t, `[aria-label^="Call +15550105"]`)
	shows(t, page, "#call-state", "In call")
	shows(t, page, "#call-number", "15550105")
	shows(t, page, "#members", "ANSWERED")
	level(t, page, "#line-meter", -40, "the lab's voice")
	shows(t, page, "#call-time", "0:0[1-9]")

	page.Click(t, `[data-key="5"]`)
	shows(t, page, "#events", "You pressed 5")
	page.Click(t, "#mute")
	shows(t, page, "#mute", "Microphone is muted")
	page.Click(t, "#mute")
	shows(t, page, "#mute", "Mute microphone")

	page.Click(t, "#hangup")
	shows(t, page, "#events", "The call has ended")
	shows(t, page, "#members", "TERMINATED")

	// Any number, typed as people do; this one is busy.
	page.Type(t, "#to", "+1 555-0101")
	page.Click(t, "#dial-button")
	shows(t, page, "#events", "The line is busy")

	page.Type(t, "#to", "112")
	page.Click(t, "#dial-button")
	shows(t, page, "#alert", "starts with \\+")

	page.Click(t, "#disconnect")
	shows(t, page, "#status", "Not connected")
	page.Click(t, "#listen")
	shows(t, page, "#status", "Connected, listening")
	shows(t, page, "#members", "You")
	assert.Empty(t, page.Console(), "the page breaks its own policy or throws")
}

// TestDemoPageSaysWhy: what a visitor reads when there is no demo, when the gateway ends, and when it is gone.
func TestDemoPageSaysWhy(t *testing.T) {
	g := startDemo(t)
	page := browser.Start(t, "").Open(t, g.URL+"/")
	page.Click(t, "#listen")
	shows(t, page, "#status", "Connected, listening")
	g.Stop()
	shows(t, page, "#alert", "Connect again|does not answer")
	shows(t, page, "#status", "Disconnected|Reconnecting|Not connected")
	shows(t, page, "#status", "Disconnected|Not connected")
	page.Click(t, "#listen")
	shows(t, page, "#alert", "does not answer")
	shows(t, page, "#status", "Not connected")
}

// level waits until a meter shows at least this many dBFS.
func level(t *testing.T, p *browser.Page, meter string, least float64, what string) {
	t.Helper()
	p.Until(t, func() error {
		got, err := p.Eval("document.querySelector(" + strconv.Quote(meter) + ").getAttribute('aria-valuenow')")
		if err != nil {
			return err
		}
		if dB, err := strconv.ParseFloat(got, 64); err != nil || dB < least {
			return fmt.Errorf("%s shows %s dBFS, not %g: %s", meter, got, least, what)
		}
		return nil
	})
}
