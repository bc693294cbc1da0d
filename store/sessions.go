package store

import (
	"cmp"
	"context"
	"slices"

	"tandem/errs"
	"tandem/sessions"
	"tandem/webhooks"
)

const sessionColumns = `id, account, tag, created, expires, passthrough`

// CreateSession keeps a new session; one with the same id is errs.Conflict.
func (db *DB) CreateSession(ctx context.Context, s sessions.Session) error {
	return db.change(ctx, "create session "+s.ID, func(t *tx) error {
		_, err := t.exec(ctx, `INSERT INTO sessions (`+sessionColumns+`, position) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			s.ID, s.Account, s.Tag, millis(s.Created), millis(s.Expires), flag(s.Passthrough), db.nextPosition())
		return err
	})
}

// Session returns one of the account's sessions.
func (db *DB) Session(ctx context.Context, account, id string) (sessions.Session, error) {
	s, ok, err := one(ctx, db.reader(), scanSession,
		`SELECT `+sessionColumns+` FROM sessions WHERE id = $1 AND account = $2`, id, account)
	if err != nil {
		return s, db.failure(err, "read session "+id)
	}
	if !ok {
		return s, noSession(id)
	}
	return s, nil
}

// NextExpiry returns the session that expires first, or ok false when there is none. A session whose Expires is zero
// never does.
func (db *DB) NextExpiry(ctx context.Context) (s sessions.Session, ok bool, err error) {
	s, ok, err = one(ctx, db.reader(), scanSession,
		`SELECT `+sessionColumns+` FROM sessions WHERE expires <> 0 ORDER BY expires, position LIMIT 1`)
	return s, ok, db.failure(err, "find the session that expires next")
}

// DeleteSession removes the session, takes its members out of it and empties their subscriptions. It returns the
// members as they are afterwards. event makes the event that is written for each member, if any; it is called inside
// the transaction and may be called again for the same member, so it must only make a value.
func (db *DB) DeleteSession(ctx context.Context, account, id string,
	event func(sessions.Participant) (webhooks.Event, bool),
) (members []sessions.Participant, err error) {
	err = db.change(ctx, "delete session "+id, func(t *tx) error {
		members = nil
		// Joins hold the session's row, so from here on nobody joins, and who joined before is seen below.
		removed, err := t.exec(ctx, `DELETE FROM sessions WHERE id = $1 AND account = $2`, id, account)
		if err != nil {
			return err
		}
		if removed == 0 {
			return noSession(id)
		}
		moved, err := all(ctx, t.query, scanPositioned,
			`UPDATE participants SET session_id = '', subscriptions = '{}', version = version + 1
				WHERE session_id = $1 AND deleted = 0 RETURNING position, `+participantFields, id)
		if err != nil {
			return err
		}
		slices.SortFunc(moved, func(a, b positioned) int {
			return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.position, b.position))
		})
		for _, m := range moved {
			members = append(members, m.Participant)
			e, ok := event(m.Participant)
			if !ok {
				continue
			}
			if err := t.writeEvents(ctx, e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return members, nil
}

// Connected keeps c and writes e. A deleted participant is errs.NotFound, a connection that is known errs.Conflict.
func (db *DB) Connected(ctx context.Context, c sessions.Connection, e webhooks.Event) error {
	return db.change(ctx, "keep connection "+c.ID, func(t *tx) error {
		if err := t.lockParticipant(ctx, c.Account, c.Participant); err != nil {
			return err
		}
		if _, err := t.exec(ctx, `INSERT INTO connections (id, account, participant_id, device, opened, position)
			VALUES ($1, $2, $3, $4, $5, $6)`,
			c.ID, c.Account, c.Participant, c.Device, millis(c.Opened), db.nextPosition()); err != nil {
			return err
		}
		return t.writeEvents(ctx, e)
	})
}

// Disconnected forgets the connection and writes e; when the connection is not there any more it does nothing.
func (db *DB) Disconnected(ctx context.Context, connection string, e webhooks.Event) error {
	return db.change(ctx, "forget connection "+connection, func(t *tx) error {
		removed, err := t.exec(ctx, `DELETE FROM connections WHERE id = $1`, connection)
		if err != nil || removed == 0 {
			return err
		}
		return t.writeEvents(ctx, e)
	})
}

// Connections lists all that were connected and never disconnected in the order in which they were, and, each once,
// their participants (deleted ones too).
func (db *DB) Connections(ctx context.Context) ([]sessions.Connection, []sessions.Participant, error) {
	connections, err := all(ctx, db.reader(), scanConnection,
		`SELECT id, account, participant_id, device, opened FROM connections ORDER BY opened, position`)
	if err != nil {
		return nil, nil, db.failure(err, "list connections")
	}
	// Asked second: whoever has a connection that we saw is there, for participants are never removed.
	participants, err := all(ctx, db.reader(), scanParticipant,
		`SELECT `+participantFields+` FROM participants WHERE id IN (SELECT participant_id FROM connections)
			ORDER BY created, position`)
	if err != nil {
		return nil, nil, db.failure(err, "list participants with connections")
	}
	return connections, participants, nil
}

func scanSession(row scanner) (s sessions.Session, err error) {
	var created, expires, passthrough int64
	err = row.Scan(&s.ID, &s.Account, &s.Tag, &created, &expires, &passthrough)
	s.Passthrough = passthrough != 0
	s.Created, s.Expires = fromMillis(created), fromMillis(expires)
	return s, err
}

func scanConnection(row scanner) (c sessions.Connection, err error) {
	var opened int64
	err = row.Scan(&c.ID, &c.Account, &c.Participant, &c.Device, &opened)
	c.Opened = fromMillis(opened)
	return c, err
}

func noSession(id string) error {
	return errs.New(errs.NotFound, "session %s does not exist", id)
}

func noParticipant(id string) error {
	return errs.New(errs.NotFound, "participant %s does not exist", id)
}
