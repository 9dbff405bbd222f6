//go:build wasip1

package pgstream

import (
	"errors"
	"runtime/debug"
	"strings"
	"time"
	"unsafe"

	_ "github.com/pgstream-host/pgstream-host/plugins/sdk/go/internal/bindings" // the component's exports
	"github.com/pgstream-host/pgstream-host/plugins/sdk/go/internal/bindings/pgstream_host_config"
	"github.com/pgstream-host/pgstream-host/plugins/sdk/go/internal/bindings/pgstream_host_embeddings"
	"github.com/pgstream-host/pgstream-host/plugins/sdk/go/internal/bindings/pgstream_host_log"
	wit "github.com/pgstream-host/pgstream-host/plugins/sdk/go/internal/bindings/pgstream_host_types"
	witTypes "github.com/pgstream-host/pgstream-host/plugins/sdk/go/internal/bytecodealliance/types"
	export_wit_world "github.com/pgstream-host/pgstream-host/plugins/sdk/go/internal/exports"
	"github.com/pgstream-host/pgstream-host/plugins/sdk/go/internal/host"
)

// growth is by how many percent the heap may grow until it is collected. Go's own 100 would leave a handler half of its
// memory. A soft limit would leave it more, but near its end Go then collects for seconds on end, and the call runs out of
// time instead of memory, which tells nobody what to do.
const growth = 50

func init() {
	debug.SetGCPercent(growth)
	host.Current = component{}
	pause = func() { time.Sleep(time.Hour) } // over at once
	export_wit_world.Handle = handle
}

func handle(given wit.Batch) witTypes.Result[wit.Output, wit.Failure] {
	if registered == nil {
		return failed(&host.Failure{Message: "no handler is registered: call `pgstream.Handle` from `func init()`"})
	}
	host.Current.SafePoint()
	batch := lift(given)
	answer, err := batch.answer(registered(batch))
	var failure *batchError
	if errors.As(err, &failure) {
		return failed(&host.Failure{Retry: failure.retry, Message: err.Error()})
	}
	return witTypes.Ok[wit.Output, wit.Failure](lower(answer))
}

func failed(failure *host.Failure) witTypes.Result[wit.Output, wit.Failure] {
	if failure.Retry {
		return witTypes.Err[wit.Output](wit.MakeFailureRetry(valid(failure.Message)))
	}
	return witTypes.Err[wit.Output](wit.MakeFailureStop(valid(failure.Message)))
}

func lift(given wit.Batch) *Batch {
	tables := make([]Table, len(given.Relations))
	for index, relation := range given.Relations {
		columns := make([]Column, len(relation.Columns))
		for at, column := range relation.Columns {
			columns[at] = Column{Name: column.Name, TypeName: column.TypeName, Key: column.Key}
		}
		tables[index] = Table{Schema: relation.Schema, Name: relation.Table, Columns: columns}
	}
	events := make([]Event, len(given.Events))
	pointers := make([]*Event, len(given.Events))
	for index, event := range given.Events {
		table := &tables[event.Relation]
		events[index] = Event{
			Operation:    Operation(event.Operation),
			Schema:       table.Schema,
			Table:        table.Name,
			Row:          Row{table: table, values: liftRow(event.Row)},
			Position:     Position{LSN: LSN(event.Lsn), Ordinal: event.Ordinal},
			CommitTime:   time.UnixMicro(event.CommitTime).UTC(),
			CommitMicros: event.CommitTime,
			XID:          event.Xid,
			Snapshot:     event.Snapshot,
		}
		if event.OldRow.IsSome() {
			events[index].OldRow = &Row{table: table, values: liftRow(event.OldRow.Some())}
		}
		pointers[index] = &events[index]
	}
	return newBatch(pointers)
}

func liftRow(given []wit.Value) []Value {
	row := make([]Value, len(given))
	for index, value := range given {
		row[index] = liftValue(value)
	}
	return row
}

func liftValue(value wit.Value) Value {
	switch value.Tag() {
	case wit.Value_Unchanged:
		return Unchanged()
	case wit.Value_Boolean:
		return Bool(value.Boolean())
	case wit.Value_Int:
		return Int(value.Int())
	case wit.Value_Float:
		return Float(value.Float())
	case wit.Value_Numeric:
		return Numeric(value.Numeric())
	case wit.Value_Text:
		return String(value.Text())
	case wit.Value_Bytes:
		return Bytes(value.Bytes())
	case wit.Value_Timestamp:
		return Timestamp(value.Timestamp())
	case wit.Value_Date:
		return Date(value.Date())
	case wit.Value_Time:
		return TimeOfDay(value.Time())
	case wit.Value_Uuid:
		return UUID(value.Uuid())
	case wit.Value_Json:
		return JSON(value.Json())
	case wit.Value_Vector:
		return Vector(value.Vector())
	case wit.Value_Other:
		return Other(value.Other())
	}
	return Null()
}

