package main

import (
	"fmt"
	"io"

	"tandem/gateway"
)

// The demo's credentials are no secret: the gateway gives them to everybody who opens the demo page.
const (
	demoAccount  = "9900000"
	demoUser     = "api-user"
	demoPassword = "api-pass"
	demoSecret   = "whsec_dGFuZGVtLWRlbW8tY2FsbGJhY2stc2VjcmV0" //nolint:gosec // see above
)

// addDemo adds the demo's account and, as its trunk, the lab at host:port.
func addDemo(cfg *gateway.Config, lab string) {
	cfg.Demo = true
	cfg.Accounts = append(cfg.Accounts, gateway.AccountConfig{
		ID: demoAccount, Username: demoUser, Password: demoPassword, CallbackSecret: demoSecret,
	})
	cfg.Trunks = append(cfg.Trunks, gateway.TrunkConfig{
		Name: "lab", Account: demoAccount, URI: "sip:" + lab + ";transport=udp", Allow: []string{"127.0.0.1/32"},
	})
}

// printDemo tells a newcomer what to do next.
func printDemo(w io.Writer, app *gateway.App) {
	_, _ = fmt.Fprintf(w, `
Tandem runs. Open this page, press Connect, and call a number:

    %[1]s/

The API's account is %[2]s, its user %[3]s, its password %[4]s. While the page is connected,
this line calls the lab, and the page plays what it says:

    curl -u %[3]s:%[4]s -H 'Content-Type: application/json' \
      -d '{"dialogType":"SIP","dialogStateData":{"to":"+15550105","from":"%[5]s"}}' \
      %[1]s/v1/accounts/%[2]s/participants/%[6]s/dialogs

Stop with Ctrl+C.

`, app.URL(), demoAccount, demoUser, demoPassword, gateway.DemoFrom, app.DemoPhone())
}
