-- +goose Up

-- settings: JSON, without the secrets.
CREATE TABLE trunks (
    account          TEXT   NOT NULL,
    name             TEXT   NOT NULL,
    origin           TEXT   NOT NULL, -- file, rest
    settings         TEXT   NOT NULL,
    password         TEXT   NOT NULL,
    inbound_password TEXT   NOT NULL,
    position         BIGINT NOT NULL,
    PRIMARY KEY (account, name)
);

CREATE TABLE numbers (
    account  TEXT   NOT NULL,
    number   TEXT   NOT NULL,
    origin   TEXT   NOT NULL,
    settings TEXT   NOT NULL,
    position BIGINT NOT NULL,
    PRIMARY KEY (account, number)
);

-- What POST dialog asked for, and what an INVITE brought.
ALTER TABLE dialogs ADD COLUMN trunk TEXT NOT NULL DEFAULT '';
ALTER TABLE dialogs ADD COLUMN headers TEXT NOT NULL DEFAULT ''; -- JSON; empty: none
