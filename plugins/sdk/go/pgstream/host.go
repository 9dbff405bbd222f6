package pgstream

import (
	"fmt"

	"github.com/pgstream-host/pgstream-host/plugins/sdk/go/internal/host"
)

// Level is how loud a line of the log is.
type Level uint8

const (
	// LevelTrace is of use when a handler is being debugged closely.
	LevelTrace Level = iota
	// LevelDebug is of use when a handler is being debugged.
	LevelDebug
	// LevelInfo: something happened.
	LevelInfo
	// LevelWarn: a person should look at it some time.
	LevelWarn
	// LevelError: something went wrong. It is repeated in the pipeline's error if the call fails.
	LevelError
)

// Config is a value of the transform's `config` in the pipeline file, and whether it is there. It does not change while the
// handler is loaded, so asking again costs next to nothing.
func Config(key string) (string, bool) { return host.Current.Config(key) }

// ConfigOr is a value of the transform's `config`, or else another.
func ConfigOr(key, otherwise string) string {
	if value, ok := Config(key); ok {
		return value
	}
	return otherwise
}

// Embed has the host embed texts, and answers with a vector for each. The embedder is a name from the transform's
// `embedders`.
//
// Answering with a [Text] is cheaper where it is enough: the host embeds a whole batch at once, skips what it has embedded
// before, and the vector never comes here. A failure concerns the batch: returned, it has the host retry or stop, whichever
// helps.
func Embed(embedder string, texts []string) ([][]float32, error) {
	dimension, data, failure := host.Current.Embed(embedder, texts)
	if failure != nil {
		return nil, &batchError{retry: failure.Retry, err: fmt.Errorf("%s", failure.Message)}
	}
	rows := make([][]float32, 0, len(texts))
	for dimension > 0 && len(data) >= dimension {
		rows, data = append(rows, data[:dimension:dimension]), data[dimension:]
	}
	return rows, nil
}

// Log says a line in the host's log, which limits how many.
func Log(level Level, message string) { host.Current.Log(uint8(level), message) }

// Debugf says a line that is of use when a handler is being debugged.
func Debugf(format string, args ...any) { Log(LevelDebug, fmt.Sprintf(format, args...)) }

// Infof says that something happened.
func Infof(format string, args ...any) { Log(LevelInfo, fmt.Sprintf(format, args...)) }

// Warnf says what a person should look at some time.
func Warnf(format string, args ...any) { Log(LevelWarn, fmt.Sprintf(format, args...)) }

// Errorf says that something went wrong. To reject an event, return an error.
func Errorf(format string, args ...any) { Log(LevelError, fmt.Sprintf(format, args...)) }
