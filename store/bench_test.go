package store_test

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"tandem/sessions"
	"tandem/store"
	"tandem/webhooks"
)

// BenchmarkWriteEvent is one acknowledged write: an event in its transaction.
func BenchmarkWriteEvent(b *testing.B) {
	db, err := store.Open(b.Context(), "sqlite:"+filepath.Join(b.TempDir(), "t.db"), nil, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if err := db.CreateParticipant(b.Context(), sessions.Participant{ID: "p", Account: "a", Created: time.Now()}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := db.WriteEvent(b.Context(), webhooks.Event{Account: "a", Participant: "p", Name: webhooks.OnDtmf, Time: time.Now()}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWriteEvents is what many calls write at once: they share commits.
func BenchmarkWriteEvents(b *testing.B) {
	db, err := store.Open(b.Context(), "sqlite:"+filepath.Join(b.TempDir(), "t.db"), nil, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if err := db.CreateParticipant(b.Context(), sessions.Participant{ID: "p", Account: "a", Created: time.Now()}); err != nil {
		b.Fatal(err)
	}
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := db.WriteEvent(b.Context(), webhooks.Event{Account: "a", Participant: "p", Name: webhooks.OnDtmf, Time: time.Now()}); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkOpen is a first start: a new file and its schema.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	for i := 0; b.Loop(); i++ {
		db, err := store.Open(b.Context(), "sqlite:"+filepath.Join(dir, time.Now().Format("150405.000000000"), "t.db"), nil, slog.New(slog.DiscardHandler))
		if err != nil {
			b.Fatal(err)
		}
		if err := db.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
