// Package host is what lies outside of a handler: pgstream-host itself in a component, a made-up one in a test.
package host

// Host does for a handler what it cannot do itself.
type Host interface {
	// Config is a value of the transform's `config`.
	Config(key string) (string, bool)
	// Asked is a value that the host gives anew with each batch.
	Asked(key string) (string, bool)
	// Embed has an embedder make vectors, one after the other in data.
	Embed(embedder string, texts []string) (dimension int, data []float32, failure *Failure)
	// Log says a line. Levels count from 0, trace, to 4, error.
	Log(level uint8, message string)
	// SafePoint is called where the real clock may be read.
	SafePoint()
}

// Failure says that a batch cannot be handled.
type Failure struct {
	// Retry: it will pass. Else a person must act.
	Retry   bool
	Message string
}

// Current is the host that is there. A program that is neither a component nor a test has one that grants nothing.
var Current Host = nobody{}

type nobody struct{}

func (nobody) Config(string) (string, bool) { return "", false }

func (nobody) Asked(string) (string, bool) { return "", false }

func (nobody) Embed(embedder string, _ []string) (int, []float32, *Failure) {
	return 0, nil, &Failure{Message: "no embedder `" + embedder + "`"}
}

func (nobody) Log(uint8, string) {}

func (nobody) SafePoint() {}
