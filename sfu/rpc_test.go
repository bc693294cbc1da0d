package sfu

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/errs"
)

func TestRequests(t *testing.T) {
	cases := map[string]struct {
		in     string
		code   int    // 0: accepted
		id     string // what the answer has; "": nothing is answered
		method string
	}{
		"call":               {`{"jsonrpc":"2.0","id":1,"method":"ping","params":{}}`, 0, "1", "ping"},
		"absent params":      {`{"jsonrpc":"2.0","id":"x","method":"ping"}`, 0, `"x"`, "ping"},
		"notification":       {`{"jsonrpc":"2.0","method":"leave"}`, 0, "", "leave"},
		"null id":            {`{"jsonrpc":"2.0","id":null,"method":"ping"}`, 0, "null", "ping"},
		"not JSON":           {`{"jsonrpc"`, rpcParseError, "null", ""},
		"empty":              {``, rpcParseError, "null", ""},
		"batch":              {`[{"jsonrpc":"2.0","id":1,"method":"ping"}]`, rpcInvalidRequest, "null", ""},
		"a number":           {`7`, rpcInvalidRequest, "null", ""},
		"no method":          {`{"jsonrpc":"2.0","id":1}`, rpcInvalidRequest, "1", ""},
		"method of no kind":  {`{"jsonrpc":"2.0","id":1,"method":1}`, rpcInvalidRequest, "1", ""},
		"another version":    {`{"jsonrpc":"1.0","id":1,"method":"ping"}`, rpcInvalidRequest, "1", ""},
		"no version":         {`{"id":1,"method":"ping"}`, rpcInvalidRequest, "1", ""},
		"an object for id":   {`{"jsonrpc":"2.0","id":{},"method":"ping"}`, rpcInvalidRequest, "null", ""},
		"no method, no id":   {`{"jsonrpc":"2.0"}`, rpcInvalidRequest, "null", ""},
		"true for id":        {`{"jsonrpc":"2.0","id":true,"method":"ping"}`, rpcInvalidRequest, "null", ""},
		"spaces around":      {"  {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n", 0, "1", "ping"},
		"a negative id":      {`{"jsonrpc":"2.0","id":-1,"method":"ping"}`, 0, "-1", "ping"},
		"unknown is allowed": {`{"jsonrpc":"2.0","id":1,"method":"ping","extra":1}`, 0, "1", "ping"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r, err := parseRequest([]byte(c.in))
			require.Equal(t, c.id, string(r.id))
			if c.code == 0 {
				require.NoError(t, err)
				require.Equal(t, c.method, r.method)
				return
			}
			var wrong *rpcError
			require.ErrorAs(t, err, &wrong)
			require.Equal(t, c.code, wrong.Code)
			require.NotEmpty(t, wrong.Message)
		})
	}
	_, err := parseRequest([]byte(`{"jsonrpc":"2.0","id":1,"result":{}}`))
	require.ErrorIs(t, err, errIgnored)
}

func TestParamsNameTheField(t *testing.T) {
	var p offerParams
	require.NoError(t, decodeParams(nil, &p))
	require.NoError(t, decodeParams(json.RawMessage("null"), &p))
	require.NoError(t, decodeParams(json.RawMessage(`{"mediaMetadata":{"mediaStreams":{"s":{}},"dataChannels":{"x":{"streamId":null}}}}`), &p))
	for in, says := range map[string]string{
		`[]`:                                   "params",
		`{"sdpOffer":1}`:                       "sdpOffer",
		`{"mediaMetadata":{"mediaStreams":1}}`: "mediaMetadata.mediaStreams",
	} {
		err := decodeParams(json.RawMessage(in), &p)
		require.Equal(t, errs.Invalid, errs.CodeOf(err))
		require.Contains(t, errs.MessageOf(err), says)
	}
}

// The client refuses a message that has both a result and an error, or neither.
func TestAnswersHaveOneOfBoth(t *testing.T) {
	ok, err := encodeResult(json.RawMessage("1"), emptyResult{})
	require.NoError(t, err)
	require.JSONEq(t, `{"jsonrpc":"2.0","id":1,"result":{}}`, string(ok))
	failed, err := encodeError(nil, &rpcError{1, "m"})
	require.NoError(t, err)
	require.JSONEq(t, `{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"m"}}`, string(failed))
	note, err := encodeNotification("sdpOffer", offerNotification{StreamMetadata: map[string]streamMetadata{}})
	require.NoError(t, err)
	require.JSONEq(t, `{"jsonrpc":"2.0","method":"sdpOffer","params":{"sdpOffer":"","sdpRevision":0,"endpointId":"","streamMetadata":{}}}`, string(note))
	_, err = encode(func() {})
	require.Error(t, err)
}

func TestEveryCodeHasItsNumber(t *testing.T) {
	seen := make(map[int]errs.Code)
	for _, c := range errs.Codes() {
		n := rpcCode(c)
		require.NotContains(t, seen, n)
		seen[n] = c
		e := rpcErrorOf(errs.Wrap(errors.New("secret"), c, "shown"))
		require.Equal(t, n, e.Code)
		require.NotContains(t, e.Message, "secret")
	}
	require.Equal(t, rpcInvalidParams, rpcCode(errs.Invalid))
	require.Equal(t, rpcInternal, rpcCode(errs.Code(99)))
}

func FuzzRPC(f *testing.F) {
	for _, s := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"ping","params":{}}`, `[]`, `{"id":null}`, ``, `{"jsonrpc":"2.0","method":"leave"}`,
		`{"jsonrpc":"2.0","id":1,"method":"offerSdp","params":{"sdpOffer":"v=0","mediaMetadata":{"mediaStreams":{"a":{"alias":"b"}}}}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRequest(data)
		if err == nil {
			var p offerParams
			_ = decodeParams(r.params, &p)
			if p.SDPOffer != "" {
				_, _ = readDescription(offerField, p.SDPOffer)
			}
		}
		if wrong, ok := errors.AsType[*rpcError](err); ok {
			answer, err := encodeError(r.id, wrong)
			require.NoError(t, err)
			require.True(t, json.Valid(answer))
		}
	})
}
