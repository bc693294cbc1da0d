package api

import (
	"context"
	"fmt"
	"strings"

	"github.com/gin-gonic/gin"

	"tandem/sessions"
)

type participantService interface {
	CreateParticipant(ctx context.Context, account string, n sessions.NewParticipant) (sessions.Participant, string, error)
	Participant(ctx context.Context, account, id string) (sessions.Participant, error)
	DeleteParticipant(ctx context.Context, account, id string) error
}

const deviceAPIVersion = "V3"

func readParticipant(body object) sessions.NewParticipant {
	n := sessions.NewParticipant{
		CallbackURL:      body.text("callbackUrl"),
		Tag:              body.text("tag"),
		DeviceAPIVersion: deviceAPIVersion,
	}
	for i, word := range body.texts("publishPermissions") {
		path := fmt.Sprintf("%s[%d]", body.at("publishPermissions"), i)
		n.Permissions = append(n.Permissions, oneOf(body, path, word, []sessions.Permission{sessions.PublishAudio, sessions.PublishVideo}))
	}
	// The server SDK's README writes "v3".
	if v := body.text("deviceApiVersion"); v != "" && !strings.EqualFold(v, deviceAPIVersion) {
		body.fail("deviceApiVersion", "%q is not supported; %s is the version that there is", clip(v, maxQuoted), deviceAPIVersion)
	}
	return n
}

func (s *Server) createParticipant(c *gin.Context) (createdView, error) {
	var n sessions.NewParticipant
	if err := decode(c, func(body object) { n = readParticipant(body) }); err != nil {
		return createdView{}, err
	}
	p, token, err := s.sess.CreateParticipant(c.Request.Context(), c.Param("accountId"), n)
	return createdView{Participant: viewParticipant(p), Token: token, ICEServers: s.cfg.ICEServers}, err
}

func (s *Server) getParticipant(c *gin.Context) (participantView, error) {
	p, err := s.sess.Participant(c.Request.Context(), c.Param("accountId"), c.Param("participantId"))
	return viewParticipant(p), err
}

func (s *Server) deleteParticipant(c *gin.Context) (noContent, error) {
	return noContent{}, s.sess.DeleteParticipant(c.Request.Context(), c.Param("accountId"), c.Param("participantId"))
}
