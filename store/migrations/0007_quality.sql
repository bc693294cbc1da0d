-- How the sound of a call travelled, as JSON; empty: nothing was measured.
-- +goose Up

ALTER TABLE dialogs ADD COLUMN quality TEXT NOT NULL DEFAULT '';
