package pgstream_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/pgstream-host/pgstream-host/plugins/sdk/go/pgstream"
	"github.com/pgstream-host/pgstream-host/plugins/sdk/go/pgstreamtest"
)

// breach is a case of `plugins/sdk/breaches.json`, whose head says what stands in it.
type breach struct {
	Name       string
	Raw        bool
	Answer     []map[string]said
	What, Do   string
	Commands   int
	Rejections int
}

// said is what an action is given.
type said struct {
	ID, Group content
	Vectors   [][2]json.RawMessage
	Payload   any
	Points    []said
	text      content
}

func (s *said) UnmarshalJSON(bytes []byte) error {
	type fields said
	if bytes[0] == '{' && json.Unmarshal(bytes, (*fields)(s)) != nil {
		return fmt.Errorf("%s", bytes)
	}
	return json.Unmarshal(bytes, &s.text)
}

// content is a text, or one that is repeated; empty if it is neither.
type content string

func (c *content) UnmarshalJSON(bytes []byte) error {
	var short string
	var long struct {
		Repeat string
		Times  int
	}
	if json.Unmarshal(bytes, &short) != nil && json.Unmarshal(bytes, &long) == nil {
		short = strings.Repeat(long.Repeat, long.Times)
	}
	*c = content(short)
	return nil
}

// numbers are floats, or their names.
type numbers []float32

func (n *numbers) UnmarshalJSON(bytes []byte) error {
	var all []any
	if err := json.Unmarshal(bytes, &all); err != nil {
		return err
	}
	for _, one := range all {
		// What does not fit becomes infinite.
		number, _ := strconv.ParseFloat(fmt.Sprint(one), 32)
		*n = append(*n, float32(number))
	}
	return nil
}

// vectors are those of a point; false if a map cannot hold them.
func (s said) vectors() (pgstream.Embeddings, bool) {
	named := pgstream.Named{}
	for _, pair := range s.Vectors {
		var name content
		var vector struct {
			Text   *string
			Dense  numbers
			Sparse *struct {
				Indices []uint32
				Values  numbers
			}
		}
		if json.Unmarshal(pair[0], &name) != nil || json.Unmarshal(pair[1], &vector) != nil {
			panic(string(pair[1]))
		}
		embedding := pgstream.Dense(vector.Dense)
		if vector.Text != nil {
			embedding = pgstream.Text(*vector.Text)
		} else if vector.Sparse != nil {
			embedding = pgstream.Sparse(vector.Sparse.Indices, vector.Sparse.Values)
		}
		named[string(name)] = embedding
	}
	return named, len(named) == len(s.Vectors)
}

func (s said) payload() any {
	if s.Payload == nil {
		return map[string]any{}
	}
	return s.Payload
}

func (s said) do(action string, out *pgstream.Out) {
	vectors, _ := s.vectors()
	switch action {
	case "upsert":
		out.Upsert(string(s.ID), vectors, s.payload())
	case "patch":
		out.Patch(string(s.ID), s.payload())
	case "replace":
		points := make([]pgstream.Point, len(s.Points))
		for index, point := range s.Points {
			vectors, _ := point.vectors()
			points[index] = pgstream.Point{ID: string(point.ID), Embeddings: vectors, Payload: point.payload()}
		}
		out.Replace(string(s.Group), points)
	case "patch_group":
		out.PatchGroup(string(s.Group), s.payload())
	case "delete":
		out.Delete(string(s.text))
	case "delete_group":
		out.DeleteGroup(string(s.text))
	case "clear":
		out.Clear()
	case "reject":
		out.Reject(string(s.text))
	default:
		panic(action)
	}
}

// answered is what the host would get of three events, the middle one of which is answered as the case says.
func (b breach) answered(t *testing.T) pgstreamtest.Answer {
	do := func(event *pgstream.Event, out *pgstream.Out) error {
		if id, _ := event.Row.Int("id"); id != 2 {
			out.Delete("fine")
			return nil
		}
		for _, step := range b.Answer {
			for action, with := range step {
				with.do(action, out)
			}
		}
		return nil
	}
	var events []*pgstream.Event
	for id := range 3 {
		events = append(events, things().Insert(row{"id": id + 1}))
	}
	return pgstreamtest.New(do).Run(t, events...)
}

func TestWhatTheHostWouldStopForRejectsTheOneEvent(t *testing.T) {
	text, err := os.ReadFile("../../breaches.json")
	if err != nil {
		t.Fatal(err)
	}
	var table struct{ Breaches, Allowed []breach }
	if err := json.Unmarshal(text, &table); err != nil {
		t.Fatal(err)
	}
	asked := 0
	for _, breach := range table.Breaches {
		if breach.Raw || breach.Name == "a vector twice in a point" { // a map has it once
			continue
		}
		asked++
		want := []string{"delete fine", "delete fine", "reject 1 " + breach.What + ": " + breach.Do}
		if got := breach.answered(t).String(); got != strings.Join(want, "\n") {
			t.Errorf("%s: %s", breach.Name, got)
		}
	}
	for _, allowed := range table.Allowed {
		answer := allowed.answered(t)
		if len(answer.Commands) != allowed.Commands+2 || len(answer.Rejections) != allowed.Rejections {
			t.Errorf("%s: %s", allowed.Name, answer)
		}
	}
	if asked < 25 || len(table.Allowed) < 10 {
		t.Errorf("%d breaches and %d that are none", asked, len(table.Allowed))
	}
}
