-- The same text runs on SQLite and on PostgreSQL. Times are unix milliseconds; 0 stands for "not yet".
-- +goose Up

-- position: the order in which this program made the rows; it decides between equal times.
CREATE TABLE sessions (
    id       TEXT   NOT NULL PRIMARY KEY,
    account  TEXT   NOT NULL,
    tag      TEXT   NOT NULL,
    created  BIGINT NOT NULL,
    expires  BIGINT NOT NULL,
    joins    BIGINT NOT NULL DEFAULT 0, -- bumped by every join: whoever joins or deletes holds the row
    position BIGINT NOT NULL
);
CREATE INDEX sessions_expires ON sessions (expires);

-- A deleted participant stays as the place where its events are counted.
CREATE TABLE participants (
    id                 TEXT   NOT NULL PRIMARY KEY,
    account            TEXT   NOT NULL,
    callback_url       TEXT   NOT NULL,
    tag                TEXT   NOT NULL,
    permissions        TEXT   NOT NULL, -- JSON
    device_api_version TEXT   NOT NULL,
    session_id         TEXT   NOT NULL, -- empty: in none
    subscriptions      TEXT   NOT NULL, -- JSON
    created            BIGINT NOT NULL,
    version            BIGINT NOT NULL,
    last_event         BIGINT NOT NULL DEFAULT 0, -- the sequence of its newest event
    deleted            BIGINT NOT NULL DEFAULT 0,
    position           BIGINT NOT NULL
);
CREATE INDEX participants_session ON participants (session_id) WHERE session_id <> '';

CREATE TABLE connections (
    id             TEXT   NOT NULL PRIMARY KEY,
    account        TEXT   NOT NULL,
    participant_id TEXT   NOT NULL REFERENCES participants (id),
    device         TEXT   NOT NULL,
    opened         BIGINT NOT NULL,
    position       BIGINT NOT NULL
);

CREATE TABLE dialogs (
    id             TEXT   NOT NULL PRIMARY KEY,
    account        TEXT   NOT NULL,
    participant_id TEXT   NOT NULL REFERENCES participants (id),
    inbound        BIGINT NOT NULL,
    state          TEXT   NOT NULL,
    called         TEXT   NOT NULL,
    caller         TEXT   NOT NULL,
    user_to_user   TEXT   NOT NULL,
    ring_timeout   BIGINT NOT NULL, -- ms
    max_duration   BIGINT NOT NULL, -- ms
    reason         TEXT   NOT NULL,
    details        TEXT   NOT NULL,
    sip_code       BIGINT NOT NULL,
    created        BIGINT NOT NULL,
    answered       BIGINT NOT NULL,
    ended          BIGINT NOT NULL,
    deleted        BIGINT NOT NULL DEFAULT 0,
    position       BIGINT NOT NULL
);
CREATE INDEX dialogs_participant ON dialogs (participant_id);
-- A participant has one telephone: hidden or not, a dialog that is not over occupies it.
CREATE UNIQUE INDEX dialogs_live ON dialogs (participant_id) WHERE state <> 'TERMINATED';

-- The event log and, while status is 'waiting', the outbox.
CREATE TABLE events (
    id             TEXT   NOT NULL PRIMARY KEY,
    account        TEXT   NOT NULL,
    participant_id TEXT   NOT NULL REFERENCES participants (id),
    sequence       BIGINT NOT NULL, -- 1, 2, 3 … per participant
    name           TEXT   NOT NULL,
    url            TEXT   NOT NULL,
    body           TEXT   NOT NULL, -- JSON
    created        BIGINT NOT NULL,
    status         TEXT   NOT NULL, -- recorded (nobody is told), waiting, delivered, given up
    attempts       BIGINT NOT NULL DEFAULT 0,
    not_before     BIGINT NOT NULL DEFAULT 0,
    failure        TEXT   NOT NULL DEFAULT '', -- why the last attempt failed
    finished       BIGINT NOT NULL DEFAULT 0, -- when it was delivered
    UNIQUE (participant_id, sequence)
);
CREATE INDEX events_waiting ON events (participant_id, sequence) WHERE status = 'waiting';

CREATE TABLE settings (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);
