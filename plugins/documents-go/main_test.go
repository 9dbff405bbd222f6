package main

import (
	"strings"
	"testing"

	"github.com/pgstream-host/pgstream-host/plugins/sdk/go/pgstream"
	"github.com/pgstream-host/pgstream-host/plugins/sdk/go/pgstreamtest"
)

func documents() *pgstreamtest.Table {
	return pgstreamtest.NewTable("public.documents").Key("id", "int8").Column("title", "text").
		Column("content", "text").Column("year", "int4")
}

type row = pgstreamtest.Row

func expect(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestARowBecomesAGroupOfChunksWithTheOtherColumns(t *testing.T) {
	insert := documents().Insert(row{"id": 7, "title": "Title", "content": strings.Repeat("word ", 30), "year": 2026})
	answer := pgstreamtest.New(onEvent).Config("chunk_chars", "100").Run(t, insert)
	points := answer.Commands[0].Points
	if len(points) != 2 {
		t.Fatal(answer)
	}
	chunk := strings.TrimSpace(strings.Repeat("word ", 12))
	expect(t, points[1].String(), `7#1 ""="Title\n\n`+chunk+`" {"id":7,"title":"Title","year":2026,"content":"`+chunk+`","chunk":1}`)
}

func TestAnUnchangedTextKeepsItsVectors(t *testing.T) {
	update := documents().Update(row{"id": 7, "title": "New", "content": pgstream.Unchanged(), "year": 2027})
	expect(t, pgstreamtest.New(onEvent).Run(t, update).String(), `patch-group 7 {"id":7,"title":"New","year":2027}`)
}

func TestATextThatIsGoneTakesItsPointsAlong(t *testing.T) {
	answer := pgstreamtest.New(onEvent).Run(t, documents().Update(row{"id": 7, "title": "Title"}),
		documents().Delete(row{"id": 8}), documents().Truncate(), documents().Insert(row{"id": 9, "content": " "}))
	expect(t, answer.String(), "delete-group 7\ndelete-group 8\nclear\nreplace 9")
}

func TestAChangedKeyWhoseTextWasNotSentIsRejectedWithTheFix(t *testing.T) {
	insert := documents().Insert(row{"id": 9, "content": pgstream.Unchanged()})
	expect(t, pgstreamtest.New(onEvent).Run(t, insert).String(),
		"reject 0 Postgres did not send `content`, which is too large to be logged with each change: "+
			"set `toast: reread` in the pipeline's source, then update the row again. "+
			"`ALTER TABLE public.documents REPLICA IDENTITY FULL` does as well, but logs each old row whole, and "+
			"Postgres refuses writes where a partition lacks it or a generated column is not published")
}

func TestWrongSettingsStopThePipeline(t *testing.T) {
	_, err := pgstreamtest.New(onEvent).Config("text_column", "body").Try(documents().Insert(row{"id": 1}))
	expect(t, err.Error(),
		"`public.documents` has no column `body`: set `config.text_column` to one of id, title, content, year")
	for _, nonsense := range []string{"many", "49", "", "-1"} {
		_, err = pgstreamtest.New(onEvent).Config("chunk_chars", nonsense).Try(documents().Truncate())
		expect(t, err.Error(), "config `chunk_chars` is `"+nonsense+"`, it must be a number from 50 on")
	}
}

func TestRowsOfSeveralTablesHaveGroupsOfTheirOwn(t *testing.T) {
	changes := []*pgstream.Event{
		documents().Insert(row{"id": 7, "content": "text"}),
		documents().Update(row{"id": 7, "title": "New", "content": pgstream.Unchanged()}),
		documents().Delete(row{"id": 7}),
	}
	answer := pgstreamtest.New(onEvent).SeveralTables("public.documents").Run(t, changes...)
	for _, command := range answer.Commands {
		expect(t, command.ID, "public.documents:7")
	}
	expect(t, answer.Commands[0].Points[0].ID, "public.documents:7#0")
}
