package pgstream

import (
	"errors"
	"fmt"
	"path"
	"runtime"
	"strings"
	"sync/atomic"

	"github.com/pgstream-host/pgstream-host/plugins/sdk/go/internal/host"
)

// reasonBytes are the bytes of a rejection's reason that the host keeps.
const reasonBytes = 1000

// registered is what Handle or HandleBatch was given.
var registered func(batch *Batch) error

// Handle makes a function the handler of this component. To be called from an init function, once.
func Handle(onEvent func(event *Event, out *Out) error) {
	register(func(batch *Batch) error { return batch.each(onEvent) })
}

// HandleBatch makes a function that takes whole batches the handler of this component, for those who want to look at
// several events at once, say to [Embed] all their texts in one go. To be called from an init function, once.
//
// [Batch.Out] takes the answers to an event. If the function fails, with an error that is neither [Retry] nor [Stop] or with
// a panic, what it answered is forgotten and it is called again with each half of the events, until those that cannot be
// handled are found; only they are rejected.
func HandleBatch(onBatch func(batch *Batch) error) {
	register(func(batch *Batch) error { return batch.halve(onBatch) })
}

func register(onBatch func(batch *Batch) error) {
	if registered != nil {
		panic("pgstream.Handle and pgstream.HandleBatch: only one may be called, and once")
	}
	registered = onBatch
}

// Batch is events in commit order.
type Batch struct {
	Events []*Event
	outs   []Out
}

// Out takes the answers to an event of the batch.
func (b *Batch) Out(event *Event) *Out { return &b.outs[event.index] }

// Retry says that the whole batch cannot be handled now, for a reason that will pass: the host calls again with it, later.
func Retry(err error) error { return &batchError{retry: true, err: err} }

// Stop says that the whole batch cannot be handled until a person acts, say because the configuration is wrong: the pipeline
// stops, nothing of the batch is confirmed.
func Stop(err error) error { return &batchError{err: err} }

type batchError struct {
	retry bool
	err   error
}

func (e *batchError) Error() string { return e.err.Error() }

func (e *batchError) Unwrap() error { return e.err }

// rejected is an error of our own: its text needs no "panic: " before it.
type rejected string

func (r rejected) Error() string { return string(r) }

func reject(format string, args ...any) error { return rejected(fmt.Sprintf(format, args...)) }

// Answer is what became of a batch.
type Answer struct {
	Commands   []Command
	Rejections []Rejection
}

// Run handles events that were made up; package pgstreamtest does so more comfortably. An error concerns the whole batch.
func Run(onEvent func(event *Event, out *Out) error, events []*Event) (Answer, error) {
	batch := newBatch(events)
	return batch.answer(batch.each(onEvent))
}

// RunBatch is [Run] for the function of [HandleBatch].
func RunBatch(onBatch func(batch *Batch) error, events []*Event) (Answer, error) {
	batch := newBatch(events)
	return batch.answer(batch.halve(onBatch))
}

func newBatch(events []*Event) *Batch {
	batch := &Batch{Events: events, outs: make([]Out, len(events))}
	for index, event := range events {
		event.index = index
		batch.outs[index].event = index
		if event.Row.table != nil {
			event.Row.table.asked = false
		}
	}
	return batch
}

func (b *Batch) each(onEvent func(event *Event, out *Out) error) error {
	for index, event := range b.Events {
		out := &b.outs[index]
		before := runtime.NumGoroutine()
		err := guarded(func() error { return onEvent(event, out) })
		out.sealed = true
		if late := settle(before); late != nil {
			return late
		}
		if concernsBatch(err) {
			return err
		}
		if err != nil {
			out.err = err
		}
	}
	return nil
}

// halve answers all events, or without those that the function refuses when it is given them alone.
func (b *Batch) halve(onBatch func(batch *Batch) error) error {
	before := runtime.NumGoroutine()
	err := guarded(func() error { return onBatch(b) })
	for _, event := range b.Events {
		b.outs[event.index].sealed = true
	}
	if late := settle(before); late != nil {
		return late
	}
	if err == nil || concernsBatch(err) {
		return err
	}
	for _, event := range b.Events {
		b.outs[event.index] = Out{event: event.index}
	}
	if len(b.Events) < 2 {
		for _, event := range b.Events {
			b.outs[event.index].err = err
		}
		return nil
	}
	middle := len(b.Events) / 2
	for _, events := range [][]*Event{b.Events[:middle], b.Events[middle:]} {
		if err := (&Batch{Events: events, outs: b.outs}).halve(onBatch); err != nil {
			return err
		}
	}
	return nil
}

