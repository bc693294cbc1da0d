// Package gateway puts the parts of Tandem together and runs them. It is the only package that knows all others.
package gateway

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"tandem/api"
	"tandem/dialogs"
	"tandem/media"
	"tandem/sessions"
	"tandem/sfu"
	"tandem/sip"
	"tandem/sounds"
	"tandem/store"
	"tandem/transcode"
	"tandem/trunks"
	"tandem/webhooks"
)

// App is a gateway. New opens everything, Run lets it work.
type App struct {
	cfg      Config
	log      *slog.Logger
	listener net.Listener
	url      string

	db        *store.DB
	people    *sessions.Service
	calls     *dialogs.Service
	engine    *transcode.Engine
	ports     *media.Ports
	book      *trunks.Book
	directory *trunks.Service
	sounds    *sounds.Library
	phone     *sip.Agent
	devices   *sfu.Server
	worker    *webhooks.Worker
	handler   http.Handler
	phase     atomic.Int32 // starting, ready or stopping
	started   time.Time
	demoRoom  *demo // nil: no demo
	nonceKey  []byte
	drain     drain
	health    health
}

// The phases of a gateway. Only one that is ready wants work; a drain leads from ready, or from starting, to stopping.
const (
	starting int32 = iota
	ready
	stopping
)

// New opens the database and the sockets and ends what a crash left behind. Whoever calls it must call Run or Close.
func New(ctx context.Context, cfg Config, log *slog.Logger) (*App, error) {
	a := &App{cfg: cfg, log: log, started: time.Now(), drain: newDrain()}
	if err := a.open(ctx); err != nil {
		return nil, errors.Join(err, a.Close()) //nolint:contextcheck // what is closed needs no time
	}
	return a, nil
}

func (a *App) open(ctx context.Context) error {
	wake := webhooks.NewWakeups()
	db, err := store.Open(ctx, string(a.cfg.Database.URL), wake, a.log)
	if err != nil {
		return fmt.Errorf("database.url: %w", err)
	}
	a.db, a.health.alive = db, db.Alive
	if err := a.openDirectory(ctx); err != nil {
		return err
	}

	key := []byte(a.cfg.Security.TokenKey)
	if len(key) == 0 {
		if key, err = db.Secret(ctx, "tokenKey", newTokenKey); err != nil {
			return fmt.Errorf("token key: %w", err)
		}
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("tandem: SIP nonces"))
	a.nonceKey = mac.Sum(nil)
	a.people = sessions.New(sessions.Config{
		ParticipantsPerSession: a.cfg.Limits.ParticipantsPerSession,
		SessionLifetime:        a.cfg.Limits.SessionLifetime,
	}, db, sessions.NewSigner(key, a.cfg.Security.TokenLifetime), a.log)

	if err := a.openMedia(); err != nil { //nolint:contextcheck // sockets are bound at once
		return err
	}
	if err := a.openSounds(); err != nil {
		return err
	}
	a.calls = dialogs.New(dialogs.Config{
		RingTimeout: a.cfg.SIP.RingTimeout, TransferTimeout: a.cfg.SIP.TransferTimeout, SilenceTimeout: a.cfg.Media.SilenceTimeout,
		Routes:    a.book,
		Directory: numbers{a.book}, Sounds: a.sounds,
	}, a.people, a.phone, a.engine, db, a.log)
	if err := a.calls.Recover(ctx); err != nil {
		return fmt.Errorf("end the calls of the last run: %w", err)
	}
	if err := a.people.Recover(ctx); err != nil {
		return fmt.Errorf("end the connections of the last run: %w", err)
	}
	a.worker = webhooks.NewWorker(a.webhookConfig(), db, wake, a.log)
	return a.openHTTP(ctx)
}

func newTokenKey() ([]byte, error) {
	key := make([]byte, minTokenKey)
	_, err := rand.Read(key)
	return key, err
}

