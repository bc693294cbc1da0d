package interop

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/test/harness"
)

// TestTrunkRegistersWithKamailio has a trunk register with a real registrar over each transport, and renews it by REST.
func TestTrunkRegistersWithKamailio(t *testing.T) {
	ca := harness.NewAuthority(t)
	registrar := startKamailio(t, ca)
	for _, transport := range []string{"udp", "tcp", "tls"} {
		t.Run(transport, func(t *testing.T) {
			cfg := harness.Config(t)
			cfg.SIP.TLSCA = ca.File
			trunk := harness.Trunk("carrier", registrar.uri(transport))
			trunk.Register, trunk.Username, trunk.Password = true, registrarUser, registrarPassword
			wrong := harness.Trunk("wrong", registrar.uri(transport))
			wrong.Allow = nil
			wrong.Register, wrong.Username, wrong.Password = true, registrarUser, "another password"
			cfg.Trunks = append(cfg.Trunks, trunk, wrong)
			g := harness.Start(t, cfg)
			state := func(trunk string) string {
				status, _ := g.Do(t, http.MethodGet, "/trunks/"+trunk+"/registration", nil)
				if status != http.StatusOK {
					return ""
				}
				return g.Must(t, http.MethodGet, "/trunks/"+trunk+"/registration", nil).Text("state")
			}
			await := func(trunk, want string) {
				require.Eventually(t, func() bool { return state(trunk) == want }, harness.Patience, harness.Patience/200, "never %s", want)
			}
			await("carrier", "registered")
			await("wrong", "failed")
			before := g.Must(t, http.MethodGet, "/trunks/carrier/registration", nil).Text("expiresTime")
			at, err := time.Parse(time.RFC3339, before)
			require.NoError(t, err)
			require.WithinDuration(t, time.Now().Add(10*time.Minute), at, harness.Patience)
			g.Must(t, http.MethodPost, "/trunks/carrier/register", nil)
			require.Eventually(t, func() bool {
				return g.Must(t, http.MethodGet, "/trunks/carrier/registration", nil).Text("expiresTime") != before
			}, harness.Patience, harness.Patience/200, "never renewed")
		})
	}
}
