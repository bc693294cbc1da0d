-- +goose Up

-- 1: the gateway made the participant for a phone that dialled in, and deletes it some time after its last call.
ALTER TABLE participants ADD COLUMN caller BIGINT NOT NULL DEFAULT 0;
CREATE INDEX participants_callers ON participants (created) WHERE caller = 1 AND deleted = 0;
