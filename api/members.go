package api

import (
	"context"

	"github.com/gin-gonic/gin"

	"tandem/sessions"
)

type memberService interface {
	Members(ctx context.Context, account, session string) ([]sessions.Participant, error)
	Join(ctx context.Context, account, session, participant string, subs sessions.Subscriptions) error
	Leave(ctx context.Context, account, session, participant string) error
}

func (s *Server) listMembers(c *gin.Context) ([]participantView, error) {
	members, err := s.sess.Members(c.Request.Context(), c.Param("accountId"), c.Param("sessionId"))
	return viewAll(members, viewParticipant), err
}

// addMember takes the member's subscriptions in the same call.
func (s *Server) addMember(c *gin.Context) (noContent, error) {
	var subs sessions.Subscriptions
	if err := decode(c, func(body object) { subs = readSubscriptions(body) }); err != nil {
		return noContent{}, err
	}
	return noContent{}, s.sess.Join(c.Request.Context(), c.Param("accountId"), c.Param("sessionId"), c.Param("participantId"), subs)
}

func (s *Server) removeMember(c *gin.Context) (noContent, error) {
	return noContent{}, s.sess.Leave(c.Request.Context(), c.Param("accountId"), c.Param("sessionId"), c.Param("participantId"))
}