// openMedia binds the sockets for SIP, RTP and WebRTC.
func (a *App) openMedia() error {
	listen, public, err := a.cfg.Media.addresses()
	if err != nil {
		return err
	}
	from, to, err := a.cfg.rtpPorts()
	if err != nil {
		return err
	}
	if a.ports, err = media.NewPorts(media.PortsConfig{Listen: listen, Public: public, From: from, To: to}); err != nil {
		return err
	}
	a.engine = transcode.NewEngine(a.cfg.Media.transcoding(), a.log)
	if a.phone, err = sip.Listen(a.sipConfig(), a.ports, a.log); err != nil {
		return err
	}
	a.devices, err = sfu.Listen(sfu.Config{
		UDP:      netip.AddrPortFrom(listen[0], uint16(a.cfg.Media.WebRTCUDP)),
		TCP:      netip.AddrPortFrom(listen[0], uint16(a.cfg.Media.WebRTCTCP)),
		PublicIP: a.ports.Public(media.FamilyOf(listen[0])),
	}, members{a.people}, a.log)
	return err
}

func (a *App) sipConfig() sip.Config {
	return sip.Config{
		Listen: a.cfg.SIP.Listen, Advertise: a.cfg.SIP.Advertise, TokenCalls: a.cfg.SIP.TokenCalls, Book: a.book,
		TLSCert: a.cfg.SIP.TLSCert, TLSKey: a.cfg.SIP.TLSKey, TLSCA: a.cfg.SIP.TLSCA,
		SessionExpires: a.cfg.SIP.SessionExpires, NonceKey: a.nonceKey, Guard: a.guardConfig(), Health: a.health.check,
	}
}

func (a *App) webhookConfig() webhooks.Config {
	cfg := webhooks.Config{Secrets: map[string]webhooks.Secret{}, Answers: a.calls}
	for _, account := range a.cfg.Accounts {
		if account.CallbackSecret != "" {
			cfg.Secrets[account.ID] = webhooks.Secret(account.CallbackSecret)
		}
	}
	return cfg
}

func (a *App) apiConfig() (api.Config, error) {
	cfg := api.Config{PublicURL: a.url, Operator: operator{a}, Answers: a.db, Trunks: a.directory}
	if a.cfg.Admin.Username != "" {
		hash := string(a.cfg.Admin.PasswordHash)
		if hash == "" {
			var err error
			if hash, err = api.HashPassword(string(a.cfg.Admin.Password)); err != nil {
				return api.Config{}, fmt.Errorf("admin.password: %w", err)
			}
		}
		cfg.Admin = api.Account{ID: "admin", Username: a.cfg.Admin.Username, PasswordHash: hash}
	}
	for i, account := range a.cfg.Accounts {
		hash := string(account.PasswordHash)
		if hash == "" {
			var err error
			if hash, err = api.HashPassword(string(account.Password)); err != nil {
				return api.Config{}, fmt.Errorf("accounts[%d].password: %w", i, err)
			}
		}
		cfg.Accounts = append(cfg.Accounts, api.Account{ID: account.ID, Username: account.Username, PasswordHash: hash})
	}
	debug.FreeOSMemory() // the hashes took 19 MiB each, once: what is measured from the start on is without them
	for _, s := range a.cfg.Media.ICEServers {
		cfg.ICEServers = append(cfg.ICEServers, api.ICEServer{URLs: s.URLs, Username: s.Username, Credential: string(s.Credential)})
	}
	return cfg, nil
}

