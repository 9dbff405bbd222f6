// Package pgstream is for handlers of pgstream-host in Go.
//
// A handler is a function that is called with one event at a time and says what is to become of the vector store:
//
//	package main
//
//	import "github.com/pgstream-host/pgstream-host/plugins/sdk/go/pgstream"
//
//	func init() { pgstream.Handle(onEvent) }
//
//	func main() {} // never called: a handler waits for events
//
//	func onEvent(event *pgstream.Event, out *pgstream.Out) error {
//		if event.Operation == pgstream.Truncate {
//			out.Clear()
//			return nil
//		}
//		id, err := event.ID()
//		if err != nil {
//			return err
//		}
//		switch {
//		case event.Operation == pgstream.Delete:
//			out.Delete(id)
//		case event.Unchanged("content"):
//			out.Patch(id, map[string]any{"title": event.Row.Value("title")})
//		default:
//			content, err := event.Row.Text("content")
//			if err != nil {
//				return err
//			}
//			// The host embeds the text.
//			out.Upsert(id, pgstream.Text(content), map[string]any{"title": event.Row.Value("title")})
//		}
//		return nil
//	}
//
// An error, or a panic, rejects that one event, with its message, and leaves the rest of the batch alone; [Retry] and [Stop]
// are for what concerns the whole batch.
//
// A large column that an UPDATE left alone is unchanged: Postgres did not send it. That is not null. [Event.Unchanged] tells
// it, and [Out.Patch] updates the payload while the vectors stay.
//
// `pgstream-host build` makes the component. A handler's functions can be tested without it: see package pgstreamtest.
//
// # What is different from an ordinary program
//
// There are no files, no network, no arguments and no environment. What is printed to standard output or error becomes a
// line of the host's log. time.Now tells when the event began, to the millisecond, and never goes back; time.Sleep is over
// at once. A goroutine runs only while the handler does: wait for those that you start. What one answers to an event whose
// handler has returned stops the pipeline. A panic in one of them cannot be caught, and ends the call.
package pgstream
