package load

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	idleSessions = 500
	idleFor      = 20 * time.Second
)

// RunIdle makes sessions with two participants each, of whom nobody calls or connects, and prints what they cost while
// nothing happens. gateway is how this program is called; empty: as it was.
func RunIdle(ctx context.Context, gateway []string, out io.Writer) error {
	var err error
	if gateway, err = programOr(gateway); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "tandem-bench-")
	if err != nil {
		return fmt.Errorf("load: temporary directory: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path, addr, _, err := gatewayConfig(ctx, dir, "sip:127.0.0.1:9;transport=udp", Config{Log: slog.New(slog.DiscardHandler), Codec: pcmu})
	if err != nil {
		return err
	}
	child, err := startChild(ctx, append(slices.Clone(gateway), "serve", "--config", path), "http://"+addr, filepath.Join(dir, "gateway.log"))
	if err != nil {
		return err
	}
	defer child.stop()
	api := newREST("http://" + addr)
	defer api.client.CloseIdleConnections()
	// The first ones warm it up: statements are compiled, tables built.
	if err := emptySessions(ctx, api, idleSessions/10); err != nil {
		return err
	}
	if err := sleep(ctx, idleFor/4); err != nil {
		return err
	}
	before, err := processUsage(child.pid())
	if err != nil {
		return err
	}
	if err := emptySessions(ctx, api, idleSessions); err != nil {
		return err
	}
	if err := sleep(ctx, idleFor/4); err != nil {
		return err
	}
	made, err := processUsage(child.pid())
	if err != nil {
		return err
	}
	if err := sleep(ctx, idleFor); err != nil {
		return err
	}
	after, err := processUsage(child.pid())
	if err != nil {
		return err
	}
	return printIdle(out, before, made, after)
}

// What idle sessions may cost, all together in percent of a core and each in kB.
const (
	idleMostCPU    = 1
	idleMostMemory = 20
)

// printIdle says what they cost: in memory since before they were made, in CPU since they all were.
func printIdle(out io.Writer, before, made, after usage) error {
	share := 100 * (after.cpu - made.cpu).Seconds() / idleFor.Seconds()
	memory := float64(after.rss-before.rss) / 1024 / idleSessions
	_, err := fmt.Fprintf(out, "%d idle sessions of 2 participants: %.2f %% of a core (to reach: under %d%s), %.1f kB each (to reach: %d%s)\n", idleSessions,
		share, idleMostCPU, verdict(share < idleMostCPU), memory, idleMostMemory, verdict(memory <= idleMostMemory))
	return err
}

// emptySessions makes n sessions of two participants.
func emptySessions(ctx context.Context, api *rest, n int) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(setupAtOnce)
	for range n {
		group.Go(func() error {
			session, err := api.createSession(ctx, false)
			for range 2 {
				if err != nil {
					return err
				}
				var participant string
				if participant, _, err = api.createParticipant(ctx, "idle"); err == nil {
					err = api.join(ctx, session, participant)
				}
			}
			return err
		})
	}
	return group.Wait()
}
