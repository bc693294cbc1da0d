package api

import (
	"cmp"
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"tandem/errs"
	"tandem/trunks"
)

// Trunks is what the API asks of the trunks service.
type Trunks interface {
	Trunks(ctx context.Context, account string) ([]trunks.Trunk, error)
	Trunk(ctx context.Context, key trunks.Key) (trunks.Trunk, error)
	CreateTrunk(ctx context.Context, t trunks.Trunk) (trunks.Trunk, error)
	ChangeTrunk(ctx context.Context, key trunks.Key, edit func(*trunks.Trunk) error) (trunks.Trunk, error)
	DeleteTrunk(ctx context.Context, key trunks.Key) error
	State(key trunks.Key) trunks.State
	Registration(key trunks.Key) (trunks.Registration, bool)
	Register(ctx context.Context, key trunks.Key) error

	Numbers(ctx context.Context, account string) ([]trunks.Number, error)
	Number(ctx context.Context, account, number string) (trunks.Number, error)
	CreateNumber(ctx context.Context, n trunks.Number) (trunks.Number, error)
	ChangeNumber(ctx context.Context, account, number string, edit func(*trunks.Number) error) (trunks.Number, error)
	DeleteNumber(ctx context.Context, account, number string) error

	Explain(r trunks.Request) trunks.Explanation
}

func (s *Server) routeTrunks(a *gin.RouterGroup) {
	a.GET("/trunks", handle(s.listTrunks))
	a.POST("/trunks", handle(s.createTrunk))
	a.GET("/trunks/:trunkName", handle(s.getTrunk))
	a.PUT("/trunks/:trunkName", handle(s.replaceTrunk))
	a.PATCH("/trunks/:trunkName", handle(s.changeTrunk))
	a.DELETE("/trunks/:trunkName", handle(s.deleteTrunk))
	a.GET("/trunks/:trunkName/registration", handle(s.getRegistration))
	a.POST("/trunks/:trunkName/register", handle(s.register))

	a.GET("/numbers", handle(s.listNumbers))
	a.POST("/numbers", handle(s.createNumber))
	a.GET("/numbers/:number", handle(s.getNumber))
	a.PUT("/numbers/:number", handle(s.replaceNumber))
	a.PATCH("/numbers/:number", handle(s.changeNumber))
	a.DELETE("/numbers/:number", handle(s.deleteNumber))

	a.GET("/routes", handle(s.explainRoute))
}

// maxProbe bounds the pause between two probes.
const maxProbe = 24 * time.Hour

// maxAnswerTimeout is when RFC 3261 gives up (Timer B).
const maxAnswerTimeout = 32 * time.Second

// readTrunk changes t where the body has a field. Of secrets that are absent the old ones stay.
func readTrunk(body object, t *trunks.Trunk) {
	for name, field := range map[string]*string{
		"uri": &t.URI, "username": &t.Username, "inboundUsername": &t.InboundUsername, "srtp": &t.SRTP, "dtmf": &t.DTMF,
		"identity": &t.Identity, "countryCode": &t.CountryCode, "nationalPrefix": &t.NationalPrefix,
		"internationalPrefix": &t.InternationalPrefix, "numberFormat": &t.NumberFormat, "holdMusic": &t.HoldMusic,
		"publicIP": &t.PublicIP, "realm": &t.Realm,
	} {
		if body.has(name) {
			*field = body.text(name)
		}
	}
	for name, field := range map[string]*trunks.Secret{"password": &t.Password, "inboundPassword": &t.InboundPassword} {
		if body.has(name) {
			*field = trunks.Secret(body.text(name))
		}
	}
	for name, field := range map[string]*[]string{"codecs": &t.Codecs, "headers": &t.Headers, "prefixes": &t.Prefixes} {
		if body.has(name) {
			*field = body.texts(name)
		}
	}
	for name, field := range map[string]*int{
		"priority": &t.Priority, "weight": &t.Weight, "maxCalls": &t.MaxCalls, "maxCallsPerSecond": &t.MaxCallsPerSecond,
	} {
		*field = body.integer(name, *field)
	}
	for name, field := range map[string]*bool{
		"register": &t.Register, "dtmfInBand": &t.DTMFInBand, "delayedOffer": &t.DelayedOffer,
	} {
		*field = body.boolean(name, *field)
	}
	if body.has("probe") {
		t.Probe = 0
		if body.fields["probe"] != json.Number("0") {
			t.Probe = body.seconds("probe", maxProbe)
		}
	}
	if body.has("answerTimeout") {
		t.AnswerTimeout = body.seconds("answerTimeout", maxAnswerTimeout)
	}
	if body.has("allow") {
		var err error
		if t.Allow, err = trunks.ParseNetworks(body.texts("allow")); err != nil && *body.err == nil {
			*body.err = err
		}
	}
}