func lower(answer Answer) wit.Output {
	output := wit.Output{
		Commands:   make([]wit.Command, len(answer.Commands)),
		Rejections: make([]wit.Rejection, len(answer.Rejections)),
	}
	for index, command := range answer.Commands {
		output.Commands[index] = wit.Command{Event: uint32(command.Event), Action: lowerAction(command)}
	}
	for index, rejection := range answer.Rejections {
		output.Rejections[index] = wit.Rejection{Event: uint32(rejection.Event), Reason: rejection.Reason}
	}
	return output
}

func lowerAction(command Command) wit.Action {
	patch := witTypes.Tuple2[string, string]{F0: command.ID, F1: command.Payload}
	switch command.Action {
	case ActionUpsert:
		return wit.MakeActionUpsert(lowerPoint(command.Points[0]))
	case ActionPatch:
		return wit.MakeActionPatch(patch)
	case ActionReplace:
		points := make([]wit.Point, len(command.Points))
		for index, point := range command.Points {
			points[index] = lowerPoint(point)
		}
		return wit.MakeActionReplace(witTypes.Tuple2[string, []wit.Point]{F0: command.ID, F1: points})
	case ActionPatchGroup:
		return wit.MakeActionPatchGroup(patch)
	case ActionDelete:
		return wit.MakeActionDelete(command.ID)
	case ActionDeleteGroup:
		return wit.MakeActionDeleteGroup(command.ID)
	}
	return wit.MakeActionClear()
}

func lowerPoint(point Stored) wit.Point {
	embeddings := make([]witTypes.Tuple2[string, wit.Embedding], len(point.Vectors))
	for index, vector := range point.Vectors {
		embeddings[index].F0 = vector.Name
		switch vector.kind {
		case dense:
			embeddings[index].F1 = wit.MakeEmbeddingDense(vector.numbers)
		case sparse:
			embeddings[index].F1 = wit.MakeEmbeddingSparse(
				wit.SparseVector{Indices: vector.indices, Values: vector.numbers})
		case text:
			embeddings[index].F1 = wit.MakeEmbeddingText(vector.text)
		}
	}
	return wit.Point{Id: point.ID, Embeddings: embeddings, Payload: point.Payload}
}

// component is the host of a component: pgstream-host.
type component struct{}

type setting struct {
	value string
	there bool
}

// settings that were asked for before.
var settings = map[string]setting{}

func (component) Config(key string) (string, bool) {
	known, ok := settings[key]
	if !ok {
		if value := pgstream_host_config.Get(valid(key)); value.IsSome() {
			known = setting{value: value.Some(), there: true}
		}
		settings[key] = known
	}
	return known.value, known.there
}

func (component) Asked(key string) (string, bool) {
	value := pgstream_host_config.Get(valid(key))
	if value.IsSome() {
		return value.Some(), true
	}
	return "", false
}

func (component) Embed(embedder string, texts []string) (int, []float32, *host.Failure) {
	sent := make([]string, len(texts))
	for index, text := range texts {
		sent[index] = valid(text)
	}
	answer := pgstream_host_embeddings.Embed(valid(embedder), sent)
	component{}.SafePoint()
	if answer.IsOk() {
		vectors := answer.Ok()
		return int(vectors.Dimension), vectors.Data, nil
	}
	failure := answer.Err()
	if failure.Tag() == wit.Failure_Retry {
		return 0, nil, &host.Failure{Retry: true, Message: failure.Retry()}
	}
	return 0, nil, &host.Failure{Message: failure.Stop()}
}

func (component) Log(level uint8, message string) { pgstream_host_log.Log(level, valid(message)) }

// valid is the text with U+FFFD in place of what is not UTF-8: a Go string may hold any bytes, and the host ends a
// call that hands it such a string.
func valid(text string) string { return strings.ToValidUTF8(text, "\ufffd") }

// SafePoint has the adapter read the real clock. It must never do so by itself, because it cannot know whether the host is
// passing an argument at the time, when calls out of a component are forbidden.
func (component) SafePoint() {
	var resolution uint64
	clockResGet(0, unsafe.Pointer(&resolution))
}

//go:wasmimport wasi_snapshot_preview1 clock_res_get
//go:noescape
func clockResGet(clock uint32, resolution unsafe.Pointer) uint32
