package sfu

import "tandem/errs"

// The codes of JSON-RPC 2.0 §5.1.
const (
	rpcParseError     = -32700
	rpcInvalidRequest = -32600
	rpcUnknownMethod  = -32601
	rpcInvalidParams  = -32602
	rpcInternal       = -32603
)

// rpcCode is the JSON-RPC code of an error; ours lie in the range that §5.1 leaves to servers.
func rpcCode(c errs.Code) int {
	switch c {
	case errs.Internal:
		return rpcInternal
	case errs.Invalid:
		return rpcInvalidParams
	case errs.Unauthenticated:
		return -32001
	case errs.Forbidden:
		return -32003
	case errs.NotFound:
		return -32004
	case errs.Conflict:
		return -32009
	case errs.TooMany:
		return -32029
	case errs.Unavailable:
		return -32053
	}
	return rpcInternal
}

func rpcErrorOf(err error) *rpcError {
	return &rpcError{Code: rpcCode(errs.CodeOf(err)), Message: errs.MessageOf(err)}
}
