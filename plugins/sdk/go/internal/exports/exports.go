//go:build wasip1

// Package export_wit_world is what the generated bindings call: its name is theirs to choose.
package export_wit_world

import (
	"github.com/pgstream-host/pgstream-host/plugins/sdk/go/internal/bindings/pgstream_host_types"
	witTypes "github.com/pgstream-host/pgstream-host/plugins/sdk/go/internal/bytecodealliance/types"
)

// Handle is the world's `handle`; package pgstream sets it.
var Handle func(pgstream_host_types.Batch) witTypes.Result[pgstream_host_types.Output, pgstream_host_types.Failure]
