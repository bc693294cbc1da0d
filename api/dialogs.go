package api

import (
	"context"
	"time"

	"github.com/gin-gonic/gin"

	"tandem/dialogs"
)

// Dialogs is what the API asks of the dialogs service.
type Dialogs interface {
	Create(ctx context.Context, n dialogs.Create) (dialogs.Dialog, error)
	Get(ctx context.Context, ref dialogs.Ref) (dialogs.Dialog, error)
	List(ctx context.Context, ref dialogs.Ref) ([]dialogs.Dialog, error)
	Instruct(ctx context.Context, ref dialogs.Ref, i dialogs.Instruction) (dialogs.Dialog, error)
	Delete(ctx context.Context, ref dialogs.Ref) error
	Transfer(ctx context.Context, ref dialogs.Ref, req dialogs.TransferRequest) (dialogs.Dialog, error)
	Hold(ctx context.Context, ref dialogs.Ref, on bool) (dialogs.Dialog, error)
	SendKeys(ctx context.Context, ref dialogs.Ref, keys dialogs.Keys) (dialogs.Dialog, error)
}

const (
	dialogType     = "SIP"
	maxRingTimeout = 10 * time.Minute
	maxMaxDuration = 24 * time.Hour
)

// readDialog takes the guide's words (dialogType, dialogStateData) and the OpenAPI document's (type, data); where a
// body has both, the guide's data count.
func readDialog(body object) dialogs.Create {
	body.require(dialogType, "dialogType", "type")
	dataName := "data"
	if body.has("dialogStateData") || !body.has("data") && body.has("dialogType") {
		dataName = "dialogStateData"
	}
	for _, name := range []string{"dialogType", "type"} {
		if body.has(name) {
			oneOf(body, body.at(name), body.text(name), []string{dialogType})
		}
	}
	data := body.object(dataName)
	data.require("the number to call, such as +16136211234", "to")
	data.require("the caller's number, or UNKNOWN, or RESTRICTED", "from")
	return dialogs.Create{
		To:          data.text("to"),
		From:        data.text("from"),
		UserToUser:  data.text("userToUser"),
		Trunk:       data.text("trunk"),
		Headers:     data.object("headers").allTexts(),
		RingTimeout: data.seconds("ringTimeout", maxRingTimeout),
		MaxDuration: data.seconds("maxDuration", maxMaxDuration),

		DetectMachine: data.boolean("machineDetection", false),
	}
}

// readInstruction reads what a call is to do. The dialogs package knows the words: answers to callbacks have them too.
func readInstruction(body object) dialogs.Instruction {
	i, err := dialogs.ReadInstruction(body.fields)
	if err != nil && *body.err == nil {
		*body.err = err
	}
	if i.Empty() {
		body.require("the state to go to", "state")
	}
	return i
}

// ref names a dialog, or all of a participant's; on the path without a session, Session is empty.
func ref(c *gin.Context) dialogs.Ref {
	return dialogs.Ref{
		Account:     c.Param("accountId"),
		Session:     c.Param("sessionId"),
		Participant: c.Param("participantId"),
		Dialog:      c.Param("dialogId"),
	}
}

func (s *Server) createDialog(c *gin.Context) (dialogView, error) {
	var n dialogs.Create
	if err := decode(c, func(body object) { n = readDialog(body) }); err != nil {
		return dialogView{}, err
	}
	n.Account, n.Session, n.Participant = c.Param("accountId"), c.Param("sessionId"), c.Param("participantId")
	d, err := s.dialogs.Create(c.Request.Context(), n)
	return viewDialog(d), err
}

func (s *Server) listDialogs(c *gin.Context) ([]dialogView, error) {
	all, err := s.dialogs.List(c.Request.Context(), ref(c))
	return viewAll(all, viewDialog), err
}

func (s *Server) getDialog(c *gin.Context) (dialogView, error) {
	d, err := s.dialogs.Get(c.Request.Context(), ref(c))
	return viewDialog(d), err
}

func (s *Server) updateDialog(c *gin.Context) (dialogView, error) {
	var i dialogs.Instruction
	if err := decode(c, func(body object) { i = readInstruction(body) }); err != nil {
		return dialogView{}, err
	}
	d, err := s.dialogs.Instruct(c.Request.Context(), ref(c), i)
	return viewDialog(d), err
}

func (s *Server) deleteDialog(c *gin.Context) (noContent, error) {
	return noContent{}, s.dialogs.Delete(c.Request.Context(), ref(c))
}
