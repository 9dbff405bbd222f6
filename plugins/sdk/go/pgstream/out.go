package pgstream

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// idBytes are the bytes of an id or a group that the host takes.
const idBytes = 1024

// vectorNameBytes are the bytes of a vector's name that the host takes.
const vectorNameBytes = 63

// Out takes a handler's answers to one event, in the order in which they are to be applied. What the host
// would stop the pipeline for, such as an empty id, rejects the event instead, whatever the handler returns;
// `plugins/sdk/breaches.json` lists all of it.
type Out struct {
	event    int
	commands []Command
	err      error
	// The handler has returned.
	sealed bool
}

// Upsert writes a point whole: what was stored under this id is gone.
//
// Its vectors are a [Text] that the host embeds, [Dense] or [Sparse] numbers, several of them as [Named], or nil for none.
// The payload is whatever encoding/json makes an object of: a map, a struct, a [Payload].
func (o *Out) Upsert(id string, vectors Embeddings, payload any) {
	if point, ok := o.point(Point{ID: id, Embeddings: vectors, Payload: payload}); ok {
		o.push(Command{Action: ActionUpsert, ID: point.ID, Points: []Stored{point}})
	}
}

// Patch overwrites these keys of a point's payload. Its vectors and its other keys stay.
func (o *Out) Patch(id string, payload any) { o.patch(ActionPatch, "id", id, payload) }

// Replace makes these the only points of a group, such as the chunks of one document: those that were there and are not
// among them go.
func (o *Out) Replace(group string, points []Point) {
	stored := make([]Stored, 0, len(points))
	seen := make(map[string]struct{}, len(points))
	for at, point := range points {
		point, ok := o.point(point)
		if !ok {
			return
		}
		stored = append(stored, point)
		if seen[point.ID] = struct{}{}; len(seen) <= at {
			o.fail(reject("point %d has the id of an earlier one: give each point of the group its own id", at))
			return
		}
	}
	if o.name("group", group) {
		o.push(Command{Action: ActionReplace, ID: group, Points: stored})
	}
}

// PatchGroup overwrites these keys of the payload of every point of a group. Vectors and other keys stay.
func (o *Out) PatchGroup(group string, payload any) {
	o.patch(ActionPatchGroup, "group", group, payload)
}

// Delete removes a point.
func (o *Out) Delete(id string) {
	if o.name("id", id) {
		o.push(Command{Action: ActionDelete, ID: id})
	}
}

// DeleteGroup removes every point of a group.
func (o *Out) DeleteGroup(group string) {
	if o.name("group", group) {
		o.push(Command{Action: ActionDeleteGroup, ID: group})
	}
}

// Clear removes every point of the sink's collection or table.
func (o *Out) Clear() { o.push(Command{Action: ActionClear}) }

// Reject refuses the event: whatever was answered to it is forgotten, and it goes to the transform's `.rejected` output.
func (o *Out) Reject(reason string) { o.fail(reject("%s", reason)) }

func (o *Out) patch(action Action, kind, id string, payload any) {
	if text, ok := o.object(payload); ok && o.name(kind, id) {
		o.push(Command{Action: action, ID: id, Payload: text})
	}
}

func (o *Out) push(command Command) {
	if o.sealed {
		late.Store(true)
		return
	}
	command.Event = o.event
	o.commands = append(o.commands, command)
}

// fail keeps the first mistake.
func (o *Out) fail(err error) {
	if o.sealed {
		late.Store(true)
		return
	}
	if o.err == nil {
		o.err = err
	}
}

// Point is a point of a group. Its fields are as for [Out.Upsert].
type Point struct {
	ID         string
	Embeddings Embeddings
	Payload    any
}

// Embeddings are the vectors of a point: an [Embedding], several as [Named], or nil.
type Embeddings interface {
	vectors() []Vectored
}

// Embedding is one vector, or what the host makes one of.
type Embedding struct {
	kind    embeddingKind
	text    string
	indices []uint32
	numbers []float32
}

type embeddingKind uint8

const (
	dense embeddingKind = iota
	sparse
	text
)

// Text is text that the host turns into a vector: with the embedder that is named as the vector is, or else with the
// transform's first. The vector never comes here.
//
// What is not UTF-8, such as half a character at the end of a text that was cut between two bytes, becomes U+FFFD.
func Text(content string) Embedding {
	return Embedding{kind: text, text: strings.ToValidUTF8(content, "\ufffd")}
}

// Dense is a vector.
func Dense(numbers []float32) Embedding { return Embedding{kind: dense, numbers: numbers} }

// Sparse is a vector of which only these numbers are not zero. The indices rise.
func Sparse(indices []uint32, numbers []float32) Embedding {
	return Embedding{kind: sparse, indices: indices, numbers: numbers}
}

// Named are several vectors by their names; the default vector is named "".
type Named map[string]Embedding

// Vectored is a vector with its name.
type Vectored struct {
	Name string
	Embedding
}

func (e Embedding) vectors() []Vectored { return []Vectored{{Embedding: e}} }