// openHTTP binds the HTTP socket and builds what it serves.
func (a *App) openHTTP(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", a.cfg.HTTP.Listen)
	if err != nil {
		return fmt.Errorf("http.listen: %w", err)
	}
	a.url = a.cfg.HTTP.PublicURL
	scheme := "http"
	if a.cfg.HTTP.TLSCert != "" {
		pair, err := tls.LoadX509KeyPair(a.cfg.HTTP.TLSCert, a.cfg.HTTP.TLSKey)
		if err != nil {
			return errors.Join(fmt.Errorf("http.tlsCert, http.tlsKey: %w", err), listener.Close())
		}
		listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
		scheme = "https"
	}
	a.listener = listener
	if a.url == "" {
		a.url = scheme + "://" + listener.Addr().String()
	}
	a.url = strings.TrimSuffix(a.url, "/")
	cfg, err := a.apiConfig()
	if err != nil {
		return err
	}
	if a.cfg.Demo {
		if a.demoRoom, err = openDemo(ctx, a); err != nil {
			return fmt.Errorf("demo: %w", err)
		}
	}
	a.handler = a.routes(api.New(cfg, a.people, a.calls, a.log))
	return nil
}

// URL is the address of the REST API and the pages, without a slash at the end.
func (a *App) URL() string { return a.url }

// DeviceURL is the address that device clients get as websocketUrl.
func (a *App) DeviceURL() string { return "ws" + strings.TrimPrefix(a.url, "http") }

// SIPAddrs are the SIP listeners as URIs, with the ports that were bound.
func (a *App) SIPAddrs() []string { return a.phone.Addrs() }

// Busy says whether anyone has a device or a phone leg here now. It is safe for concurrent use.
func (a *App) Busy() bool { return a.people.Live() > 0 }

// Run works until ctx ends or a drain is over, then hangs up, tells the devices, and closes everything. Events that were
// not delivered yet are delivered by the next start.
func (a *App) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	err := runParts(ctx, []part{
		{"media clock", a.engine.Run},
		{"webhooks", a.worker.Run},
		{"session expiry", a.people.Run},
		{"sip", func(ctx context.Context) error { return a.phone.Serve(ctx, a.calls) }},
		{"calls", a.calls.Run},
		{"devices", a.devices.Run},
		{"memory", giveBack},
		{"http", a.serveHTTP},
		{"drain", func(ctx context.Context) error { return a.awaitDrain(ctx, stop) }},
		{"readiness", a.announce},
	}, a.log)
	if a.demoRoom != nil {
		err = errors.Join(err, a.demoRoom.close(context.WithoutCancel(ctx)))
	}
	return errors.Join(err, a.sounds.Close(), a.db.Close())
}

// announce says that the gateway is ready once it serves devices too, and that it stops when ctx ends. The sockets of SIP
// and HTTP are bound by New: what comes before their parts run is not lost.
func (a *App) announce(ctx context.Context) error {
	select {
	case <-a.devices.Serving():
		if a.phase.CompareAndSwap(starting, ready) {
			a.log.Info("ready", "url", a.url, "sip", strings.Join(a.SIPAddrs(), " "), "after", time.Since(a.started).Round(time.Millisecond))
		}
		<-ctx.Done()
	case <-ctx.Done():
	}
	a.phase.Store(stopping)
	return nil
}

// Close frees what New opened when Run is not to be called.
func (a *App) Close() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var all []error
	if a.devices != nil {
		all = append(all, a.devices.Run(ctx))
	}
	if a.phone != nil {
		all = append(all, a.phone.Serve(ctx, a.calls))
	}
	if a.listener != nil {
		all = append(all, a.listener.Close())
	}
	if a.sounds != nil {
		all = append(all, a.sounds.Close())
	}
	if a.db != nil {
		all = append(all, a.db.Close())
	}
	return errors.Join(all...)
}

// members lets the SFU see the sessions through its own small interface.
type members struct{ *sessions.Service }

// Connect puts a device into its place at the participant.
func (m members) Connect(ctx context.Context, p sessions.Participant, device string, ep sessions.Endpoint) (sfu.Membership, error) {
	a, err := m.Service.Connect(ctx, p, device, ep)
	if err != nil {
		return nil, err // a nil *Attachment would be no nil Membership
	}
	return a, nil
}
