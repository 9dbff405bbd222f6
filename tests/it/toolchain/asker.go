// Sends what the text of the column `what` says to where it says, through the SDK's HTTP.
package main

import (
	"strings"

	"github.com/pgstream-host/pgstream-host/plugins/sdk/go/pgstream"
	"github.com/pgstream-host/pgstream-host/plugins/sdk/go/pgstream/http"
)

func init() { pgstream.Handle(onEvent) }

func main() {}

func onEvent(event *pgstream.Event, out *pgstream.Out) error {
	what, err := event.Row.Text("what")
	if err != nil {
		return err
	}
	method, url, _ := strings.Cut(what, " ")
	request := http.Request{Method: method, URL: url}
	request.Header("x-mine", "yes")
	if method == "POST" {
		request.JSON(strings.Repeat("0123456789", 1000))
	}
	answer, err := request.Send()
	if err == nil {
		err = answer.Success()
	}
	if err != nil {
		return err
	}
	told, _ := answer.Header("x-harmless")
	payload := map[string]any{"status": answer.Status, "body": string(answer.Body), "told": told}
	out.Upsert("answer", nil, payload)
	return nil
}
