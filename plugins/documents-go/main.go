// Keeps the chunks of documents searchable: each row becomes a group of points, one for each piece of its text.
//
// | `config` | default | meaning |
// |---|---|---|
// | `text_column` | `content` | the text that is cut into chunks |
// | `title_column` | `title` | put before each chunk when it is embedded, if the table has it; empty for none |
// | `chunk_chars` | `1000` | characters of a chunk, at least 50 |
//
// The payload of a point is the row, with the chunk in place of the text, and the chunk's number as `chunk`. The group is named
// after the row's key; where the pipeline has several tables, after table and key, so that rows with equal keys do not meet.
//
// An UPDATE that leaves a large text alone only patches the payloads, and so pays for no embedding. If it changes the
// title, the vectors follow with the text's next change; with `toast: reread` in the source they follow at once.
package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/pgstream-host/pgstream-host/plugins/sdk/go/pgstream"
)

func init() { pgstream.Handle(onEvent) }

func main() {} // never called: a handler waits for events

// onEvent makes of an event what the sink has to do.
func onEvent(event *pgstream.Event, out *pgstream.Out) error {
	settings, err := readSettings()
	if err != nil {
		return err
	}
	if event.Operation == pgstream.Truncate {
		out.Clear()
		return nil
	}
	id, err := event.ID()
	if err != nil {
		return err
	}
	if event.Operation == pgstream.Delete {
		out.DeleteGroup(id)
		return nil
	}
	return keep(event, id, settings, out)
}

func keep(event *pgstream.Event, id string, settings settings, out *pgstream.Out) error {
	column := settings.textColumn
	value, ok := event.Row.Get(column)
	if !ok {
		return settings.noTextColumn(event)
	}
	payload := event.Row.Payload()
	payload.Remove(column)

	switch {
	case value.IsNull():
		out.DeleteGroup(id)
		return nil
	case value.IsUnchanged() && event.Operation == pgstream.Insert:
		// The host makes an insert of an UPDATE that changes the key: the old group is gone, and so is the text.
		return notSent(event, column)
	case value.IsUnchanged():
		out.PatchGroup(id, payload)
		return nil
	}
	title, err := settings.title(event)
	if err != nil {
		return err
	}
	text, err := event.Row.Text(column)
	if err != nil {
		return err
	}
	var points []pgstream.Point
	for number, chunk := range pgstream.Chunks(text, settings.chunkChars) {
		embedded := chunk
		if title != "" {
			embedded = title + "\n\n" + chunk
		}
		own := payload.Clone()
		own.Set(column, chunk)
		own.Set("chunk", number)
		points = append(points, pgstream.Point{
			ID:         id + "#" + strconv.Itoa(number),
			Embeddings: pgstream.Text(embedded),
			Payload:    own,
		})
	}
	out.Replace(id, points)
	return nil
}

type settings struct {
	textColumn, titleColumn string
	chunkChars              int
}

func readSettings() (settings, error) {
	chunkChars := 1000
	if text, ok := pgstream.Config("chunk_chars"); ok {
		chars, err := strconv.ParseUint(strings.TrimPrefix(text, "+"), 10, 32)
		if err != nil || chars < 50 {
			return settings{}, pgstream.Stop(
				fmt.Errorf("config `chunk_chars` is `%s`, it must be a number from 50 on", text))
		}
		chunkChars = int(chars)
	}
	return settings{
		textColumn:  pgstream.ConfigOr("text_column", "content"),
		titleColumn: pgstream.ConfigOr("title_column", "title"),
		chunkChars:  chunkChars,
	}, nil
}

func (s settings) title(event *pgstream.Event) (string, error) {
	value, _ := event.Row.Get(s.titleColumn)
	switch {
	case value.IsNull(): // as is a column that is not there
		return "", nil
	case value.IsUnchanged():
		return "", notSent(event, s.titleColumn)
	}
	return event.Row.Text(s.titleColumn)
}

func (s settings) noTextColumn(event *pgstream.Event) error {
	var names []string
	for _, column := range event.Columns() {
		names = append(names, column.Name)
	}
	return pgstream.Stop(fmt.Errorf("`%s.%s` has no column `%s`: set `config.text_column` to one of %s",
		event.Schema, event.Table, s.textColumn, strings.Join(names, ", ")))
}

func notSent(event *pgstream.Event, column string) error {
	return fmt.Errorf("Postgres did not send `%s`, which is too large to be logged with each change: set "+
		"`toast: reread` in the pipeline's source, then update the row again. `ALTER TABLE %s.%s REPLICA IDENTITY FULL` "+
		"does as well, but logs each old row whole, and Postgres refuses writes where a partition lacks it or a "+
		"generated column is not published", column, event.Schema, event.Table)
}
