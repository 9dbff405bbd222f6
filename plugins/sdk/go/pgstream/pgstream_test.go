package pgstream_test

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pgstream-host/pgstream-host/plugins/sdk/go/pgstream"
	"github.com/pgstream-host/pgstream-host/plugins/sdk/go/pgstreamtest"
)

type row = pgstreamtest.Row

func things() *pgstreamtest.Table {
	return pgstreamtest.NewTable("things").Key("id", "int8").Column("what", "text")
}

func answerTo(t *testing.T, value any, do func(*pgstream.Event, *pgstream.Out) error) string {
	t.Helper()
	return pgstreamtest.New(do).Run(t, things().Insert(row{"id": 1, "what": value})).String()
}

func expect(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestEveryValueHasAJSONFormThatLosesNothing(t *testing.T) {
	for _, try := range []struct {
		value pgstream.Value
		want  string
	}{
		{pgstream.Null(), `null`},
		{pgstream.Unchanged(), `null`},
		{pgstream.Bool(true), `true`},
		{pgstream.Int(math.MaxInt64), `9223372036854775807`},
		{pgstream.Float(2), `2.0`},
		{pgstream.Float(1e300), `1e+300`},
		{pgstream.Float(math.NaN()), `"NaN"`},
		{pgstream.Float(math.Inf(-1)), `"-Infinity"`},
		{pgstream.Numeric("0.10"), `"0.10"`},
		{pgstream.String("<ä\"\\\n\x01\xff>"), `"<ä\"\\\n\u0001` + "\ufffd" + `>"`},
		{pgstream.Bytes([]byte{0, 255}), `"\\x00ff"`},
		{pgstream.JSON(`[1,{"a":null}]`), `[1,{"a":null}]`},
		{pgstream.JSON(`no json`), `"no json"`},
		{pgstream.Vector([]float32{0.5, -1}), `[0.5,-1.0]`},
		{pgstream.Other("(1,2)"), `"(1,2)"`},
		{pgstream.Timestamp(0), `"1970-01-01T00:00:00Z"`},
		{pgstream.Timestamp(-1), `"1969-12-31T23:59:59.999999Z"`},
		{pgstream.Timestamp(1_714_564_800_500_000), `"2024-05-01T12:00:00.5Z"`},
		{pgstream.Timestamp(math.MinInt64), `"-infinity"`},
		{pgstream.Date(2_932_896), `"9999-12-31"`},
		{pgstream.Date(2_932_897), `"+10000-01-01"`},
		{pgstream.Date(-719_528), `"0000-01-01"`},
		{pgstream.Date(-719_529), `"-0001-12-31"`},
		{pgstream.Date(math.MaxInt32), `"infinity"`},
		{pgstream.TimeOfDay(86_400_000_000), `"24:00:00"`},
	} {
		got, err := json.Marshal(map[string]any{"x": try.value})
		if err != nil {
			t.Fatal(err)
		}
		var one, other any
		if json.Unmarshal(got, &one) != nil || json.Unmarshal([]byte(`{"x":`+try.want+`}`), &other) != nil ||
			!reflect.DeepEqual(one, other) {
			t.Errorf("got %s, want %s", got, try.want)
		}
		exact, _ := try.value.MarshalJSON()
		expect(t, string(exact), try.want)
	}
}

func TestColumnsAreTyped(t *testing.T) {
	table := pgstreamtest.NewTable("shop.things").Key("id", "int8").Column("price", "numeric").
		Column("at", "timestamptz").Column("never", "timestamptz").Column("large", "text")
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	event := table.Update(row{"id": math.MaxInt64, "price": pgstream.Numeric("0.1"), "at": at,
		"never": pgstream.Timestamp(pgstream.InfiniteMicros), "large": pgstream.Unchanged()})
	if id, err := event.Row.Int("id"); err != nil || id != math.MaxInt64 {
		t.Error(id, err)
	}
	if price, err := event.Row.Rat("price"); err != nil || price.RatString() != "1/10" {
		t.Error(price, err)
	}
	if got, err := event.Row.Time("at"); err != nil || !got.Equal(at) {
		t.Error(got, err)
	}
	if !event.Unchanged("large") || event.Unchanged("id") || event.Unchanged("nothing") {
		t.Error("unchanged")
	}
	for want, err := range map[string]error{
		"column `never` of `shop.things` is a timestamp, not a finite point in time": second(event.Row.Time("never")),
		"column `large` of `shop.things` is unchanged (not sent, as the UPDATE left it alone), not text": second(
			event.Row.Text("large")),
		"`shop.things` has no column `no`, it has `id`, `price`, `at`, `never`, `large`": second(event.Row.Text("no")),
	} {
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestTheKeyIsTextOrAnArray(t *testing.T) {
	one := pgstreamtest.NewTable("t").Key("a", "text")
	two := pgstreamtest.NewTable("t").Key("a", "text").Column("x", "text").Key("b", "int8")
	none := pgstreamtest.NewTable("t").Column("a", "text")
	key, err := one.Insert(row{"a": "x\"y"}).Key()
	expect(t, key, `x"y`)
	key, err = two.Insert(row{"a": "x", "b": 7}).Key()
	expect(t, key, `["x",7]`)
	if _, err = none.Insert(row{"a": "x"}).Key(); err == nil {
		t.Fatal("no error")
	}
	expect(t, err.Error(), "`public.t` has no key: `ALTER TABLE public.t ADD PRIMARY KEY (…)`")
}

func TestAnErrorOrAPanicRejectsTheOneEvent(t *testing.T) {
	do := func(event *pgstream.Event, out *pgstream.Out) error {
		out.Delete("forgotten")
		switch what, _ := event.Row.Text("what"); what {
		case "error":
			return errors.New("refused\n\x00")
		case "panic":
			panic("boom")
		case "column":
			event.Row.Value("no")
		case "two":
			out.Patch("x", "no object")
			out.Delete("")
		}
		return nil
	}
	var events []*pgstream.Event
	for id, what := range []string{"fine", "error", "panic", "column", "two", "fine"} {
		events = append(events, things().Insert(row{"id": id, "what": what}))
	}
	got := strings.Split(pgstreamtest.New(do).Run(t, events...).String(), "\n")
	want := []string{
		"delete forgotten",
		"delete forgotten",
		"reject 1 refused  ",
		"reject 2 panic: boom (pgstream_test.go:",
		"reject 3 `public.things` has no column `no`, it has `id`, `what`",
		"reject 4 the payload is not a JSON object",
	}
	if len(got) != len(want) {
		t.Fatal(got)
	}
	for index := range want {
		if !strings.HasPrefix(got[index], want[index]) {
			t.Errorf("got %s, want %s", got[index], want[index])
		}
	}
}

func TestRetryAndStopConcernTheBatch(t *testing.T) {
	for _, wrong := range []error{pgstream.Retry(errors.New("busy")), pgstream.Stop(errors.New("busy"))} {
		do := func(*pgstream.Event, *pgstream.Out) error { return wrong }
		if _, err := pgstreamtest.New(do).Try(things().Insert(row{"id": 1})); err == nil || err.Error() != "busy" {
			t.Error(err)
		}
	}
}

func TestPayloadsKeepTheirOrderAndArePlain(t *testing.T) {
	got := answerTo(t, "<b>", func(event *pgstream.Event, out *pgstream.Out) error {
		payload := event.Row.Payload()
		payload.Set("n", []any{1, nil, map[string]any{"row": event.Row}})
		payload.Set("id", event.Row.Value("id"))
		payload.Remove("nothing")
		out.Upsert("a", pgstream.Named{"b": pgstream.Text("t"), "a": pgstream.Dense([]float32{1})}, payload)
		out.Replace("g", []pgstream.Point{{ID: "g#0", Payload: struct {
			Title any `json:"title"`
		}{"&"}}})
		return nil
	})
	expect(t, got, `upsert a "a"=[1] "b"="t" {"id":1,"what":"<b>","n":[1,null,{"row":{"id":1,"what":"<b>"}}]}`+"\n"+
		`replace g g#0 {"title":"&"}`)
}

func TestTextThatIsNotUTF8NeverReachesTheHost(t *testing.T) {
	half := "é"[:1]
	got := answerTo(t, nil, func(_ *pgstream.Event, out *pgstream.Out) error {
		out.Upsert("a", pgstream.Text("x"+half), map[string]any{})
		return nil
	})
	expect(t, got, "upsert a \"\"=\"x\ufffd\" {}")
	for want, id := range map[string]string{"the id is not UTF-8": half, "the name of a vector is not UTF-8": "a"} {
		got := answerTo(t, nil, func(_ *pgstream.Event, out *pgstream.Out) error {
			out.Upsert(id, pgstream.Named{strings.TrimSuffix("v"+half, id): pgstream.Text("x")}, map[string]any{})
			return nil
		})
		expect(t, got, "reject 0 "+want+": cut texts between characters, not between bytes")
	}
}

func TestBatchesAreHandledWhole(t *testing.T) {
	do := func(batch *pgstream.Batch) error {
		var texts []string
		for _, event := range batch.Events {
			text, _ := event.Row.Text("what")
			texts = append(texts, text)
		}
		rows, err := pgstream.Embed("small", texts)
		if err != nil {
			return err
		}
		for index, event := range batch.Events {
			if index == 1 {
				batch.Out(event).Reject("not this")
				continue
			}
			batch.Out(event).Upsert(texts[index], pgstream.Dense(rows[index]), map[string]any{})
		}
		return nil
	}
	events := []*pgstream.Event{things().Insert(row{"id": 1, "what": "a"}), things().Insert(row{"id": 2, "what": "bb"}),
		things().Insert(row{"id": 3, "what": "ccc"})}
	model := func(text string) []float32 { return []float32{float32(len(text)), 1} }
	got := pgstreamtest.NewBatch(do).Embedder("small", model).Run(t, events...).String()
	expect(t, got, "upsert a \"\"=[1 1] {}\nupsert ccc \"\"=[3 1] {}\nreject 1 not this")
	if _, err := pgstreamtest.NewBatch(do).Try(events...); err == nil || err.Error() != "no embedder `small`" {
		t.Error(err)
	}
}

func TestWhatIsLoggedIsHeard(t *testing.T) {
	do := func(*pgstream.Event, *pgstream.Out) error {
		pgstream.Warnf("%s %q", pgstream.ConfigOr("a", "-"), pgstream.ConfigOr("b", "-"))
		return nil
	}
	answer := pgstreamtest.New(do).Config("a", "x").Run(t, things().Truncate())
	if !reflect.DeepEqual(answer.Logged, []string{`warn: x "-"`}) {
		t.Error(answer.Logged)
	}
}

func TestAFailingBatchIsHalvedUntilTheEventIsFound(t *testing.T) {
	calls := 0
	do := func(batch *pgstream.Batch) error {
		calls++
		for _, event := range batch.Events {
			batch.Out(event).Delete(event.Row.Value("id").String())
			switch id, _ := event.Row.Int("id"); id {
			case 3:
				return errors.New("not three")
			case 6:
				panic("six")
			}
		}
		return nil
	}
	var events []*pgstream.Event
	for id := range 8 {
		events = append(events, things().Insert(row{"id": id}))
	}
	got := pgstreamtest.NewBatch(do).Run(t, events...).String()
	want := "delete 0\ndelete 1\ndelete 2\ndelete 4\ndelete 5\ndelete 7\nreject 3 not three\nreject 6 panic: six ("
	if !strings.HasPrefix(got, want) {
		t.Error(got)
	}
	if calls > 13 {
		t.Error(calls)
	}
}

func TestPiecesEndBetweenWordsAndOverlap(t *testing.T) {
	for _, try := range []struct {
		text  string
		chars int
		want  string
	}{
		{"  a b\n", 50, "a b"},
		{" \n\t\u3000", 50, ""},
		{"one two three four five six seven eight nine ten", 20, "one two three four|five six seven eight|nine ten"},
		{"one two three four five six seven eight nine ten", 40, "one two three four five six seven eight|eight nine ten"},
		{strings.Repeat("字", 100), 40, strings.Repeat("字", 40) + "|" + strings.Repeat("字", 40) + "|" + strings.Repeat("字", 30)},
	} {
		expect(t, strings.Join(pgstream.Chunks(try.text, try.chars), "|"), try.want)
	}
}
