-- +goose Up

-- Whether browsers have the G.711 of phones as it comes.
ALTER TABLE sessions ADD COLUMN passthrough BIGINT NOT NULL DEFAULT 0;