// trunkView has the keys of the configuration file. Secrets are not shown, only that there are any.
type trunkView struct {
	Name                string         `json:"name"`
	URI                 string         `json:"uri"`
	Username            string         `json:"username"`
	PasswordSet         bool           `json:"passwordSet"`
	Register            bool           `json:"register"`
	Probe               float64        `json:"probe"` // seconds
	Allow               []string       `json:"allow"`
	InboundUsername     string         `json:"inboundUsername"`
	InboundPasswordSet  bool           `json:"inboundPasswordSet"`
	Codecs              []string       `json:"codecs"`
	SRTP                string         `json:"srtp"`
	DTMF                string         `json:"dtmf"`
	DTMFInBand          bool           `json:"dtmfInBand"`
	DelayedOffer        bool           `json:"delayedOffer"`
	Identity            string         `json:"identity"`
	CountryCode         string         `json:"countryCode"`
	NationalPrefix      string         `json:"nationalPrefix"`
	InternationalPrefix string         `json:"internationalPrefix"`
	NumberFormat        string         `json:"numberFormat"`
	Headers             []string       `json:"headers"`
	Prefixes            []string       `json:"prefixes"`
	Priority            int            `json:"priority"`
	Weight              int            `json:"weight"`
	MaxCalls            int            `json:"maxCalls"`
	MaxCallsPerSecond   int            `json:"maxCallsPerSecond"`
	AnswerTimeout       float64        `json:"answerTimeout"` // seconds
	HoldMusic           string         `json:"holdMusic"`
	PublicIP            string         `json:"publicIP"`
	Realm               string         `json:"realm"`
	Origin              string         `json:"origin"`
	State               trunkStateView `json:"state"`

	Registration *registrationView `json:"registration,omitempty"`
}

type trunkStateView struct {
	Calls     int    `json:"calls"`
	InService bool   `json:"inService"`
	Failures  int    `json:"failures"`
	Failure   string `json:"failure,omitempty"`
	RetryTime string `json:"retryTime,omitempty"`
}

func (s *Server) viewTrunk(t trunks.Trunk) trunkView {
	state := s.cfg.Trunks.State(t.Key())
	same := func(text string) string { return text }
	v := trunkView{
		Name: t.Name, URI: t.URI, Username: t.Username, PasswordSet: t.Password != "", Register: t.Register, Probe: t.Probe.Seconds(),
		Allow: []string{}, InboundUsername: t.InboundUsername, InboundPasswordSet: t.InboundPassword != "",
		Codecs: viewAll(t.Codecs, same), SRTP: t.SRTP, DTMF: t.DTMF, DTMFInBand: t.DTMFInBand, DelayedOffer: t.DelayedOffer,
		Identity: t.Identity, CountryCode: t.CountryCode, NationalPrefix: t.NationalPrefix,
		InternationalPrefix: t.InternationalPrefix, NumberFormat: t.NumberFormat,
		Headers: viewAll(t.Headers, same), Prefixes: viewAll(t.Prefixes, same), Priority: t.Priority, Weight: t.Weight,
		MaxCalls: t.MaxCalls, MaxCallsPerSecond: t.MaxCallsPerSecond, AnswerTimeout: t.AnswerTimeout.Seconds(), HoldMusic: t.HoldMusic, PublicIP: t.PublicIP, Realm: t.Realm, Origin: t.Origin,
		State: trunkStateView{
			Calls: state.Calls, InService: state.OpenTill.IsZero(), Failures: state.Failures, Failure: state.Why,
			RetryTime: viewTime(state.OpenTill),
		},
	}
	if r, ok := s.cfg.Trunks.Registration(t.Key()); ok {
		view := viewRegistration(r)
		v.Registration = &view
	}
	for _, network := range t.Allow {
		v.Allow = append(v.Allow, network.String())
	}
	return v
}

