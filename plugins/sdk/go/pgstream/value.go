package pgstream

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"time"
)

// Kind is what a [Value] is.
type Kind uint8

const (
	// KindNull is SQL's null.
	KindNull Kind = iota
	// KindUnchanged is a large column that the UPDATE left alone, so that Postgres did not send it. Not null.
	KindUnchanged
	// KindBool is boolean.
	KindBool
	// KindInt is int2, int4, int8 and oid.
	KindInt
	// KindFloat is float4 and float8.
	KindFloat
	// KindNumeric is numeric, as exact decimal text.
	KindNumeric
	// KindText is text and its kin.
	KindText
	// KindBytes is bytea.
	KindBytes
	// KindTimestamp is timestamp and timestamptz.
	KindTimestamp
	// KindDate is date.
	KindDate
	// KindTime is time.
	KindTime
	// KindUUID is uuid.
	KindUUID
	// KindJSON is json, jsonb, and every array as a JSON array.
	KindJSON
	// KindVector is pgvector's vector and halfvec.
	KindVector
	// KindOther is every other type, in Postgres' own text.
	KindOther
)

// String says in words what a value of the kind is.
func (k Kind) String() string {
	words := [...]string{
		"null", "unchanged (not sent, as the UPDATE left it alone)", "a truth value", "an integer", "a float", "a numeric",
		"text", "bytes", "a timestamp", "a date", "a time", "a uuid", "JSON", "a vector", "of a type that travels as text",
	}
	if int(k) < len(words) {
		return words[k]
	}
	return "nothing"
}

// Value is the value of a column. The zero Value is null.
type Value struct {
	kind    Kind
	bits    int64      // of a boolean, an integer, a float, or a time's count
	text    string     // or bytes
	numbers *[]float32 // a pointer, because few values have any
}

// Infinity of dates and times: what [Value.Micros] and [Value.Days] give for `infinity` and `-infinity`.
const (
	InfiniteMicros         = math.MaxInt64
	NegativeInfiniteMicros = math.MinInt64
	InfiniteDays           = math.MaxInt32
	NegativeInfiniteDays   = math.MinInt32
)

const (
	microsPerSecond = 1_000_000
	microsPerDay    = 86_400 * microsPerSecond
)

// Null is SQL's null.
func Null() Value { return Value{} }

// Unchanged is the value that Postgres did not send.
func Unchanged() Value { return Value{kind: KindUnchanged} }

// Bool is a truth value.
func Bool(value bool) Value {
	if value {
		return Value{kind: KindBool, bits: 1}
	}
	return Value{kind: KindBool}
}

// Int is an integer.
func Int(value int64) Value { return Value{kind: KindInt, bits: value} }

// Float is a float.
func Float(value float64) Value { return Value{kind: KindFloat, bits: int64(math.Float64bits(value))} }

// Numeric is an exact decimal number: `1.50`, `NaN`, `Infinity`.
func Numeric(text string) Value { return Value{kind: KindNumeric, text: text} }

// String is a text. (A [Text] is what the host is to embed.)
func String(text string) Value { return Value{kind: KindText, text: text} }

// Bytes is a bytea.
func Bytes(bytes []byte) Value { return Value{kind: KindBytes, text: string(bytes)} }

// Timestamp is a point in time, in µs since 1970-01-01 UTC.
func Timestamp(micros int64) Value { return Value{kind: KindTimestamp, bits: micros} }

// Date is a day, counted from 1970-01-01.
func Date(days int32) Value { return Value{kind: KindDate, bits: int64(days)} }

// TimeOfDay is a time, in µs since midnight.
func TimeOfDay(micros int64) Value { return Value{kind: KindTime, bits: micros} }

// UUID is a uuid, with hyphens and in lower case.
func UUID(text string) Value { return Value{kind: KindUUID, text: text} }

// JSON is a json document.
func JSON(text string) Value { return Value{kind: KindJSON, text: text} }

// Vector is a vector of pgvector's.
func Vector(numbers []float32) Value { return Value{kind: KindVector, numbers: &numbers} }

