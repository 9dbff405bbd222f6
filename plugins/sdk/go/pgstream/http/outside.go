//go:build !wasip1

package http

import (
	"errors"

	"github.com/pgstream-host/pgstream-host/plugins/sdk/go/pgstream"
)

// send cannot: outside of a component there is no host.
func send(*Request, bool, string, string) (*Response, error) {
	return nil, pgstream.Stop(errors.New("there is no host to send requests: set `http.Transport` in a test"))
}
