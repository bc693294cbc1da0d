-- What was answered to requests with an Idempotency-Key.
-- +goose Up

CREATE TABLE answers (
    account     TEXT   NOT NULL,
    name        TEXT   NOT NULL, -- the key
    fingerprint TEXT   NOT NULL, -- of the request
    status      BIGINT NOT NULL, -- 0: the request is at work, or was cut
    body        TEXT   NOT NULL,
    created     BIGINT NOT NULL,
    PRIMARY KEY (account, name)
);
CREATE INDEX answers_created ON answers (created);
