package http_test

import (
	"testing"

	"github.com/pgstream-host/pgstream-host/plugins/sdk/go/pgstream"
	"github.com/pgstream-host/pgstream-host/plugins/sdk/go/pgstream/http"
	"github.com/pgstream-host/pgstream-host/plugins/sdk/go/pgstreamtest"
)

func ask(event *pgstream.Event, out *pgstream.Out) error {
	url, err := event.Row.Text("what")
	if err != nil {
		return err
	}
	answer, err := http.Post(url).Header("x-a", "b").JSON([]int{1}).Send()
	if err == nil {
		err = answer.Success()
	}
	if err != nil {
		return err
	}
	var told struct{ ID string }
	if err := answer.JSON(&told); err != nil {
		return err
	}
	out.Delete(told.ID)
	return nil
}

func TestAnswersAreMadeUpInTests(t *testing.T) {
	before := http.Transport
	defer func() { http.Transport = before }()
	http.Transport = func(request *http.Request, https bool, host, path string) (*http.Response, error) {
		if request.Method != "POST" || string(request.Body) != "[1]" || host != "a.example:8443" || !https {
			t.Error(request, host)
		}
		status := map[string]int{"/b?c": 200, "/?c": 404, "/": 503}[path]
		return &http.Response{Status: status, Body: []byte(`{"id":"7"}`)}, nil
	}
	none := "what was asked for is not a URL: write `https://host/path`, without a login"
	things := pgstreamtest.NewTable("things").Key("id", "int8").Column("what", "text")
	for url, want := range map[string]string{
		"https://a.example:8443/b?c#d": "delete 7",
		"https://a.example:8443?c":     "reject 0 a server answered with status 404",
		"https://a.example:8443":       "a server answered with status 503",
		"ftp://a.example":              none,
		"https:///secret":              none,
		"https://me:secret@a.example/": none,
	} {
		answer, err := pgstreamtest.New(ask).Try(things.Insert(pgstreamtest.Row{"id": 1, "what": url}))
		got := answer.String()
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", url, got, want)
		}
	}
}
