-- +goose Up

ALTER TABLE dialogs ADD COLUMN held_by_us BIGINT NOT NULL DEFAULT 0;
ALTER TABLE dialogs ADD COLUMN held_by_far_end BIGINT NOT NULL DEFAULT 0;
-- The transfer that is under way, as JSON; empty: none. A start that finds one reports that it failed.
ALTER TABLE dialogs ADD COLUMN transfer TEXT NOT NULL DEFAULT '';
