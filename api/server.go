// Package api is the REST API: it authenticates, reads JSON, calls one method of a service, and writes what it returns.
package api

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
)

// Config is what the REST API needs to know. The zero value answers 401 to everything: it has no accounts.
type Config struct {
	Accounts   []Account
	PublicURL  string      // where clients reach this gateway, without /v1; empty: relative
	ICEServers []ICEServer // handed on in createParticipant's answer
	Answers    Answers     // keeps answers for Idempotency-Key; nil: the header means nothing

	Trunks   Trunks   // trunks, numbers and routes; needed for their paths
	Operator Operator // nil: there is nothing at /admin
	Admin    Account  // who may use /admin; no Username: whoever is on this machine

	BodyTimeout time.Duration // 30 s: how long a request's body may take to come
}

// ICEServer is a STUN or TURN server as browsers know it (RTCIceServer).
type ICEServer struct {
	URLs       []string `json:"urls"`
	Username   string   `json:"username,omitempty"`
	Credential string   `json:"credential,omitempty"`
}

// Sessions is what the API asks of the sessions service.
type Sessions interface {
	participantService
	sessionService
	memberService
	subscriptionService
	muteService
}

// Server is the REST API as an http.Handler. It serves everything below /v1/.
type Server struct {
	cfg     Config
	sess    Sessions
	dialogs Dialogs
	log     *slog.Logger
	guard   *guard
	admins  *guard
	engine  *gin.Engine
}

// New makes the API over the two services. It starts nothing and owns neither. An account that nobody can enter,
// because its hash is malformed or its user name is another's, is logged; CheckHash finds the first before.
func New(cfg Config, sess Sessions, calls Dialogs, log *slog.Logger) *Server {
	if cfg.BodyTimeout == 0 {
		cfg.BodyTimeout = 30 * time.Second
	}
	s := &Server{cfg: cfg, sess: sess, dialogs: calls, log: log, guard: newGuard(cfg.Accounts, log)}
	s.engine = s.routes()
	return s
}

// ServeHTTP serves one request. The time for its header is the http.Server's to limit, the time for its body ours.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.engine.ServeHTTP(w, r) }

// routes is the whole surface.
func (s *Server) routes() *gin.Engine {
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.RedirectTrailingSlash = false
	r.HandleMethodNotAllowed = true
	r.Use(identify, s.logAccess, s.recoverPanic, s.limitBody)
	r.NoRoute(func(c *gin.Context) { writeError(c, http.StatusNotFound, "there is nothing at this path") })
	r.NoMethod(func(c *gin.Context) {
		writeError(c, http.StatusMethodNotAllowed, c.Request.Method+" is not allowed here: "+c.Writer.Header().Get("Allow"))
	})

	s.adminRoutes(r)
	r.GET("/v1/openapi.yml", s.document())

	a := r.Group("/v1/accounts/:accountId", s.authenticate, checkIDs, s.once)
	a.POST("/participants", handle(s.createParticipant))
	a.GET("/participants/:participantId", handle(s.getParticipant))
	a.DELETE("/participants/:participantId", handle(s.deleteParticipant))

	a.POST("/sessions", handle(s.createSession))
	a.GET("/sessions/:sessionId", handle(s.getSession))
	a.DELETE("/sessions/:sessionId", handle(s.deleteSession))

	a.GET("/sessions/:sessionId/participants", handle(s.listMembers))
	a.PUT("/sessions/:sessionId/participants/:participantId", handle(s.addMember))
	a.DELETE("/sessions/:sessionId/participants/:participantId", handle(s.removeMember))
	a.GET("/sessions/:sessionId/participants/:participantId/subscriptions", handle(s.getSubscriptions))
	a.PUT("/sessions/:sessionId/participants/:participantId/subscriptions", handle(s.setSubscriptions))

	s.routeTrunks(a)

	// The OpenAPI document has the first path, the guide the second.
	for _, path := range []string{
		"/participants/:participantId/dialogs",
		"/sessions/:sessionId/participants/:participantId/dialogs",
	} {
		a.POST(path, handle(s.createDialog))
		a.GET(path, handle(s.listDialogs))
		a.GET(path+"/:dialogId", handle(s.getDialog))
		a.PATCH(path+"/:dialogId", handle(s.updateDialog))
		a.DELETE(path+"/:dialogId", handle(s.deleteDialog))
		a.POST(path+"/:dialogId/transfer", accept(s.transferDialog))
		a.POST(path+"/:dialogId/hold", accept(s.holdDialog))
		a.POST(path+"/:dialogId/resume", accept(s.resumeDialog))
		a.POST(path+"/:dialogId/dtmf", accept(s.sendKeys))
	}
	for _, path := range []string{"/participants/:participantId", "/sessions/:sessionId/participants/:participantId"} {
		a.POST(path+"/mute", handle(s.mute))
		a.POST(path+"/unmute", handle(s.unmute))
	}
	return r
}

// noContent is the view of an operation that answers 204.
type noContent struct{}

// handle turns a function that returns a view or an error into a gin handler, which writes either.
func handle[V any](fn func(*gin.Context) (V, error)) gin.HandlerFunc {
	return func(c *gin.Context) {
		view, err := fn(c)
		if err != nil {
			refuse(c, err)
			return
		}
		if _, ok := any(view).(noContent); ok {
			c.Status(http.StatusNoContent)
			return
		}
		writeJSON(c, http.StatusOK, view)
	}
}
