package store

import (
	"context"
	"encoding/json"
	"time"

	"tandem/errs"
	"tandem/sessions"
)

const participantColumns = `id, account, callback_url, tag, permissions, device_api_version, session_id, subscriptions, created, version, muted, muted_for`

// participantFields are the columns with what the session of the participant says.
const participantFields = participantColumns + `,
	COALESCE((SELECT s.passthrough FROM sessions s WHERE s.id = participants.session_id), 0)`

// Members lists the participants of a session in the order in which they were created.
func (db *DB) Members(ctx context.Context, session string) ([]sessions.Participant, error) {
	if session == "" {
		return nil, nil // the mark of those that are in no session
	}
	list, err := all(ctx, db.reader(), scanParticipant,
		`SELECT `+participantFields+` FROM participants WHERE session_id = $1 AND session_id <> '' AND deleted = 0
			ORDER BY created, position`, session)
	return list, db.failure(err, "list the members of session "+session)
}

// CreateParticipant keeps a new participant; one with the same id, deleted or not, is errs.Conflict.
func (db *DB) CreateParticipant(ctx context.Context, p sessions.Participant) error {
	return db.change(ctx, "create participant "+p.ID, func(t *tx) error { return t.createParticipant(ctx, p, false) })
}

// createParticipant inserts a row; caller says that the gateway made it for who dialled in, and clears it away.
func (t *tx) createParticipant(ctx context.Context, p sessions.Participant, caller bool) error {
	permissions, subscriptions, err := documents(p)
	if err != nil {
		return err
	}
	mutedFor, err := idsDocument(p.MutedFor)
	if err != nil {
		return err
	}
	_, err = t.exec(ctx, `INSERT INTO participants (`+participantColumns+`, caller, position)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`,
		p.ID, p.Account, p.CallbackURL, p.Tag, permissions, p.DeviceAPIVersion, p.Session, subscriptions,
		millis(p.Created), p.Version, flag(p.Muted), mutedFor, flag(caller), t.db.nextPosition())
	return err
}

// Participant returns one of the account's participants that is not deleted.
func (db *DB) Participant(ctx context.Context, account, id string) (sessions.Participant, error) {
	p, err := db.reader().participant(ctx, account, id)
	return p, db.failure(err, "read participant "+id)
}

func (q query) participant(ctx context.Context, account, id string) (sessions.Participant, error) {
	p, ok, err := one(ctx, q, scanParticipant,
		`SELECT `+participantFields+` FROM participants WHERE id = $1 AND account = $2 AND deleted = 0`, id, account)
	if err == nil && !ok {
		return p, noParticipant(id)
	}
	return p, err
}

// SaveMembership writes p.Session, p.Subscriptions and who hears p over the row that was read with p.Version and returns p with its
// new version. Joining a session that has limit members already is errs.Conflict, one that is gone errs.NotFound, a
// row that was changed meanwhile sessions.ErrStale.
func (db *DB) SaveMembership(ctx context.Context, p sessions.Participant, limit int) (sessions.Participant, error) {
	_, subscriptions, err := documents(p)
	if err != nil {
		return p, err
	}
	mutedFor, err := idsDocument(p.MutedFor)
	if err != nil {
		return p, err
	}
	err = db.change(ctx, "save participant "+p.ID, func(t *tx) error {
		now, err := t.participant(ctx, p.Account, p.ID)
		if err != nil {
			return err
		}
		if now.Version != p.Version {
			return sessions.ErrStale
		}
		switch p.Session {
		case now.Session:
			p.Passthrough = now.Passthrough
		case "":
			p.Passthrough = false
		default:
			if p.Passthrough, err = t.join(ctx, p.Account, p.Session, limit); err != nil {
				return err
			}
		}
		// The version is asked again: on PostgreSQL the row may have changed since it was read above.
		changed, err := t.exec(ctx, `UPDATE participants SET session_id = $1, subscriptions = $2, muted = $3, muted_for = $4,
				version = version + 1 WHERE id = $5 AND account = $6 AND version = $7 AND deleted = 0`,
			p.Session, subscriptions, flag(p.Muted), mutedFor, p.ID, p.Account, p.Version)
		if err == nil && changed == 0 {
			return sessions.ErrStale
		}
		return err
	})
	if err != nil {
		return p, err
	}
	p.Version++
	return p, nil
}

// join makes sure that the session is there and has a free place, and keeps both true until the commit: every join
// writes the session's row first, so joins come one after the other. It returns whether the session wants no codecs.
func (t *tx) join(ctx context.Context, account, session string, limit int) (passthrough bool, err error) {
	there, err := t.exec(ctx, `UPDATE sessions SET joins = joins + 1 WHERE id = $1 AND account = $2`, session, account)
	if err != nil {
		return false, err
	}
	if there == 0 {
		return false, noSession(session)
	}
	var members, plain int64
	if _, err := t.row(ctx, []any{&members, &plain},
		`SELECT COUNT(*), (SELECT passthrough FROM sessions WHERE id = $1)
			FROM participants WHERE session_id = $2 AND session_id <> '' AND deleted = 0`, session, session); err != nil {
		return false, err
	}
	if members >= int64(limit) {
		return false, errs.New(errs.Conflict, "session %s has %d participants, more are not allowed", session, members)
	}
	return plain != 0, nil
}

