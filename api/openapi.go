package api

import (
	_ "embed"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
)

// openapi describes this API, with what is ours marked as an addition.
//
//go:embed openapi.yml
var openapi string //nolint:gochecknoglobals // go:embed needs one; nothing writes it

// document serves the description with this gateway's address in it.
func (s *Server) document() gin.HandlerFunc {
	const server = "- url: /v1\n"
	doc := []byte(strings.Replace(openapi, server, "- url: "+strings.TrimSuffix(s.cfg.PublicURL, "/")+"/v1\n", 1))
	return func(c *gin.Context) { c.Data(http.StatusOK, "application/yaml", doc) }
}
