package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/hraban/opus"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
	"github.com/zaf/g711"
)

// FloorConfig is how the floor is run. It codes as our gateway does by default.
type FloorConfig struct {
	HTTP       string // address of /readyz
	FirstPort  int    // call k has this + 2k for the phone, one more for the other end
	Calls      int
	Complexity int
}

// floorSecret is the SRTP key of both directions: there is nothing to hide.
func floorSecret() []byte {
	secret := make([]byte, srtpKeyLen+srtpSaltLen)
	for i := range secret {
		secret[i] = byte(i)
	}
	return secret
}

const (
	floorFirstPort = 30000 // below what the kernel gives to sockets without a port
	floorBitrate   = 32000
)

// ServeFloor is the least code that does the work of bridged calls: two sockets each, SRTP at one, libopus between, and
// nothing else that a gateway has: no signalling, no buffer, no concealment, no RTCP, no DTLS. It ends with ctx.
func ServeFloor(ctx context.Context, cfg FloorConfig) error {
	done := make(chan error, 2*cfg.Calls+1)
	for k := range cfg.Calls {
		if err := floorCall(ctx, cfg.FirstPort+2*k, cfg.Complexity, done); err != nil {
			return err
		}
	}
	ready := &http.Server{Addr: cfg.HTTP, ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	go func() { done <- ready.ListenAndServe() }()
	defer func() { _ = ready.Close() }()
	select {
	case <-ctx.Done():
		return nil
	case err := <-done:
		return fmt.Errorf("load: floor: %w", err)
	}
}

// floorCall opens a call's sockets and starts its two goroutines, which end when the sockets do: with ctx.
func floorCall(ctx context.Context, port, complexity int, done chan<- error) error {
	var conns [2]*net.UDPConn
	for i := range conns {
		var err error
		if conns[i], err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port + i}); err != nil {
			return fmt.Errorf("load: floor: %w", err)
		}
		context.AfterFunc(ctx, func() { _ = conns[i].Close() })
	}
	in, err := newSRTP(floorSecret())
	if err != nil {
		return err
	}
	out, err := newSRTP(floorSecret())
	if err != nil {
		return err
	}
	enc, err := floorEncoder(complexity)
	if err != nil {
		return err
	}
	dec, err := opus.NewDecoder(phoneRate, 1)
	if err != nil {
		return fmt.Errorf("load: floor: %w", err)
	}
	var phone, far atomic.Pointer[netip.AddrPort] // learnt from the first packet
	go func() { done <- floorUp(conns[0], conns[1], enc, out, &phone, &far) }()
	go func() { done <- floorDown(conns[1], conns[0], dec, in, &far, &phone) }()
	return nil
}

// floorEncoder encodes as our gateway does by default while nothing is lost.
func floorEncoder(complexity int) (*opus.Encoder, error) {
	enc, err := opus.NewEncoder(phoneRate, 1, opus.AppRestrictedLowdelay)
	if err != nil {
		return nil, fmt.Errorf("load: floor: %w", err)
	}
	if err := errors.Join(enc.SetComplexity(complexity), enc.SetBitrate(floorBitrate)); err != nil {
		return nil, fmt.Errorf("load: floor: %w", err)
	}
	return enc, nil
}

// floorUp carries the phone's sound to the far end.
func floorUp(from, to *net.UDPConn, enc *opus.Encoder, out *srtp.Context, source, target *atomic.Pointer[netip.AddrPort]) error {
	var buf, plain, sealed [1500]byte
	var pcm [frameSamples]int16
	header := rtp.Header{Version: 2, PayloadType: opusPayloadType, SSRC: rand.Uint32()}
	for {
		n, addr, err := from.ReadFromUDPAddrPort(buf[:])
		if err != nil {
			return err
		}
		var packet rtp.Packet
		if packet.Unmarshal(buf[:n]) != nil || len(packet.Payload) != frameSamples {
			continue
		}
		if source.Load() == nil {
			source.Store(&addr)
		}
		peer := target.Load()
		if peer == nil {
			continue
		}
		for i, b := range packet.Payload {
			pcm[i] = g711.DecodeUlawFrame(b)
		}
		header.SequenceNumber, header.Timestamp = packet.SequenceNumber, packet.Timestamp*(opusStep/frameSamples)
		head, err := header.MarshalTo(plain[:])
		if err != nil {
			return err
		}
		size, err := enc.Encode(pcm[:], plain[head:])
		if err != nil {
			return err
		}
		packed, err := out.EncryptRTP(sealed[:0], plain[:head+size], nil)
		if err != nil {
			return err
		}
		_, _ = to.WriteToUDPAddrPort(packed, *peer)
	}
}

// floorDown carries the far end's sound to the phone.
func floorDown(from, to *net.UDPConn, dec *opus.Decoder, in *srtp.Context, source, target *atomic.Pointer[netip.AddrPort]) error {
	var buf, plain [1500]byte
	var pcm [frameSamples]int16
	header := rtp.Header{Version: 2, SSRC: rand.Uint32()}
	for {
		n, addr, err := from.ReadFromUDPAddrPort(buf[:])
		if err != nil {
			return err
		}
		opened, err := in.DecryptRTP(plain[:0], buf[:n], nil)
		var packet rtp.Packet
		if err != nil || packet.Unmarshal(opened) != nil {
			continue
		}
		if source.Load() == nil {
			source.Store(&addr)
		}
		peer := target.Load()
		if peer == nil {
			continue
		}
		if samples, err := dec.Decode(packet.Payload, pcm[:]); err != nil || samples != frameSamples {
			continue
		}
		header.SequenceNumber, header.Timestamp = packet.SequenceNumber, packet.Timestamp/(opusStep/frameSamples)
		head, err := header.MarshalTo(buf[:])
		if err != nil {
			return err
		}
		for i, v := range pcm {
			buf[head+i] = g711.EncodeUlawFrame(v)
		}
		_, _ = to.WriteToUDPAddrPort(buf[:head+frameSamples], *peer)
	}
}

// floor is the floor seen from its caller.
type floor struct{ first int }

// startFloor starts it as b.child: program is how this program is called.
func (b *bench) startFloor(ctx context.Context, dir string, program []string) error {
	port, err := freePort(ctx)
	if err != nil {
		return err
	}
	addr := "127.0.0.1:" + strconv.Itoa(port)
	complexity := b.cfg.Opus.Complexity
	if complexity == 0 {
		complexity = 1 // the gateway's for narrowband
	}
	f := &floor{first: floorFirstPort + 2*rand.IntN(500)}
	argv := append(pinned(b.cfg.Pinned), program...)
	argv = append(argv, "bench", "floor", "--http="+addr, "--first-port="+strconv.Itoa(f.first),
		"--calls="+strconv.Itoa(b.cfg.Calls), "--complexity="+strconv.Itoa(complexity))
	b.plain = f
	b.child, err = startChild(ctx, argv, "http://"+addr, filepath.Join(dir, "floor.log"))
	return err
}

func (f *floor) call(_ context.Context, number int, p *phone, far *srtpEnd) (*srtp.Context, error) {
	local := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	toPhone := netip.AddrPortFrom(local, uint16(f.first+2*number))
	far.remote = netip.AddrPortFrom(local, uint16(f.first+2*number+1))
	p.remote.Store(&toPhone)
	out, err := newSRTP(floorSecret())
	if err != nil {
		return nil, err
	}
	far.out = out
	return newSRTP(floorSecret())
}
