// Does what the text of the column `what` says: the edges of handlers in Go.
package main

import (
	crypto "crypto/rand"
	"errors"
	"fmt"
	"hash/maphash"
	old "math/rand"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/pgstream-host/pgstream-host/plugins/sdk/go/pgstream"
)

func init() { pgstream.Handle(onEvent) }

func main() {}

var kept [][]byte

var keptOut *pgstream.Out

var asked chan bool

var latest time.Time

// seeds are what the runtime and the library seed by themselves.
func seeds() string {
	var sum maphash.Hash
	sum.WriteString("x")
	return fmt.Sprint(rand.Uint64(), " ", old.Int63(), " ", sum.Sum64())
}

func onEvent(event *pgstream.Event, out *pgstream.Out) error {
	word := ""
	if what, ok := event.Row.Get("what"); ok {
		word, _ = what.Text()
	}
	word, rest, _ := strings.Cut(word, ":")
	switch word {
	case "say":
		out.Delete(rest)
	case "error":
		out.Delete("forgotten")
		return errors.New("refused\nin two lines " + strings.Repeat("x", 5000))
	case "reject":
		out.Delete("forgotten")
		out.Reject("for a reason")
	case "retry":
		return fmt.Errorf("not now: %w", pgstream.Retry(errors.New("busy")))
	case "stop":
		return pgstream.Stop(errors.New("enough"))
	case "panic":
		out.Delete("forgotten")
		panic("boom")
	case "index":
		var nothing []int
		out.Delete(fmt.Sprint(nothing[len(rest)]))
	case "nil":
		var nothing map[string]int
		nothing["x"] = 1
	case "missing":
		out.Delete(event.Row.Value("nothing").String())
	case "empty-id":
		out.Delete("")
	case "spin":
		for {
		}
	case "spin-aside":
		go func() {
			for {
			}
		}()
		time.Sleep(time.Hour)
		time.Sleep(time.Hour)
	case "goroutines":
		var group sync.WaitGroup
		sums := make([]int, 1000)
		for at := range sums {
			group.Go(func() { time.Sleep(time.Millisecond); sums[at] = at })
		}
		group.Wait()
		total := 0
		for _, sum := range sums {
			total += sum
		}
		out.Delete(fmt.Sprint(total))
	case "endless-goroutines":
		for {
			go func() { select {} }()
		}
	case "panic-aside":
		done := make(chan bool)
		go func() { panic("aside") }()
		<-done
	case "answers-later":
		go func() { time.Sleep(time.Minute); out.Delete(rest) }()
	case "answers-when-asked":
		if asked == nil {
			asked = make(chan bool)
			go func() { <-asked; out.Delete(rest) }()
		} else {
			close(asked)
		}
	case "keeps-out":
		keptOut = out
	case "answers-another":
		keptOut.Delete(rest)
	case "goexit":
		runtime.Goexit()
	case "deadlock":
		select {}
	case "memory":
		for {
			kept = append(kept, make([]byte, 1<<20))
		}
	case "stack":
		out.Delete(fmt.Sprint(deep(1)))
	case "exit":
		os.Exit(3)
	case "print":
		fmt.Print("to standard ")
		fmt.Println("output")
		fmt.Fprintln(os.Stderr, "to standard error")
		pgstream.Warnf("to the %s", "log")
	case "sleep":
		start := time.Now()
		time.Sleep(time.Hour)
		out.Delete(fmt.Sprint(time.Since(start) >= time.Hour))
	case "now":
		out.Delete(fmt.Sprint(time.Now().UnixMilli()))
	case "moves":
		start := time.Now()
		for time.Since(start) < time.Millisecond {
		}
		out.Delete("moved")
	case "steps":
		// As the wall's clock has it, without the monotonic reading.
		for turn := range 5000 {
			now := time.Now().Round(0)
			if now.Before(latest) {
				return fmt.Errorf("in turn %d it went back from %v to %v", turn, latest, now)
			}
			latest = now
		}
		time.Sleep(time.Hour)
		out.Delete("forward")
	case "seeds":
		out.Delete(seeds())
	case "random":
		var bytes [21]byte
		crypto.Read(bytes[:])
		out.Delete(fmt.Sprintf("%x", bytes))
	case "outside":
		_, err := os.ReadFile("/etc/passwd")
		out.Delete(fmt.Sprintf("%v %d %d %v", err, len(os.Args), len(os.Environ()), os.WriteFile("x", nil, 0o600)))
	case "config":
		value, ok := pgstream.Config(rest)
		out.Delete(fmt.Sprint(value, ok))
	case "embed":
		rows, err := pgstream.Embed("default", strings.Split(rest, ","))
		if err != nil {
			return err
		}
		out.Delete(fmt.Sprint(rows))
	case "garbage":
		total := 0
		for range 200 {
			total += len(make([]byte, 1<<20))
		}
		out.Delete(fmt.Sprint(total))
	default:
		id, err := event.Key()
		if err != nil {
			return err
		}
		payload := event.Row.Payload()
		if event.OldRow != nil {
			payload.Set("was", event.OldRow)
		}
		payload.Set("at", fmt.Sprint(event.Position.LSN, " ", event.Position.Ordinal, " ", event.XID, " ", event.CommitMicros))
		out.Upsert(id, pgstream.Named{"a": pgstream.Dense([]float32{1.5}), "b": pgstream.Text("b"),
			"c": pgstream.Sparse([]uint32{1, 1<<32 - 1}, []float32{0.5, 2})}, payload)
	}
	return nil
}

func deep(depth int) int { return depth + deep(depth+1)*2 }
