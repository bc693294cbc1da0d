package api

import (
	"github.com/gin-gonic/gin"

	"tandem/errs"
	"tandem/trunks"
)

// registrationView is how our registration with a trunk stands.
type registrationView struct {
	State       string `json:"state"`
	Since       string `json:"since"`
	ExpiresTime string `json:"expiresTime,omitempty"`
	LastError   string `json:"lastError,omitempty"`
}

func viewRegistration(r trunks.Registration) registrationView {
	return registrationView{
		State: string(r.State), Since: viewTime(r.Since), ExpiresTime: viewTime(r.Expires), LastError: r.LastError,
	}
}

func (s *Server) getRegistration(c *gin.Context) (registrationView, error) {
	if _, err := s.cfg.Trunks.Trunk(c.Request.Context(), key(c)); err != nil {
		return registrationView{}, err
	}
	r, ok := s.cfg.Trunks.Registration(key(c))
	if !ok {
		return registrationView{}, errs.New(errs.NotFound, "trunk %q keeps no registration: its register is false", key(c).Name)
	}
	return viewRegistration(r), nil
}

// register has a registration renewed at once; how that went is seen by getRegistration.
func (s *Server) register(c *gin.Context) (registrationView, error) {
	if err := s.cfg.Trunks.Register(c.Request.Context(), key(c)); err != nil {
		return registrationView{}, err
	}
	return s.getRegistration(c)
}
