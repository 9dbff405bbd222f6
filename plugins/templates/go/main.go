// Keeps one point for each row: `content` is embedded, `title` goes into the payload.
package main

import "github.com/pgstream-host/pgstream-host/plugins/sdk/go/pgstream"

func init() { pgstream.Handle(onEvent) }

func main() {} // never called: a handler waits for events

// onEvent is called with each committed change of a row. An error rejects that one change, with its message.
func onEvent(event *pgstream.Event, out *pgstream.Out) error {
	if event.Operation == pgstream.Truncate {
		out.Clear()
		return nil
	}
	id, err := event.ID()
	if err != nil {
		return err
	}
	if event.Operation == pgstream.Delete {
		out.Delete(id)
		return nil
	}

	payload := map[string]any{"title": event.Row.Value("title")}
	switch content := event.Row.Value("content"); {
	case content.IsNull():
		out.Delete(id)
	case content.IsUnchanged():
		// Not null: Postgres did not send a large text that the UPDATE left alone. Its vector stays.
		out.Patch(id, payload)
	default:
		text, err := event.Row.Text("content")
		if err != nil {
			return err
		}
		out.Upsert(id, pgstream.Text(text), payload) // the host embeds the text
	}
	return nil
}