// Other is the text of a type that has no kind of its own.
func Other(text string) Value { return Value{kind: KindOther, text: text} }

// Kind is what the value is.
func (v Value) Kind() Kind { return v.kind }

// IsNull says whether the value is null. An unchanged one is not.
func (v Value) IsNull() bool { return v.kind == KindNull }

// IsUnchanged says whether the value was left alone and not sent.
func (v Value) IsUnchanged() bool { return v.kind == KindUnchanged }

// Text is the text, if the value is or travels as text: text, numeric, uuid, json and every other type.
func (v Value) Text() (string, bool) {
	switch v.kind {
	case KindText, KindNumeric, KindUUID, KindJSON, KindOther:
		return v.text, true
	}
	return "", false
}

// Int is the integer, if the value is one.
func (v Value) Int() (int64, bool) {
	if v.kind != KindInt {
		return 0, false
	}
	return v.bits, true
}

// Float is the number, if the value is one; integers and numerics as near as a float gets.
func (v Value) Float() (float64, bool) {
	switch v.kind {
	case KindFloat:
		return math.Float64frombits(uint64(v.bits)), true
	case KindInt:
		return float64(v.bits), true
	case KindNumeric:
		number, err := strconv.ParseFloat(v.text, 64)
		// What is too large for a float is as near as it gets: infinity.
		return number, err == nil || math.IsInf(number, 0)
	}
	return 0, false
}

// Rat is the exact number, if the value is an integer or a numeric that is finite.
func (v Value) Rat() (*big.Rat, bool) {
	switch v.kind {
	case KindInt:
		return new(big.Rat).SetInt64(v.bits), true
	case KindNumeric:
		return new(big.Rat).SetString(v.text)
	}
	return nil, false
}

// Bool is the truth value, if the value is one.
func (v Value) Bool() (value, ok bool) { return v.bits != 0 && v.kind == KindBool, v.kind == KindBool }

// Bytes are a copy of the bytes of a bytea.
func (v Value) Bytes() ([]byte, bool) {
	if v.kind != KindBytes {
		return nil, false
	}
	return []byte(v.text), true
}

// Vector are the numbers of a vector.
func (v Value) Vector() ([]float32, bool) {
	if v.kind != KindVector {
		return nil, false
	}
	return *v.numbers, true
}

// Time is a timestamp or a date, in UTC. The infinite ones, which are no point in time, are not: see [Value.Micros] and
// [Value.Days].
func (v Value) Time() (time.Time, bool) {
	switch {
	case v.kind == KindTimestamp && v.bits != InfiniteMicros && v.bits != NegativeInfiniteMicros:
		return time.UnixMicro(v.bits).UTC(), true
	case v.kind == KindDate && v.bits != InfiniteDays && v.bits != NegativeInfiniteDays:
		return time.Unix(v.bits*86_400, 0).UTC(), true
	}
	return time.Time{}, false
}

// Micros is the count in which the value travels: of a timestamp since 1970-01-01 UTC, of a time since midnight. `infinity`
// is [InfiniteMicros], `-infinity` [NegativeInfiniteMicros].
func (v Value) Micros() (int64, bool) {
	return v.bits, v.kind == KindTimestamp || v.kind == KindTime
}

// Days counts a date from 1970-01-01. `infinity` is [InfiniteDays], `-infinity` [NegativeInfiniteDays].
func (v Value) Days() (int32, bool) { return int32(v.bits), v.kind == KindDate }

// String is the value as a person reads it.
func (v Value) String() string {
	switch v.kind {
	case KindNull:
		return "null"
	case KindUnchanged:
		return "unchanged"
	}
	return v.key()
}

// key is the value as the id of a point: its JSON, of a string what is in it.
func (v Value) key() string {
	if text, ok := v.string(); ok {
		return text
	}
	return string(v.appendJSON(nil))
}

