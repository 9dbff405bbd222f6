package pgstream

import (
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/pgstream-host/pgstream-host/plugins/sdk/go/internal/host"
)

// Operation is what happened to a row.
type Operation uint8

const (
	// Insert is a new row.
	Insert Operation = iota
	// Update is a changed row.
	Update
	// Delete is a row that is gone.
	Delete
	// Truncate is a table that was emptied.
	Truncate
)

// String is the operation's name in lower case.
func (o Operation) String() string {
	if names := [...]string{"insert", "update", "delete", "truncate"}; int(o) < len(names) {
		return names[o]
	}
	return "unknown"
}

// Column is a column of a table.
type Column struct {
	Name string
	// TypeName is Postgres' name: `int8`, `text`, `vector`.
	TypeName string
	// Key says whether the column identifies the row.
	Key bool
}

// Table is a table as it was when its rows changed.
type Table struct {
	Schema, Name string
	Columns      []Column

	byName map[string]int
	// What ids begin with, once it was asked for.
	prefix string
	asked  bool
}

// LSN is a place in Postgres' write-ahead log.
type LSN uint64

// String is the place as Postgres writes it: `0/16B3748`.
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l)) }

// Position is where an event stands in the stream of all of them.
type Position struct {
	// LSN of the transaction's commit: unique per transaction and rising.
	LSN LSN
	// Ordinal is the index of the event within its transaction.
	Ordinal uint32
}

// Event is one committed change of a row.
type Event struct {
	Operation Operation
	// Schema is the table's schema, such as `public`, and Table its name.
	Schema, Table string
	// Row is the new row; for a delete what the replica identity gives of the old one, which by default is the key. Empty for
	// a truncate.
	Row Row
	// OldRow is the old row as far as the replica identity gives it, or nil.
	OldRow   *Row
	Position Position
	// CommitTime is when the transaction committed, in UTC; CommitMicros the same in µs since 1970-01-01.
	CommitTime   time.Time
	CommitMicros int64
	XID          uint32
	// Snapshot says whether the row was read by a backfill rather than streamed.
	Snapshot bool

	index int
}

// Columns are the table's columns, in its order.
func (e *Event) Columns() []Column { return e.Row.table.Columns }

// Unchanged says whether the UPDATE left this large column alone, so that Postgres did not send it. Not the same as null.
// False if there is no such column.
func (e *Event) Unchanged(column string) bool {
	value, _ := e.Row.Get(column)
	return value.IsUnchanged()
}

// ID is the id of the row's point, or group of points: its [Event.Key]. Where the pipeline has several tables, the table's
// name stands before it, `public.documents:7`, so that rows of two tables with equal keys have points of their own. The
// host tells for each table which it is, and never changes it: ids that are stored stay what they are.
func (e *Event) ID() (string, error) {
	key, err := e.Key()
	if err != nil {
		return "", err
	}
	table := e.Row.table
	if !table.asked {
		schema := strings.NewReplacer("~", "~0", ".", "~1").Replace(table.Schema)
		table.prefix, _ = host.Current.Asked("pgstream:id/" + schema + "." + table.Name)
		table.asked = true
	}
	if table.prefix != "" {
		return table.prefix + ":" + key, nil
	}
	return key, nil
}

// Key is the row's key as text: the primary key's value, or a JSON array of them if it has several columns. An error if the
// table has none. Rows of several tables may have the same: see [Event.ID].
func (e *Event) Key() (string, error) {
	var first Value
	var all []byte
	keys := 0
	for index, value := range e.Row.values {
		if !e.Row.table.Columns[index].Key {
			continue
		}
		switch keys {
		case 0:
			first = value
		case 1:
			all = first.appendJSON(append(all, '['))
			fallthrough
		default:
			all = value.appendJSON(append(all, ','))
		}
		keys++
	}
	switch keys {
	case 0:
		return "", reject("`%s.%s` has no key: `ALTER TABLE %s.%s ADD PRIMARY KEY (…)`", e.Schema, e.Table, e.Schema, e.Table)
	case 1:
		return first.key(), nil
	}
	return string(append(all, ']')), nil
}

// Row is the values of a row, by the names of their columns.
type Row struct {
	table  *Table
	values []Value
}

// Len is the number of values: of columns, or none.
func (r Row) Len() int { return len(r.values) }

// At is the column at an index, in the table's order, and its value.
func (r Row) At(index int) (Column, Value) { return r.table.Columns[index], r.values[index] }

// Get is the value of a column, if there is such a column.
func (r Row) Get(column string) (Value, bool) {
	if r.table == nil {
		return Value{}, false
	}
	if at, ok := r.table.find(column); ok && at < len(r.values) {
		return r.values[at], true
	}
	return Value{}, false
}

