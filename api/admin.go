package api

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/gin-gonic/gin"

	"tandem/errs"
)

// Operator is what the operator of a gateway, other than its accounts, may ask of it.
type Operator interface {
	// Bans lists the SIP senders that are not listened to, the oldest ban first.
	Bans() []Ban
	// Pardon lifts a ban; false: there is none.
	Pardon(addr netip.Addr) bool
	// Drain takes no new calls and ends the gateway when the last is over, or after patience; nil: what is configured.
	Drain(patience *time.Duration)
	// Draining returns when calls are cut.
	Draining() (until time.Time, draining bool)
	// Calls counts the calls that live.
	Calls() int
}

// Ban is a SIP sender that is not listened to for a while.
type Ban struct {
	Address string    `json:"address"`
	Reason  string    `json:"reason"`
	Since   time.Time `json:"since"`
	Until   time.Time `json:"until"`
	Dropped uint64    `json:"dropped"`
}

// drainView is the state of a drain.
type drainView struct {
	Draining bool       `json:"draining"`
	Until    *time.Time `json:"until,omitempty"`
	Calls    int        `json:"calls"`
}

// adminRoutes adds what the operator asks for, when there is one.
func (s *Server) adminRoutes(r *gin.Engine) {
	if s.cfg.Operator == nil {
		return
	}
	var accounts []Account
	if s.cfg.Admin.Username != "" {
		accounts = append(accounts, s.cfg.Admin)
	}
	s.admins = newGuard(accounts, s.log)
	a := r.Group("/admin", s.admit)
	a.GET("/bans", handle(s.listBans))
	a.DELETE("/bans/:address", handle(s.deleteBan))
	a.GET("/drain", handle(s.getDrain))
	a.POST("/drain", s.startDrain)
}

// admit lets the operator on: with the configured credentials or, where none are configured, from this machine. A page
// that a browser shows from elsewhere never gets on, whatever the browser knows by heart.
func (s *Server) admit(c *gin.Context) {
	if isForeign(c.Request) {
		refuse(c, errs.New(errs.Forbidden, "Forbidden: /admin answers no other site's pages"))
		return
	}
	if s.cfg.Admin.Username == "" {
		if !isLocal(c.Request) {
			refuse(c, errs.New(errs.Forbidden, "Forbidden: without admin.username, /admin is served to this machine alone"))
		}
		return
	}
	username, password, ok := c.Request.BasicAuth()
	if !ok {
		refuse(c, errUnauthenticated())
		return
	}
	if _, err := s.admins.enter(c.Request.Context(), username, password); err != nil {
		refuse(c, err)
	}
}

// isForeign says whether a browser sends a request for another site's page.
func isForeign(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		return true
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false
	}
	u, err := url.Parse(origin)
	return err != nil || u.Host == "" || u.Host != r.Host
}

// isLocal says whether a request comes from this machine, by no proxy, and by a name of this machine: a name that a
// stranger's DNS points here is none.
func isLocal(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !peer.Addr().Unmap().IsLoopback() {
		return false
	}
	for _, name := range [...]string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip", "Via"} {
		if r.Header.Get(name) != "" {
			return false
		}
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(trimBrackets(host))
	return err == nil && addr.IsLoopback()
}

func trimBrackets(host string) string {
	if len(host) > 2 && host[0] == '[' && host[len(host)-1] == ']' {
		return host[1 : len(host)-1]
	}
	return host
}

func (s *Server) listBans(*gin.Context) ([]Ban, error) { return s.cfg.Operator.Bans(), nil }

func (s *Server) deleteBan(c *gin.Context) (noContent, error) {
	text := c.Param("address")
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return noContent{}, errs.New(errs.Invalid, "address: %q should be an IP address", clip(text, maxID))
	}
	if !s.cfg.Operator.Pardon(addr) {
		return noContent{}, errs.New(errs.NotFound, "%s is not banned", addr)
	}
	return noContent{}, nil
}

func (s *Server) getDrain(*gin.Context) (drainView, error) { return s.viewDrain(), nil }

func (s *Server) viewDrain() drainView {
	view := drainView{Calls: s.cfg.Operator.Calls()}
	if until, draining := s.cfg.Operator.Draining(); draining {
		view.Draining, view.Until = true, &until
	}
	return view
}

func (s *Server) startDrain(c *gin.Context) {
	var patience *time.Duration
	err := decode(c, func(body object) {
		if !body.has("deadline") {
			return
		}
		text := body.text("deadline")
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			body.fail("deadline", "%q should be a duration, such as 10m", clip(text, maxQuoted))
		}
		patience = &d
	})
	if err != nil {
		refuse(c, err)
		return
	}
	s.cfg.Operator.Drain(patience)
	writeJSON(c, http.StatusAccepted, s.viewDrain())
}
