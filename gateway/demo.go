package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"tandem/errs"
	"tandem/sessions"
)

// demo is the session that the demo page joins. Everybody in it hears everybody.
type demo struct {
	app     *App
	account AccountConfig
	session string
	phone   string // the participant whose dialogs the page and the printed curl line make
}

// demoNumber is a number of the lab trunk that the page offers.
type demoNumber struct {
	Number string `json:"number"`
	Label  string `json:"label"`
}

func demoNumbers() []demoNumber {
	return []demoNumber{
		{"+15550105", "answers and speaks"},
		{"+15550100", "answers and echoes what you say"},
		{"+15550106", "plays early media, then answers"},
		{"+15550108", "answers and presses keys"},
		{"+15550107", "answers and hangs up after 3 seconds"},
		{"+15550102", "rings and never answers"},
		{"+15550101", "is busy"},
		{"+15550103", "declines"},
		{"+15550104", "does not exist"},
	}
}

// DemoFrom is the caller's number that the demo shows.
const DemoFrom = "+15550199"

func openDemo(ctx context.Context, a *App) (*demo, error) {
	d := &demo{app: a, account: a.cfg.Accounts[0]}
	session, err := a.people.CreateSession(ctx, d.account.ID, sessions.NewSession{Tag: "demo"})
	if err != nil {
		return nil, err
	}
	d.session = session.ID
	d.phone, _, err = d.newMember(ctx, "demo phone", sessions.PublishAudio)
	return d, err
}

// close deletes what the demo made, so that the next run does not find it beside its own.
func (d *demo) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopPatience)
	defer cancel()
	people := d.app.people
	members, err := people.Members(ctx, d.account.ID, d.session)
	if errs.CodeOf(err) == errs.NotFound { // over, or deleted by somebody
		return nil
	}
	for _, p := range members {
		err = errors.Join(err, people.DeleteParticipant(ctx, d.account.ID, p.ID))
	}
	return errors.Join(err, people.DeleteSession(ctx, d.account.ID, d.session))
}

// newMember creates a participant that hears the whole session.
func (d *demo) newMember(ctx context.Context, tag string, may ...sessions.Permission) (id, token string, err error) {
	p, token, err := d.app.people.CreateParticipant(ctx, d.account.ID, sessions.NewParticipant{Tag: tag, Permissions: may})
	if err != nil {
		return "", "", err
	}
	err = d.app.people.Join(ctx, d.account.ID, d.session, p.ID, sessions.Subscriptions{Session: d.session})
	if err != nil {
		return "", "", errors.Join(err, d.app.people.DeleteParticipant(ctx, d.account.ID, p.ID))
	}
	return p.ID, token, nil
}

const browserTag = "demo browser"

func (d *demo) newBrowser(ctx context.Context) (id, token string, err error) {
	return d.newMember(ctx, browserTag, sessions.PublishAudio, sessions.PublishVideo)
}

// sweep deletes the browsers that are not connected any more: the session is full.
func (d *demo) sweep(ctx context.Context) {
	people := d.app.people
	members, err := people.Members(ctx, d.account.ID, d.session)
	for _, p := range members {
		if p.Tag == browserTag && !people.Online(p.ID) {
			err = errors.Join(err, people.DeleteParticipant(ctx, d.account.ID, p.ID))
		}
	}
	if err != nil {
		d.app.log.Warn("the demo session can't be swept", "error", err)
	}
}

// ServeHTTP lets a page join: it makes a participant and says everything that the page needs.
func (d *demo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, token, err := d.newBrowser(r.Context())
	if errs.CodeOf(err) == errs.Conflict {
		d.sweep(r.Context())
		id, token, err = d.newBrowser(r.Context())
	}
	if err != nil {
		d.app.log.Warn("a page can't join the demo", "error", err)
		http.Error(w, "the demo session is full or over; restart the gateway", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"sessionId": d.session, "participantId": id, "token": token, "phoneParticipantId": d.phone, "from": DemoFrom,
		"numbers": demoNumbers(), "accountId": d.account.ID, "username": d.account.Username,
		"password": string(d.account.Password), "apiUrl": d.app.URL(), "wsUrl": d.app.DeviceURL(),
	})
}

// DemoPhone is the participant whose dialogs ring the demo session; empty without a demo.
func (a *App) DemoPhone() string {
	if a.demoRoom == nil {
		return ""
	}
	return a.demoRoom.phone
}