// string is what stands in the JSON string that the value becomes, if it becomes one.
func (v Value) string() (string, bool) {
	switch v.kind {
	case KindText, KindNumeric, KindUUID, KindOther:
		return v.text, true
	case KindBytes:
		return fmt.Sprintf("\\x%x", v.text), true
	case KindTimestamp:
		return formatTimestamp(v.bits), true
	case KindDate:
		return formatDate(v.bits), true
	case KindTime:
		return formatTime(v.bits), true
	case KindFloat:
		number := math.Float64frombits(uint64(v.bits))
		switch {
		case math.IsNaN(number):
			return "NaN", true
		case math.IsInf(number, 1):
			return "Infinity", true
		case math.IsInf(number, -1):
			return "-Infinity", true
		}
	case KindJSON:
		// What is no JSON after all is text.
		var text string
		if len(v.text) > 0 && v.text[0] == '"' && json.Unmarshal([]byte(v.text), &text) == nil {
			return text, true
		}
		return v.text, !json.Valid([]byte(v.text))
	}
	return "", false
}

// MarshalJSON writes the value so that nothing is lost: integers and floats as numbers; numeric as text; times as RFC 3339;
// bytes as Postgres' `\x…`; vectors as arrays; infinities and not-a-number as Postgres writes them. Unchanged is null here:
// leave it out before.
func (v Value) MarshalJSON() ([]byte, error) { return v.appendJSON(nil), nil }

func (v Value) appendJSON(to []byte) []byte {
	switch v.kind {
	case KindNull, KindUnchanged:
		return append(to, "null"...)
	case KindBool:
		return strconv.AppendBool(to, v.bits != 0)
	case KindInt:
		return strconv.AppendInt(to, v.bits, 10)
	case KindVector:
		to = append(to, '[')
		for index, number := range *v.numbers {
			if index > 0 {
				to = append(to, ',')
			}
			to = appendFloat(to, float64(number))
		}
		return append(to, ']')
	case KindText:
		return appendString(to, v.text)
	}
	if text, ok := v.string(); ok {
		return appendString(to, text)
	}
	if v.kind == KindJSON {
		return append(to, v.text...)
	}
	return appendFloat(to, math.Float64frombits(uint64(v.bits)))
}

// appendFloat writes a number that is known to be a float even where it is whole.
func appendFloat(to []byte, number float64) []byte {
	if math.IsNaN(number) || math.IsInf(number, 0) {
		return append(to, "null"...)
	}
	start := len(to)
	to = strconv.AppendFloat(to, number, 'g', -1, 64)
	for _, char := range to[start:] {
		if char == '.' || char == 'e' {
			return to
		}
	}
	return append(to, ".0"...)
}

func formatTimestamp(micros int64) string {
	switch micros {
	case InfiniteMicros:
		return "infinity"
	case NegativeInfiniteMicros:
		return "-infinity"
	}
	days, rest := micros/microsPerDay, micros%microsPerDay
	if rest < 0 {
		days, rest = days-1, rest+microsPerDay
	}
	return formatDay(days) + "T" + formatTime(rest) + "Z"
}

func formatDate(days int64) string {
	switch days {
	case InfiniteDays:
		return "infinity"
	case NegativeInfiniteDays:
		return "-infinity"
	}
	return formatDay(days)
}

// formatDay writes years beyond 9999 with a plus, and those before year 0 with a minus, as ISO 8601 has it.
func formatDay(days int64) string {
	year, month, day := time.Unix(days*86_400, 0).UTC().Date()
	if year < 0 || year > 9999 {
		return fmt.Sprintf("%+05d-%02d-%02d", year, month, day)
	}
	return fmt.Sprintf("%04d-%02d-%02d", year, month, day)
}

// formatTime writes as many digits of a second as are not zero.
func formatTime(micros int64) string {
	seconds, rest := micros/microsPerSecond, micros%microsPerSecond
	if rest < 0 {
		seconds, rest = seconds-1, rest+microsPerSecond
	}
	text := fmt.Sprintf("%02d:%02d:%02d", seconds/3600, seconds/60%60, seconds%60)
	if rest == 0 {
		return text
	}
	text = fmt.Sprintf("%s.%06d", text, rest)
	for text[len(text)-1] == '0' {
		text = text[:len(text)-1]
	}
	return text
}
