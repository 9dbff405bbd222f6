// Package pgstreamtest tests a handler without WebAssembly: made-up events in, commands out.
//
//	func TestADeleteIsFollowed(t *testing.T) {
//		documents := pgstreamtest.NewTable("public.documents").Key("id", "int8").Column("content", "text")
//		answer := pgstreamtest.New(onEvent).Run(t, documents.Delete(pgstreamtest.Row{"id": 7}))
//		if got := answer.String(); got != `delete 7` {
//			t.Error(got)
//		}
//	}
package pgstreamtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgstream-host/pgstream-host/plugins/sdk/go/internal/host"
	"github.com/pgstream-host/pgstream-host/plugins/sdk/go/pgstream"
)

// Table is a table to make events of.
type Table struct{ table pgstream.Table }

// NewTable is a table without columns. Its name is `public.documents`, or `documents` in the schema public.
func NewTable(name string) *Table {
	schema, table, found := strings.Cut(name, ".")
	if !found {
		schema, table = "public", name
	}
	return &Table{table: pgstream.Table{Schema: schema, Name: table}}
}

// Key adds a column of the key. The type is Postgres' name of it.
func (t *Table) Key(name, typeName string) *Table { return t.with(name, typeName, true) }

// Column adds a column.
func (t *Table) Column(name, typeName string) *Table { return t.with(name, typeName, false) }

func (t *Table) with(name, typeName string, key bool) *Table {
	t.table.Columns = append(t.table.Columns, pgstream.Column{Name: name, TypeName: typeName, Key: key})
	return t
}

// Row is the values of a row; columns that are not named are null. Values are Go's own (nil, bool, integers, floats,
// strings, []byte, []float32, time.Time, json.RawMessage) or a pgstream.Value, such as pgstream.Unchanged().
type Row map[string]any

// Insert is a new row.
func (t *Table) Insert(row Row) *pgstream.Event {
	return pgstream.NewEvent(&t.table, pgstream.Insert, t.values(row))
}

// Update is a changed row.
func (t *Table) Update(row Row) *pgstream.Event {
	return pgstream.NewEvent(&t.table, pgstream.Update, t.values(row))
}

// UpdateFrom is a changed row with what it was before, as replica identity FULL gives it.
func (t *Table) UpdateFrom(old, row Row) *pgstream.Event { return t.Update(row).Was(t.values(old)) }

// Delete is a row that is gone; by default only its key is known.
func (t *Table) Delete(row Row) *pgstream.Event {
	return pgstream.NewEvent(&t.table, pgstream.Delete, t.values(row))
}

// Truncate is the table being emptied.
func (t *Table) Truncate() *pgstream.Event {
	return pgstream.NewEvent(&t.table, pgstream.Truncate, nil)
}

func (t *Table) values(row Row) []pgstream.Value {
	values := make([]pgstream.Value, len(t.table.Columns))
	named := 0
	for index, column := range t.table.Columns {
		if value, ok := row[column.Name]; ok {
			values[index] = valueOf(value)
			named++
		}
	}
	if named != len(row) {
		panic(fmt.Sprintf("a row of %v has a column that the table does not have: %v", &t.table, row))
	}
	return values
}

func valueOf(value any) pgstream.Value {
	switch value := value.(type) {
	case nil:
		return pgstream.Null()
	case pgstream.Value:
		return value
	case bool:
		return pgstream.Bool(value)
	case int:
		return pgstream.Int(int64(value))
	case int16:
		return pgstream.Int(int64(value))
	case int32:
		return pgstream.Int(int64(value))
	case int64:
		return pgstream.Int(value)
	case uint32:
		return pgstream.Int(int64(value))
	case float32:
		return pgstream.Float(float64(value))
	case float64:
		return pgstream.Float(value)
	case string:
		return pgstream.String(value)
	case []byte:
		return pgstream.Bytes(value)
	case []float32:
		return pgstream.Vector(value)
	case time.Time:
		return pgstream.Timestamp(value.UnixMicro())
	case json.RawMessage:
		return pgstream.JSON(string(value))
	}
	panic(fmt.Sprintf("a %T is no value of a column", value))
}

