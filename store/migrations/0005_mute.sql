-- +goose Up

-- Whom nobody hears, and who is not heard by some: a JSON list of participants.
ALTER TABLE participants ADD COLUMN muted BIGINT NOT NULL DEFAULT 0;
ALTER TABLE participants ADD COLUMN muted_for TEXT NOT NULL DEFAULT '[]';
