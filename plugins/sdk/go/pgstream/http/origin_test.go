package http

import "testing"

func TestNoPartOfALoginIsShown(t *testing.T) {
	for url, want := range map[string]string{
		"https://a.example:8443/b":       "https://a.example:8443",
		"https://secret@a.example/b":     "…",
		"https://me:se/cret@a.example/b": "https://…",
		"https://me:se?cret@a.example/b": "https://…",
		"http://secret/@a.example":       "http://…",
		"secret@a.example":               "…",
		"secret":                         "…",
	} {
		if got := Get(url).origin(); got != want {
			t.Errorf("%s: got %s, want %s", url, got, want)
		}
	}
}