// Value is the value of a column. If there is no such column it panics, which rejects the event with the names of those
// that there are; [Row.Get] does not.
func (r Row) Value(column string) Value {
	value, err := r.value(column)
	if err != nil {
		panic(err)
	}
	return value
}

// Text is the text of a column: of text and its kin, and of every type that travels as text. An error if it is null,
// unchanged or something else.
func (r Row) Text(column string) (string, error) {
	return typed(r, column, Value.Text, "text")
}

// Int is the integer in a column. An error if it is null, unchanged or something else.
func (r Row) Int(column string) (int64, error) {
	return typed(r, column, Value.Int, "an integer")
}

// Float is the number in a column: integers and numerics too, as near as a float gets. An error if it is null, unchanged or
// something else.
func (r Row) Float(column string) (float64, error) {
	return typed(r, column, Value.Float, "a number")
}

// Rat is the exact number in a column, an integer or a numeric. An error if it is null, unchanged or something else.
func (r Row) Rat(column string) (*big.Rat, error) {
	return typed(r, column, Value.Rat, "an exact number")
}

// Bool is the truth value in a column. An error if it is null, unchanged or something else.
func (r Row) Bool(column string) (bool, error) {
	return typed(r, column, Value.Bool, "a truth value")
}

// Time is the timestamp or the date in a column, in UTC. An error if it is null, unchanged, infinite or something else; see
// [Value.Micros] for what is infinite.
func (r Row) Time(column string) (time.Time, error) {
	return typed(r, column, Value.Time, "a finite point in time")
}

// Bytes are the bytes in a column. An error if it is null, unchanged or something else.
func (r Row) Bytes(column string) ([]byte, error) {
	return typed(r, column, Value.Bytes, "bytes")
}

// Vector is the vector in a column. An error if it is null, unchanged or something else.
func (r Row) Vector(column string) ([]float32, error) {
	return typed(r, column, Value.Vector, "a vector")
}

// Payload is the row as a payload: every column but the unchanged ones, as [Value.MarshalJSON] writes them.
func (r Row) Payload() *Payload {
	payload := &Payload{fields: make([]field, 0, len(r.values)+2)}
	for index, value := range r.values {
		if !value.IsUnchanged() {
			payload.fields = append(payload.fields, field{name: r.table.Columns[index].Name, column: value})
		}
	}
	return payload
}

// MarshalJSON writes the row as its [Row.Payload].
func (r Row) MarshalJSON() ([]byte, error) { return r.Payload().MarshalJSON() }

func typed[T any](r Row, column string, as func(Value) (T, bool), wanted string) (T, error) {
	value, err := r.value(column)
	if err != nil {
		var none T
		return none, err
	}
	typed, ok := as(value)
	if !ok {
		return typed, reject("column `%s` of %s is %s, not %s", column, r.table, value.kind, wanted)
	}
	return typed, nil
}

func (r Row) value(column string) (Value, error) {
	if value, ok := r.Get(column); ok {
		return value, nil
	}
	if r.table == nil {
		return Value{}, reject("there is no row, and so no column `%s`", column)
	}
	names := make([]string, len(r.table.Columns))
	for index, known := range r.table.Columns {
		names[index] = "`" + known.Name + "`"
	}
	return Value{}, reject("%s has no column `%s`, it has %s", r.table, column, strings.Join(names, ", "))
}

// String is the table as errors name it.
func (t *Table) String() string { return "`" + t.Schema + "." + t.Name + "`" }

// few columns are found faster one by one.
const few = 8

func (t *Table) find(column string) (int, bool) {
	if len(t.Columns) > few {
		if t.byName == nil {
			t.byName = make(map[string]int, len(t.Columns))
			for index, known := range t.Columns {
				t.byName[known.Name] = index
			}
		}
		at, ok := t.byName[column]
		return at, ok
	}
	for index := range t.Columns {
		if t.Columns[index].Name == column {
			return index, true
		}
	}
	return 0, false
}

// NewEvent makes an event up; package pgstreamtest does so more comfortably. The row has as many values as the table has
// columns, or none.
func NewEvent(table *Table, operation Operation, row []Value) *Event {
	if len(row) != len(table.Columns) && len(row) != 0 {
		panic(fmt.Sprintf("a row of %d values for %d columns", len(row), len(table.Columns)))
	}
	return &Event{
		Operation:  operation,
		Schema:     table.Schema,
		Table:      table.Name,
		Row:        Row{table: table, values: row},
		Position:   Position{LSN: 0x1000},
		CommitTime: time.UnixMicro(0).UTC(),
		XID:        1,
	}
}

// Was adds the old row to an event that was made up, as replica identity FULL gives it.
func (e *Event) Was(old []Value) *Event {
	e.OldRow = &Row{table: e.Row.table, values: old}
	return e
}