// Harness is a handler with a made-up host around it.
type Harness struct {
	run    func([]*pgstream.Event) (pgstream.Answer, error)
	config map[string]string
	models map[string]func(text string) []float32
	logged []string
}

// New is a host without configuration and embedders around a function as pgstream.Handle takes it.
func New(onEvent func(event *pgstream.Event, out *pgstream.Out) error) *Harness {
	return harness(func(events []*pgstream.Event) (pgstream.Answer, error) { return pgstream.Run(onEvent, events) })
}

// NewBatch is a host around a function as pgstream.HandleBatch takes it.
func NewBatch(onBatch func(batch *pgstream.Batch) error) *Harness {
	return harness(func(events []*pgstream.Event) (pgstream.Answer, error) { return pgstream.RunBatch(onBatch, events) })
}

func harness(run func([]*pgstream.Event) (pgstream.Answer, error)) *Harness {
	return &Harness{run: run, config: map[string]string{}, models: map[string]func(string) []float32{}}
}

// Config sets a value that the handler reads with pgstream.Config.
func (h *Harness) Config(key, value string) *Harness {
	h.config[key] = value
	return h
}

// SeveralTables has ids of the rows of a table, such as `public.documents`, begin with its name, as the host does where a
// pipeline has several tables.
func (h *Harness) SeveralTables(table string) *Harness {
	return h.Config("pgstream:id/"+table, table)
}

// Embedder adds an embedder that the handler reaches with pgstream.Embed.
func (h *Harness) Embedder(name string, model func(text string) []float32) *Harness {
	h.models[name] = model
	return h
}

// Answer is what became of a batch.
type Answer struct {
	pgstream.Answer
	// Logged are the handler's lines: `warn: something`.
	Logged []string
}

// Run hands the events to the handler as one batch, and ends the test if the handler refuses it as a whole.
func (h *Harness) Run(t testing.TB, events ...*pgstream.Event) Answer {
	t.Helper()
	answer, err := h.Try(events...)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// Try is Run for a batch that may be refused as a whole.
func (h *Harness) Try(events ...*pgstream.Event) (Answer, error) {
	for ordinal, event := range events {
		event.Position.Ordinal = uint32(ordinal)
	}
	before := host.Current
	host.Current = world{h}
	defer func() { host.Current = before }()
	h.logged = nil
	answer, err := h.run(events)
	if err != nil {
		err = errors.New(err.Error())
	}
	return Answer{Answer: answer, Logged: h.logged}, err
}

// String has a line for each command and each rejection, with the texts and payloads in it.
func (a Answer) String() string {
	var lines []string
	for _, command := range a.Commands {
		line := strings.TrimSpace(fmt.Sprintf("%s %s %s", command.Action, command.ID, command.Payload))
		if command.Action == pgstream.ActionUpsert {
			line = "upsert"
		}
		for _, point := range command.Points {
			line += fmt.Sprintf(" %s", point)
		}
		lines = append(lines, line)
	}
	for _, rejection := range a.Rejections {
		lines = append(lines, fmt.Sprintf("reject %d %s", rejection.Event, rejection.Reason))
	}
	return strings.Join(lines, "\n")
}

// world is the host's side of a Harness.
type world struct{ *Harness }

func (w world) Config(key string) (string, bool) {
	value, ok := w.config[key]
	return value, ok
}

func (w world) Asked(key string) (string, bool) { return w.Config(key) }

func (w world) Embed(embedder string, texts []string) (dimension int, data []float32, failure *host.Failure) {
	model, ok := w.models[embedder]
	if !ok {
		return 0, nil, &host.Failure{Message: "no embedder `" + embedder + "`"}
	}
	for _, text := range texts {
		row := model(text)
		dimension, data = len(row), append(data, row...)
	}
	return dimension, data, nil
}

func (w world) Log(level uint8, message string) {
	levels := [...]string{"trace", "debug", "info", "warn", "error"}
	w.logged = append(w.logged, levels[level]+": "+message)
}

func (world) SafePoint() {}
