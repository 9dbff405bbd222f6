package pgstream

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// Payload is a JSON object whose keys keep their order. [Row.Payload] makes one of a row; the zero Payload is empty.
type Payload struct {
	names  []string
	values []any
}

// Set sets a key, in its old place if it is there already.
func (p *Payload) Set(name string, value any) {
	if at := p.index(name); at >= 0 {
		p.values[at] = value
		return
	}
	p.names = append(p.names, name)
	p.values = append(p.values, value)
}

// Remove takes a key away, if it is there.
func (p *Payload) Remove(name string) {
	if at := p.index(name); at >= 0 {
		p.names = append(p.names[:at], p.names[at+1:]...)
		p.values = append(p.values[:at], p.values[at+1:]...)
	}
}

// Get is the value of a key.
func (p *Payload) Get(name string) (any, bool) {
	if at := p.index(name); at >= 0 {
		return p.values[at], true
	}
	return nil, false
}

// Len is the number of keys.
func (p *Payload) Len() int { return len(p.names) }

// MarshalJSON writes the object.
func (p *Payload) MarshalJSON() ([]byte, error) { return p.appendJSON(nil) }

func (p *Payload) index(name string) int {
	for at, known := range p.names {
		if known == name {
			return at
		}
	}
	return -1
}

func (p *Payload) appendJSON(to []byte) (_ []byte, err error) {
	to = append(to, '{')
	for at, name := range p.names {
		if at > 0 {
			to = append(to, ',')
		}
		to = append(appendString(to, name), ':')
		if to, err = appendAny(to, p.values[at]); err != nil {
			return nil, err
		}
	}
	return append(to, '}'), nil
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