func (n Named) vectors() []Vectored {
	all := make([]Vectored, 0, len(n))
	for name, embedding := range n {
		all = append(all, Vectored{Name: name, Embedding: embedding})
	}
	slices.SortFunc(all, func(one, other Vectored) int { return strings.Compare(one.Name, other.Name) })
	return all
}

// Action is what a command wants done.
type Action uint8

const (
	ActionUpsert Action = iota
	ActionPatch
	ActionReplace
	ActionPatchGroup
	ActionDelete
	ActionDeleteGroup
	ActionClear
)

// String is the action's name.
func (a Action) String() string {
	names := [...]string{"upsert", "patch", "replace", "patch-group", "delete", "delete-group", "clear"}
	if int(a) < len(names) {
		return names[a]
	}
	return "unknown"
}

// Command is an answer as the host gets it: what tests compare.
type Command struct {
	// Event is the index of the event in its batch.
	Event  int
	Action Action
	// ID is the point's, or the group's; empty for [ActionClear].
	ID string
	// Payload is the JSON object of a patch.
	Payload string
	// Points are the one of an upsert, or those of a replaced group.
	Points []Stored
}

// Stored is a point as the host gets it.
type Stored struct {
	ID      string
	Vectors []Vectored
	// Payload is a JSON object.
	Payload string
}

// String has the vectors' texts in it.
func (s Stored) String() string {
	line := s.ID
	for _, vector := range s.Vectors {
		line += fmt.Sprintf(" %q=", vector.Name)
		switch vector.kind {
		case text:
			line += fmt.Sprintf("%q", vector.text)
		case dense:
			line += fmt.Sprint(vector.numbers)
		case sparse:
			line += fmt.Sprint(vector.indices, vector.numbers)
		}
	}
	return line + " " + s.Payload
}

// Rejection is an event that a handler refuses.
type Rejection struct {
	Event  int
	Reason string
}

func (o *Out) point(point Point) (Stored, bool) {
	var vectors []Vectored
	if point.Embeddings != nil {
		vectors = point.Embeddings.vectors()
	}
	for _, vector := range vectors {
		if wrong := vector.wrong(); wrong != "" {
			o.fail(reject("%s", wrong))
			return Stored{}, false
		}
	}
	payload, ok := o.object(point.Payload)
	return Stored{ID: point.ID, Vectors: vectors, Payload: payload}, ok && o.name("id", point.ID)
}

// wrong is what the host would not take of a vector; empty if it takes it.
func (v Vectored) wrong() string {
	if len(v.Name) > vectorNameBytes || strings.ContainsFunc(v.Name, unicode.IsControl) {
		return fmt.Sprintf("the name of a vector is longer than %d bytes or has control characters: "+
			"name vectors as the sink's `create.vectors` does", vectorNameBytes)
	}
	if !utf8.ValidString(v.Name) {
		return "the name of a vector is not UTF-8: " + cut
	}
	if wrong := v.Embedding.wrong(); wrong == "" {
		return ""
	} else if v.Name == "" {
		return "the default vector " + wrong
	} else {
		return "vector `" + v.Name + "` " + wrong
	}
}

// cut is what to do about text that is not UTF-8, which no column holds.
const cut = "cut texts between characters, not between bytes"

func (e Embedding) wrong() string {
	switch {
	case e.kind == dense && len(e.numbers) == 0:
		return "has no numbers: leave the vector out, or give all its numbers"
	case e.kind == sparse && len(e.indices) != len(e.numbers):
		return fmt.Sprintf("has %d indices and %d values: give one index for each value", len(e.indices), len(e.numbers))
	case e.kind == text && e.text == "":
		return "is to be made from empty text: leave the vector out where there is no text"
	}
	for at := 1; at < len(e.indices); at++ {
		if e.indices[at-1] >= e.indices[at] {
			return fmt.Sprintf("has indices that do not rise at place %d: sort the indices and name each once", at)
		}
	}
	for at, number := range e.numbers {
		if math.IsNaN(float64(number)) || math.IsInf(float64(number), 0) {
			return fmt.Sprintf("has a number at place %d that is not finite: look for a division by zero", at)
		}
	}
	return ""
}

func (o *Out) name(kind, name string) bool {
	switch {
	case name == "":
		o.fail(reject("the %s is empty: use the row's key", kind))
	case len(name) > idBytes:
		o.fail(reject("the %s has %d bytes, at most %d are allowed: use a hash of it", kind, len(name), idBytes))
	case strings.ContainsRune(name, 0):
		o.fail(reject("the %s holds a NUL character: put another character between its parts", kind))
	case !utf8.ValidString(name):
		o.fail(reject("the %s is not UTF-8: %s", kind, cut))
	default:
		return true
	}
	return false
}

func (o *Out) object(payload any) (string, bool) {
	text, err := appendAny(nil, payload)
	if err != nil {
		o.fail(fmt.Errorf("the payload is no JSON: %w", err))
		return "", false
	}
	if len(text) == 0 || text[0] != '{' {
		o.fail(reject("the payload is not a JSON object: give an object, such as `{\"title\": \"…\"}`"))
		return "", false
	}
	return string(text), true
}
