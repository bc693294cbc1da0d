package api

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"tandem/dialogs"
)

// accept is handle for what is begun and not awaited: it answers 202.
func accept[V any](fn func(*gin.Context) (V, error)) gin.HandlerFunc {
	return func(c *gin.Context) {
		view, err := fn(c)
		if err != nil {
			refuse(c, err)
			return
		}
		writeJSON(c, http.StatusAccepted, view)
	}
}

func readTransfer(body object) dialogs.TransferRequest {
	if !body.has("replaces") {
		body.require("the number or the sip: URI to transfer to, such as +15550105", "to")
	}
	req := dialogs.TransferRequest{To: body.text("to"), Replaces: body.text("replaces"), From: body.text("from")}
	if body.has("mode") {
		req.Mode = oneOf(body, body.at("mode"), body.text("mode"), []dialogs.Mode{dialogs.ModeRefer, dialogs.ModeBridge})
	}
	return req
}

func (s *Server) transferDialog(c *gin.Context) (dialogView, error) {
	var req dialogs.TransferRequest
	if err := decode(c, func(body object) { req = readTransfer(body) }); err != nil {
		return dialogView{}, err
	}
	d, err := s.dialogs.Transfer(c.Request.Context(), ref(c), req)
	return viewDialog(d), err
}

func (s *Server) holdDialog(c *gin.Context) (dialogView, error) {
	d, err := s.dialogs.Hold(c.Request.Context(), ref(c), true)
	return viewDialog(d), err
}

func (s *Server) resumeDialog(c *gin.Context) (dialogView, error) {
	d, err := s.dialogs.Hold(c.Request.Context(), ref(c), false)
	return viewDialog(d), err
}

// holdView says who keeps whom waiting.
type holdView struct {
	ByUs     bool `json:"byUs"`
	ByFarEnd bool `json:"byFarEnd"`
}

// transferView is a transfer that is under way.
type transferView struct {
	To   string       `json:"to"`
	Mode dialogs.Mode `json:"mode"`
	By   string       `json:"by"`
}

// viewTransfer is nil when there is none.
func viewTransfer(t dialogs.Transfer) *transferView {
	if t == (dialogs.Transfer{}) {
		return nil
	}
	return &transferView{To: t.To, Mode: t.Mode, By: t.By()}
}
