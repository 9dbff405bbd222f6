package main

import (
	"testing"

	"github.com/pgstream-host/pgstream-host/plugins/sdk/go/pgstream"
	"github.com/pgstream-host/pgstream-host/plugins/sdk/go/pgstreamtest"
)

func TestAnUnchangedContentKeepsItsVector(t *testing.T) {
	documents := pgstreamtest.NewTable("public.documents").
		Key("id", "int8").
		Column("title", "text").
		Column("content", "text")
	update := documents.Update(pgstreamtest.Row{"id": 7, "title": "New", "content": pgstream.Unchanged()})

	answer := pgstreamtest.New(onEvent).Run(t, update)

	if got, want := answer.String(), `patch 7 {"title":"New"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