// guarded makes an error of a panic.
func guarded(call func() error) (err error) {
	host.Current.SafePoint()
	returned := false
	defer func() {
		if cause := recover(); cause != nil {
			err = panicked(cause)
		} else if !returned {
			// Nothing brings a goroutine back that ends: the call is over.
			Errorf("the handler ended its goroutine, as runtime.Goexit and testing's FailNow do: return an error instead")
		}
	}()
	err = call()
	returned = true
	return err
}

// late is that something was answered to an event whose handler had returned.
var late atomic.Bool

// pause has goroutines run that sleep.
var pause = func() {}

// idle is how many goroutines there are when no handler has run yet.
var idle int

// told is whether it was said that goroutines go on.
var told bool

// settle lets the goroutines run that a handler has started and not waited for. What they still answer is lost, or would be
// another event's, so it is an error that stops the pipeline.
func settle(before int) error {
	if idle == 0 {
		idle = before
	}
	if runtime.NumGoroutine() <= before {
		// Some of an earlier event's may have been woken.
		for turn := 0; turn < 2 && runtime.NumGoroutine() > idle; turn++ {
			runtime.Gosched()
		}
	} else {
		for turn := 0; turn < 100 && runtime.NumGoroutine() > before; turn++ {
			runtime.Gosched()
		}
		if runtime.NumGoroutine() > before {
			pause()
		}
		if left := runtime.NumGoroutine() - before; left > 0 && !told {
			told = true
			Warnf("a handler has returned while goroutines that it started go on (%d): they run only while a handler "+
				"does, and what they answer later stops the pipeline. Wait for them, for instance with sync.WaitGroup", left)
		}
	}
	if late.Swap(false) {
		return Stop(errors.New("an event was answered after its handler had returned: " +
			"wait for the goroutines that it starts, for instance with sync.WaitGroup, and keep no `Out`"))
	}
	return nil
}

func panicked(cause any) error {
	var known error
	if err, ok := cause.(error); ok {
		known = err
		var ours rejected
		if errors.As(err, &ours) || concernsBatch(err) {
			return err
		}
	}
	text := fmt.Sprint(cause)
	if known != nil {
		text = known.Error()
	}
	return reject("panic: %s%s", text, origin())
}

// origin is where the panic that is being recovered from began: the first frame that is not the runtime's.
func origin() string {
	var counters [64]uintptr
	frames := runtime.CallersFrames(counters[:runtime.Callers(1, counters[:])])
	inPanic := false
	for {
		frame, more := frames.Next()
		switch ofRuntime := strings.HasPrefix(frame.Function, "runtime."); {
		case frame.Function == "runtime.gopanic":
			inPanic = true
		case inPanic && !ofRuntime && frame.File != "":
			return fmt.Sprintf(" (%s:%d)", path.Base(frame.File), frame.Line)
		}
		if !more {
			return ""
		}
	}
}

func concernsBatch(err error) bool {
	var batch *batchError
	return errors.As(err, &batch)
}

// answer gathers what was answered, or the error that concerns the whole batch.
func (b *Batch) answer(err error) (Answer, error) {
	var answer Answer
	if err != nil {
		return answer, err
	}
	commands := 0
	for index := range b.outs {
		commands += len(b.outs[index].commands)
	}
	answer.Commands = make([]Command, 0, commands)
	for index := range b.outs {
		out := &b.outs[index]
		if out.err == nil {
			answer.Commands = append(answer.Commands, out.commands...)
		} else if concernsBatch(out.err) {
			return Answer{}, out.err
		} else {
			answer.Rejections = append(answer.Rejections, Rejection{Event: index, Reason: oneLine(out.err.Error())})
		}
	}
	return answer, nil
}

// oneLine bounds what may have been made from a row.
func oneLine(text string) string {
	text = strings.Map(func(char rune) rune {
		if char < ' ' || char == 0x7f {
			return ' '
		}
		return char
	}, text)
	if text == "" {
		return "the handler returned an error without a message"
	}
	if len(text) <= reasonBytes {
		return text
	}
	return strings.ToValidUTF8(text[:reasonBytes], "") + "…"
}