// key names a trunk of the path.
func key(c *gin.Context) trunks.Key {
	return trunks.Key{Account: c.Param("accountId"), Name: c.Param("trunkName")}
}

func (s *Server) listTrunks(c *gin.Context) ([]trunkView, error) {
	all, err := s.cfg.Trunks.Trunks(c.Request.Context(), c.Param("accountId"))
	return viewAll(all, s.viewTrunk), err
}

func (s *Server) createTrunk(c *gin.Context) (trunkView, error) {
	t := trunks.Trunk{Account: c.Param("accountId")}
	if err := decode(c, func(body object) {
		body.require("a name, such as \"carrier\"", "name")
		t.Name = body.text("name")
		readTrunk(body, &t)
	}); err != nil {
		return trunkView{}, err
	}
	t, err := s.cfg.Trunks.CreateTrunk(c.Request.Context(), t)
	if err != nil {
		return trunkView{}, err
	}
	return s.viewTrunk(t), nil
}

func (s *Server) getTrunk(c *gin.Context) (trunkView, error) {
	t, err := s.cfg.Trunks.Trunk(c.Request.Context(), key(c))
	if err != nil {
		return trunkView{}, err
	}
	return s.viewTrunk(t), nil
}

// replaceTrunk sets every field; those that are absent get their defaults, but secrets stay.
func (s *Server) replaceTrunk(c *gin.Context) (trunkView, error) {
	return s.editTrunk(c, func(body object, t *trunks.Trunk) {
		*t = trunks.Trunk{ // what is not shown, and what only the file can say
			Password: t.Password, InboundPassword: t.InboundPassword, TLSCert: t.TLSCert, TLSKey: t.TLSKey, Shared: t.Shared,
		}
		readTrunk(body, t)
	})
}

// changeTrunk sets the fields that are there.
func (s *Server) changeTrunk(c *gin.Context) (trunkView, error) { return s.editTrunk(c, readTrunk) }

func (s *Server) editTrunk(c *gin.Context, edit func(object, *trunks.Trunk)) (trunkView, error) {
	raw, err := readBody(c)
	if err != nil {
		return trunkView{}, err
	}
	t, err := s.cfg.Trunks.ChangeTrunk(c.Request.Context(), key(c), func(t *trunks.Trunk) error {
		return decodeBytes(raw, func(body object) {
			if body.has("name") && body.text("name") != t.Name {
				body.fail("name", "can't be changed; make another trunk")
			}
			edit(body, t)
		})
	})
	if err != nil {
		return trunkView{}, err
	}
	return s.viewTrunk(t), nil
}

func (s *Server) deleteTrunk(c *gin.Context) (noContent, error) {
	return noContent{}, s.cfg.Trunks.DeleteTrunk(c.Request.Context(), key(c))
}

type numberView struct {
	Number      string `json:"number"`
	CallbackURL string `json:"callbackUrl"`

	AnswerTimeout      float64 `json:"answerTimeout"` // seconds; 0: 30
	OnNoAnswer         string  `json:"onNoAnswer"`
	Announcement       string  `json:"announcement"`
	AnnouncementAnswer bool    `json:"announcementAnswer"`
	HoldMusic          string  `json:"holdMusic"`
	Origin             string  `json:"origin"`
}

func viewNumber(n trunks.Number) numberView {
	return numberView{
		Number: n.Number, CallbackURL: n.CallbackURL, AnswerTimeout: n.AnswerTimeout.Seconds(),
		OnNoAnswer: cmp.Or(n.OnNoAnswer, trunks.NoAnswerReject), Announcement: n.Announcement,
		AnnouncementAnswer: n.AnnouncementAnswer, HoldMusic: n.HoldMusic, Origin: n.Origin,
	}
}

// readNumber changes n where the body has a field.
func readNumber(body object, n *trunks.Number) {
	for name, field := range map[string]*string{
		"callbackUrl": &n.CallbackURL, "onNoAnswer": &n.OnNoAnswer, "announcement": &n.Announcement, "holdMusic": &n.HoldMusic,
	} {
		if body.has(name) {
			*field = body.text(name)
		}
	}
	n.AnnouncementAnswer = body.boolean("announcementAnswer", n.AnnouncementAnswer)
	if body.has("answerTimeout") {
		n.AnswerTimeout = body.seconds("answerTimeout", trunks.MaxPatience)
	}
}

