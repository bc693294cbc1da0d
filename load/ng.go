package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"
)

// ngClient speaks rtpengine's control protocol ng: bencoded dictionaries over UDP, each behind a cookie.
type ngClient struct {
	mu   sync.Mutex // one request at a time
	conn net.Conn
	next int
}

const (
	ngWait   = 500 * time.Millisecond // until a request is repeated; its cookie keeps it from being done twice
	ngRepeat = 20
)

func dialNG(ctx context.Context, addr string) (*ngClient, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "udp4", addr)
	if err != nil {
		return nil, fmt.Errorf("load: ng: %w", err)
	}
	return &ngClient{conn: conn}, nil
}

func (c *ngClient) close() { _ = c.conn.Close() }

// do sends a request and returns the answer, an error if it isn't result.
func (c *ngClient) do(ctx context.Context, request map[string]any, result string) (map[string]any, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next++
	cookie := "bench" + strconv.Itoa(c.next)
	packet := appendBencode([]byte(cookie+" "), request)
	buf := make([]byte, 1<<16)
	var failed error
	for range ngRepeat {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("load: ng: %w", ctx.Err())
		}
		_ = c.conn.SetDeadline(time.Now().Add(ngWait))
		if _, err := c.conn.Write(packet); err != nil {
			failed = err
			if err := sleep(ctx, ngWait/10); err != nil { // refused: it doesn't listen yet
				return nil, err
			}
			continue
		}
		for {
			n, err := c.conn.Read(buf)
			if err != nil {
				failed = err
				break
			}
			with, text, ok := bytes.Cut(buf[:n], []byte(" "))
			if !ok || string(with) != cookie {
				continue // an answer to an earlier one
			}
			value, rest, err := readBencode(text, 0)
			if err != nil || len(rest) > 0 {
				return nil, fmt.Errorf("load: ng: %q: %w", text, errors.Join(err, errBencode))
			}
			answer, ok := value.(map[string]any)
			if !ok || answer["result"] != result {
				return nil, fmt.Errorf("load: ng %v: answer %v", request["command"], value)
			}
			return answer, nil
		}
		_ = sleep(ctx, ngWait/20)
	}
	return nil, fmt.Errorf("load: ng %v: no answer: %w", request["command"], failed)
}

// appendBencode appends a string, int, []any or map[string]any.
func appendBencode(b []byte, value any) []byte {
	switch v := value.(type) {
	case string:
		b = append(strconv.AppendInt(b, int64(len(v)), 10), ':')
		return append(b, v...)
	case int:
		return append(strconv.AppendInt(append(b, 'i'), int64(v), 10), 'e')
	case []any:
		b = append(b, 'l')
		for _, each := range v {
			b = appendBencode(b, each)
		}
		return append(b, 'e')
	case map[string]any:
		b = append(b, 'd')
		keys := make([]string, 0, len(v))
		for key := range v {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		for _, key := range keys {
			b = appendBencode(appendBencode(b, key), v[key])
		}
		return append(b, 'e')
	}
	panic(fmt.Sprintf("load: bencode of %T", value))
}

var errBencode = errors.New("not bencoded")

const deepest = 20

// readBencode reads one value and returns what follows it.
func readBencode(b []byte, depth int) (value any, rest []byte, err error) {
	if len(b) == 0 || depth > deepest {
		return nil, nil, errBencode
	}
	switch b[0] {
	case 'i':
		end := bytes.IndexByte(b, 'e')
		if end < 0 {
			return nil, nil, errBencode
		}
		n, err := strconv.Atoi(string(b[1:end]))
		if err != nil {
			return nil, nil, errBencode
		}
		return n, b[end+1:], nil
	case 'l', 'd':
		var list []any
		kind := b[0]
		for b = b[1:]; len(b) > 0 && b[0] != 'e'; {
			if value, b, err = readBencode(b, depth+1); err != nil {
				return nil, nil, err
			}
			list = append(list, value)
		}
		if len(b) == 0 {
			return nil, nil, errBencode
		}
		if kind == 'l' {
			return list, b[1:], nil
		}
		all := make(map[string]any, len(list)/2)
		for i := 0; i+1 < len(list); i += 2 {
			key, ok := list[i].(string)
			if !ok {
				return nil, nil, errBencode
			}
			all[key] = list[i+1]
		}
		return all, b[1:], nil
	}
	digits, _, ok := bytes.Cut(b[:min(len(b), 10)], []byte(":"))
	length, err := strconv.Atoi(string(digits))
	from := len(digits) + 1
	if !ok || err != nil || length < 0 || from+length > len(b) {
		return nil, nil, errBencode
	}
	return string(b[from : from+length]), b[from+length:], nil
}
