// Package http sends requests to the hosts that the pipeline grants: `allow: { http: [api.example.com] }`. Go's own net/http
// cannot, as a handler has no sockets.
//
//	answer, err := http.Post("https://api.example.com/tags").JSON(map[string]any{"text": text}).Send()
//	if err == nil {
//		err = answer.Success()
//	}
//	if err != nil {
//		return err
//	}
//
// A call waits for each answer in turn. What the host sends, and what it refuses, stands in its documentation, in
// docs/network.md. A batch may come again, and its requests with it: they should be safe to repeat.
//
// A component that does not import this package does not import wasi:http.
package http

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pgstream-host/pgstream-host/plugins/sdk/go/pgstream"
)

// Request is a request that has not been sent.
type Request struct {
	// Method is GET, POST, …
	Method string
	// URL is https://api.example.com/path?query; the host and the port must be granted.
	URL     string
	Headers []Header
	Body    []byte
	// Timeout is how long to wait for the answer, at most; the host's own limit, if it is zero or longer than that.
	Timeout time.Duration

	err error
}

// Header is a name with a value; in answers the name is in lower case.
type Header struct{ Name, Value string }

// Response is what a server answered.
type Response struct {
	// Status is 200 or 404 or another.
	Status  int
	Headers []Header
	Body    []byte
}

// Get is a request for what is at a URL.
func Get(url string) *Request { return &Request{Method: "GET", URL: url} }

// Post is a request that sends something to a URL.
func Post(url string) *Request { return &Request{Method: "POST", URL: url} }

// Header adds a header.
func (r *Request) Header(name, value string) *Request {
	r.Headers = append(r.Headers, Header{name, value})
	return r
}

// JSON sends a value as JSON. That it cannot be written as such is told by Send.
func (r *Request) JSON(value any) *Request {
	body, err := json.Marshal(value)
	if err != nil {
		r.err = fmt.Errorf("the body is no JSON: %w", err)
	}
	r.Body = body
	return r.Header("content-type", "application/json")
}

// Send sends the request and waits for the answer, whatever its status is; see [Response.Success].
//
// An error concerns the whole batch: a server that cannot be reached has the host come again later, and a host that is not
// granted stops the pipeline, with the key to add.
func (r *Request) Send() (*Response, error) {
	if r.err != nil {
		return nil, r.err
	}
	https, authority, path, err := r.parts()
	if err != nil {
		return nil, err
	}
	return Transport(r, https, authority, path)
}

// Transport is how requests are sent: through the host. A test puts a function of its own in its place.
var Transport = send

// Success is nil if the status is one of success, 200 to 299. For 408, 429 and 500 and more it is an error that has the host
// come again later with the whole batch, for others one that rejects the event.
func (r *Response) Success() error {
	switch {
	case r.Status >= 200 && r.Status < 300:
		return nil
	case r.Status == 408 || r.Status == 429 || r.Status >= 500:
		return pgstream.Retry(fmt.Errorf("a server answered with status %d", r.Status))
	}
	return fmt.Errorf("a server answered with status %d", r.Status)
}

// Header is the value of a header, whose name is in lower case.
func (r *Response) Header(name string) (string, bool) {
	for _, header := range r.Headers {
		if header.Name == name {
			return header.Value, true
		}
	}
	return "", false
}

// JSON reads the body into a value, as json.Unmarshal does.
func (r *Response) JSON(value any) error { return json.Unmarshal(r.Body, value) }

// parts are whether it is https, host and port, path and query.
func (r *Request) parts() (https bool, authority, path string, err error) {
	scheme, rest, found := strings.Cut(r.URL, "://")
	rest, _, _ = strings.Cut(rest, "#")
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	if !found || (scheme != "https" && scheme != "http") || end == 0 || strings.ContainsAny(rest[:end], "@ \t\r\n") {
		return false, "", "", pgstream.Stop(
			errors.New("what was asked for is not a URL: write `https://host/path`, without a login"))
	}
	authority, path = rest[:end], rest[end:]
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	return scheme == "https", authority, path, nil
}

// origin is the part of the URL that may be shown: scheme, host and port. The rest may hold a row's values, and
// where there is an `@`, what stands before it may be a login.
func (r *Request) origin() string {
	https, authority, _, err := r.parts()
	switch {
	case err != nil:
		return "…"
	case strings.Contains(r.URL, "@"):
		authority = "…"
	}
	if https {
		return "https://" + authority
	}
	return "http://" + authority
}