func (s *Server) listNumbers(c *gin.Context) ([]numberView, error) {
	all, err := s.cfg.Trunks.Numbers(c.Request.Context(), c.Param("accountId"))
	return viewAll(all, viewNumber), err
}

func (s *Server) createNumber(c *gin.Context) (numberView, error) {
	n := trunks.Number{Account: c.Param("accountId")}
	if err := decode(c, func(body object) {
		body.require("a number in E.164 format, such as +15550199", "number")
		n.Number = body.text("number")
		readNumber(body, &n)
	}); err != nil {
		return numberView{}, err
	}
	n, err := s.cfg.Trunks.CreateNumber(c.Request.Context(), n)
	return viewNumber(n), err
}

func (s *Server) getNumber(c *gin.Context) (numberView, error) {
	n, err := s.cfg.Trunks.Number(c.Request.Context(), c.Param("accountId"), c.Param("number"))
	return viewNumber(n), err
}

func (s *Server) replaceNumber(c *gin.Context) (numberView, error) {
	return s.editNumber(c, func(body object, n *trunks.Number) {
		*n = trunks.Number{}
		readNumber(body, n)
	})
}

func (s *Server) changeNumber(c *gin.Context) (numberView, error) { return s.editNumber(c, readNumber) }

func (s *Server) editNumber(c *gin.Context, edit func(object, *trunks.Number)) (numberView, error) {
	raw, err := readBody(c)
	if err != nil {
		return numberView{}, err
	}
	n, err := s.cfg.Trunks.ChangeNumber(c.Request.Context(), c.Param("accountId"), c.Param("number"), func(n *trunks.Number) error {
		return decodeBytes(raw, func(body object) {
			if body.has("number") && body.text("number") != n.Number {
				body.fail("number", "can't be changed; make another number")
			}
			edit(body, n)
		})
	})
	return viewNumber(n), err
}

func (s *Server) deleteNumber(c *gin.Context) (noContent, error) {
	return noContent{}, s.cfg.Trunks.DeleteNumber(c.Request.Context(), c.Param("accountId"), c.Param("number"))
}

type explanationView struct {
	To      string          `json:"to"`
	From    string          `json:"from"`
	Refused string          `json:"refused,omitempty"`
	Status  int             `json:"status,omitempty"` // of that refusal
	Routes  []routeView     `json:"routes"`
	Others  []otherwiseView `json:"others"`
}

type routeView struct {
	Trunk          string  `json:"trunk"`
	Rule           string  `json:"rule"`
	Prefix         string  `json:"prefix"`
	Priority       int     `json:"priority"`
	Weight         int     `json:"weight"`
	Share          float64 `json:"share"`
	URI            string  `json:"uri"`
	To             string  `json:"to"`
	From           string  `json:"from"`
	IdentityHeader string  `json:"identityHeader"`
}

type otherwiseView struct {
	Trunk string `json:"trunk"`
	Why   string `json:"why"`
}

// explainRoute says what a call would take. A + that a client did not escape comes as a blank.
func (s *Server) explainRoute(c *gin.Context) (explanationView, error) {
	plus := func(name string) string {
		value := c.Query(name)
		if number, ok := strings.CutPrefix(value, " "); ok {
			return "+" + number
		}
		return value
	}
	r := trunks.Request{Account: c.Param("accountId"), To: plus("to"), From: plus("from"), Trunk: c.Query("trunk")}
	if r.To == "" {
		return explanationView{}, invalid("to", "is missing; must be the number to call, such as +16136211234")
	}
	x := s.cfg.Trunks.Explain(r)
	v := explanationView{
		To: r.To, From: r.From,
		Routes: viewAll(x.Routes, func(r trunks.Route) routeView {
			return routeView{
				Trunk: r.Trunk.Name, Rule: r.Rule, Prefix: r.Prefix, Priority: r.Trunk.Priority, Weight: r.Trunk.Weight,
				Share: r.Share, URI: r.Trunk.URI, To: r.To, From: r.From, IdentityHeader: r.Header,
			}
		}),
		Others: viewAll(x.Others, func(o trunks.Other) otherwiseView { return otherwiseView{Trunk: o.Trunk.Name, Why: o.Why} }),
	}
	if x.Refused != nil {
		v.Refused, v.Status = errs.MessageOf(x.Refused), status(errs.CodeOf(x.Refused))
	}
	return v, nil
}
