package api

import (
	"context"

	"github.com/gin-gonic/gin"

	"tandem/sessions"
)

type sessionService interface {
	CreateSession(ctx context.Context, account string, n sessions.NewSession) (sessions.Session, error)
	Session(ctx context.Context, account, id string) (sessions.Session, error)
	DeleteSession(ctx context.Context, account, id string) error
}

func (s *Server) createSession(c *gin.Context) (sessionView, error) {
	var n sessions.NewSession
	err := decode(c, func(body object) {
		n = sessions.NewSession{Tag: body.text("tag"), Passthrough: body.boolean("passthrough", false)}
	})
	if err != nil {
		return sessionView{}, err
	}
	session, err := s.sess.CreateSession(c.Request.Context(), c.Param("accountId"), n)
	return viewSession(session), err
}

func (s *Server) getSession(c *gin.Context) (sessionView, error) {
	session, err := s.sess.Session(c.Request.Context(), c.Param("accountId"), c.Param("sessionId"))
	return viewSession(session), err
}

func (s *Server) deleteSession(c *gin.Context) (noContent, error) {
	return noContent{}, s.sess.DeleteSession(c.Request.Context(), c.Param("accountId"), c.Param("sessionId"))
}
