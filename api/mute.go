package api

import (
	"context"

	"github.com/gin-gonic/gin"

	"tandem/sessions"
)

type muteService interface {
	SetMuted(ctx context.Context, account, session, participant, subscriber string, muted bool) (sessions.Participant, error)
}

// mute takes a participant's voice from everybody, or from the subscriber that the body names.
func (s *Server) mute(c *gin.Context) (participantView, error) { return s.setMuted(c, true) }

// unmute gives it back.
func (s *Server) unmute(c *gin.Context) (participantView, error) { return s.setMuted(c, false) }

func (s *Server) setMuted(c *gin.Context, muted bool) (participantView, error) {
	var subscriber string
	if err := decode(c, func(body object) { subscriber = readSubscriber(body) }); err != nil {
		return participantView{}, err
	}
	p, err := s.sess.SetMuted(c.Request.Context(), c.Param("accountId"), c.Param("sessionId"), c.Param("participantId"), subscriber, muted)
	return viewParticipant(p), err
}

func readSubscriber(body object) string {
	subscriber := body.text("subscriber")
	if body.has("subscriber") && subscriber == "" {
		body.fail(body.at("subscriber"), "must be a participant's id, or be left out: then everybody is meant")
	}
	return subscriber
}
