package pgstream

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// Payload is a JSON object whose keys keep their order. [Row.Payload] makes one of a row; the zero Payload is empty.
type Payload struct{ fields []field }

type field struct {
	name   string
	column Value
	other  any // instead of a column's value, if set says so
	set    bool
}

// Set sets a key, in its old place if it is there already.
func (p *Payload) Set(name string, value any) {
	field := field{name: name}
	if column, ok := value.(Value); ok {
		field.column = column
	} else {
		field.other, field.set = value, true
	}
	if at := p.index(name); at >= 0 {
		p.fields[at] = field
		return
	}
	p.fields = append(p.fields, field)
}

// Remove takes a key away, if it is there.
func (p *Payload) Remove(name string) {
	if at := p.index(name); at >= 0 {
		p.fields = append(p.fields[:at], p.fields[at+1:]...)
	}
}

// Get is the value of a key: a [Value], or what was set.
func (p *Payload) Get(name string) (any, bool) {
	at := p.index(name)
	switch {
	case at < 0:
		return nil, false
	case p.fields[at].set:
		return p.fields[at].other, true
	}
	return p.fields[at].column, true
}

// Len is the number of keys.
func (p *Payload) Len() int { return len(p.fields) }

// Clone is a copy, for another point.
func (p *Payload) Clone() *Payload {
	return &Payload{fields: append(make([]field, 0, len(p.fields)+2), p.fields...)}
}

// MarshalJSON writes the object.
func (p *Payload) MarshalJSON() ([]byte, error) { return p.appendJSON(nil) }

func (p *Payload) index(name string) int {
	for at := range p.fields {
		if p.fields[at].name == name {
			return at
		}
	}
	return -1
}

func (p *Payload) appendJSON(to []byte) (_ []byte, err error) {
	if to == nil {
		to = make([]byte, 0, p.length())
	}
	to = append(to, '{')
	for at := range p.fields {
		field := &p.fields[at]
		if at > 0 {
			to = append(to, ',')
		}
		to = append(appendString(to, field.name), ':')
		if !field.set {
			to = field.column.appendJSON(to)
		} else if to, err = appendAny(to, field.other); err != nil {
			return nil, err
		}
	}
	return append(to, '}'), nil
}

// length is about the bytes of the object, so that its text is allocated but once.
func (p *Payload) length() int {
	length := 2
	for at := range p.fields {
		field := &p.fields[at]
		length += len(field.name) + len(field.column.text) + 16
		if text, ok := field.other.(string); ok {
			length += len(text)
		}
	}
	return length
}

// appendAny writes a value as encoding/json does, but without escapes that only HTML needs.
func appendAny(to []byte, value any) ([]byte, error) {
	switch value := value.(type) {
	case nil:
		return append(to, "null"...), nil
	case Value:
		return value.appendJSON(to), nil
	case *Payload:
		if value != nil {
			return value.appendJSON(to)
		}
	case string:
		return appendString(to, value), nil
	case int:
		return strconv.AppendInt(to, int64(value), 10), nil
	case int64:
		return strconv.AppendInt(to, value, 10), nil
	case bool:
		return strconv.AppendBool(to, value), nil
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return append(to, bytes.TrimSuffix(text.Bytes(), []byte("\n"))...), nil
}

func appendString(to []byte, text string) []byte {
	const hex = "0123456789abcdef"
	to = append(to, '"')
	done := 0
	for at := 0; at < len(text); {
		char := text[at]
		if char >= utf8.RuneSelf {
			symbol, size := utf8.DecodeRuneInString(text[at:])
			if symbol == utf8.RuneError && size == 1 {
				to = append(append(to, text[done:at]...), "\ufffd"...)
				done = at + 1
			}
			at += size
			continue
		}
		if char >= ' ' && char != '"' && char != '\\' {
			at++
			continue
		}
		to = append(to, text[done:at]...)
		switch char {
		case '"', '\\':
			to = append(to, '\\', char)
		case '\n':
			to = append(to, '\\', 'n')
		case '\r':
			to = append(to, '\\', 'r')
		case '\t':
			to = append(to, '\\', 't')
		default:
			to = append(to, '\\', 'u', '0', '0', hex[char>>4], hex[char&15])
		}
		at++
		done = at
	}
	return append(append(to, text[done:]...), '"')
}