// DeleteParticipant takes it out of its session and hides it. Events about it can still be written.
func (db *DB) DeleteParticipant(ctx context.Context, account, id string, at time.Time) error {
	return db.change(ctx, "delete participant "+id, func(t *tx) error {
		changed, err := t.exec(ctx, `UPDATE participants
			SET session_id = '', subscriptions = '{}', version = version + 1, deleted = $1
			WHERE id = $2 AND account = $3 AND deleted = 0`, deletedAt(at), id, account)
		if err == nil && changed == 0 {
			return noParticipant(id)
		}
		return err
	})
}

// lockParticipant keeps a participant as it is until the commit. It is errs.NotFound when it is gone.
func (t *tx) lockParticipant(ctx context.Context, account, id string) error {
	there, err := t.exec(ctx,
		`UPDATE participants SET last_event = last_event WHERE id = $1 AND account = $2 AND deleted = 0`, id, account)
	if err == nil && there == 0 {
		return noParticipant(id)
	}
	return err
}

// subscriptionsDocument is how subscriptions are stored; its names must not follow those of the Go fields.
type subscriptionsDocument struct {
	Session      string                 `json:"session,omitempty"`
	Participants []subscriptionDocument `json:"participants,omitempty"`
}

type subscriptionDocument struct {
	Participant   string   `json:"participant"`
	StreamAliases []string `json:"streamAliases,omitempty"`
}

func documents(p sessions.Participant) (permissions, subscriptions string, err error) {
	list := p.Permissions
	if list == nil {
		list = []sessions.Permission{}
	}
	first, err := json.Marshal(list)
	if err != nil {
		return "", "", errs.Wrap(err, errs.Internal, "encode permissions")
	}
	doc := subscriptionsDocument{Session: p.Subscriptions.Session}
	for _, s := range p.Subscriptions.Participants {
		doc.Participants = append(doc.Participants, subscriptionDocument(s))
	}
	second, err := json.Marshal(doc)
	if err != nil {
		return "", "", errs.Wrap(err, errs.Internal, "encode subscriptions")
	}
	return string(first), string(second), nil
}

func scanParticipant(row scanner) (sessions.Participant, error) {
	p, err := scanInto(row)
	return p, err
}

// positioned is a participant with what orders those of the same millisecond.
type positioned struct {
	sessions.Participant
	position int64
}

func scanPositioned(row scanner) (p positioned, err error) {
	p.Participant, err = scanInto(row, &p.position)
	return p, err
}

// scanInto scans participantFields, after the columns that before takes.
func scanInto(row scanner, before ...any) (p sessions.Participant, err error) {
	var permissions, subscriptions, mutedFor string
	var created, silent, passthrough int64
	if err := row.Scan(append(before, &p.ID, &p.Account, &p.CallbackURL, &p.Tag, &permissions, &p.DeviceAPIVersion,
		&p.Session, &subscriptions, &created, &p.Version, &silent, &mutedFor, &passthrough)...); err != nil {
		return p, err
	}
	p.Created, p.Muted, p.Passthrough = fromMillis(created), silent != 0, passthrough != 0
	if err := json.Unmarshal([]byte(mutedFor), &p.MutedFor); err != nil {
		return p, errs.Wrap(err, errs.Internal, "muted_for of participant %s in the database", p.ID)
	}
	if len(p.MutedFor) == 0 {
		p.MutedFor = nil
	}
	if err := json.Unmarshal([]byte(permissions), &p.Permissions); err != nil {
		return p, errs.Wrap(err, errs.Internal, "permissions of participant %s in the database", p.ID)
	}
	if len(p.Permissions) == 0 {
		p.Permissions = nil
	}
	var doc subscriptionsDocument
	if err := json.Unmarshal([]byte(subscriptions), &doc); err != nil {
		return p, errs.Wrap(err, errs.Internal, "subscriptions of participant %s in the database", p.ID)
	}
	p.Subscriptions.Session = doc.Session
	for _, s := range doc.Participants {
		p.Subscriptions.Participants = append(p.Subscriptions.Participants, sessions.Subscription(s))
	}
	return p, nil
}

// idsDocument is how a list of ids is stored.
func idsDocument(ids []string) (string, error) {
	if ids == nil {
		ids = []string{}
	}
	b, err := json.Marshal(ids)
	if err != nil {
		return "", errs.Wrap(err, errs.Internal, "encode a list of ids")
	}
	return string(b), nil
}
