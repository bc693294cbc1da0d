package api

import (
	"encoding/json"
	"time"

	"github.com/gin-gonic/gin"

	"tandem/dialogs"
)

func readKeys(body object) dialogs.Keys {
	body.require("the keys to press, such as 1234#", "digits")
	return dialogs.Keys{
		Digits:   body.text("digits"),
		Duration: body.millis("duration", dialogs.MinKeyTime, dialogs.MaxKeyTime),
		Gap:      body.millis("gap", dialogs.MinKeyTime, dialogs.MaxKeyTime),
	}
}

// sendKeys answers as soon as the keys are queued.
func (s *Server) sendKeys(c *gin.Context) (dialogView, error) {
	var keys dialogs.Keys
	if err := decode(c, func(body object) { keys = readKeys(body) }); err != nil {
		return dialogView{}, err
	}
	d, err := s.dialogs.SendKeys(c.Request.Context(), ref(c), keys)
	return viewDialog(d), err
}

// millis reads a whole number of milliseconds within bounds; 0 when the field is absent.
func (o object) millis(name string, least, most time.Duration) time.Duration {
	if !o.has(name) {
		return 0
	}
	if number, ok := o.fields[name].(json.Number); ok {
		if n, err := number.Int64(); err == nil && n >= least.Milliseconds() && n <= most.Milliseconds() {
			return time.Duration(n) * time.Millisecond
		}
	}
	o.fail(o.at(name), "must be a whole number of milliseconds, %d to %d", least.Milliseconds(), most.Milliseconds())
	return 0
}
