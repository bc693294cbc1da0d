package api

import (
	"context"

	"github.com/gin-gonic/gin"

	"tandem/sessions"
)

type subscriptionService interface {
	Subscriptions(ctx context.Context, account, session, participant string) (sessions.Subscriptions, error)
	SetSubscriptions(ctx context.Context, account, session, participant string, subs sessions.Subscriptions) error
}

func readSubscriptions(body object) sessions.Subscriptions {
	subs := sessions.Subscriptions{Session: body.text("sessionId")}
	for _, item := range body.objects("participants") {
		item.require("a participant's id", "participantId")
		subs.Participants = append(subs.Participants, sessions.Subscription{
			Participant:   item.text("participantId"),
			StreamAliases: item.texts("streamAliases"),
		})
	}
	return subs
}

func (s *Server) getSubscriptions(c *gin.Context) (subscriptionsView, error) {
	subs, err := s.sess.Subscriptions(c.Request.Context(), c.Param("accountId"), c.Param("sessionId"), c.Param("participantId"))
	return viewSubscriptions(subs), err
}

func (s *Server) setSubscriptions(c *gin.Context) (noContent, error) {
	var subs sessions.Subscriptions
	if err := decode(c, func(body object) { subs = readSubscriptions(body) }); err != nil {
		return noContent{}, err
	}
	return noContent{}, s.sess.SetSubscriptions(c.Request.Context(), c.Param("accountId"), c.Param("sessionId"), c.Param("participantId"), subs)
}
