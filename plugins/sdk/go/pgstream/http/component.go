//go:build wasip1

package http

import (
	"fmt"
	"runtime"
	"strings"
	"unsafe"

	"github.com/pgstream-host/pgstream-host/plugins/sdk/go/internal/host"
	"github.com/pgstream-host/pgstream-host/plugins/sdk/go/pgstream"
)

// chunk is the bytes that a body takes in one go.
const chunk = 4096

// area is where a function puts what it answers: no answer here is larger.
type area [8]uint64

func (a *area) byte(at uintptr) byte { return *(*byte)(unsafe.Add(unsafe.Pointer(a), at)) }

func (a *area) word(at uintptr) uint32 { return *(*uint32)(unsafe.Add(unsafe.Pointer(a), at)) }

// bytes is a list that the host has put into our memory.
func (a *area) bytes(at uintptr) []byte { return list[byte](a.word(at), a.word(at+4)) }

func list[T any](pointer, length uint32) []T {
	if length == 0 {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(uintptr(pointer))), length)
}

// call has the memory of a request that the host looks into.
type call struct {
	runtime.Pinner
	request *Request
}

func (c *call) area() *area {
	area := new(area)
	c.Pin(area)
	return area
}

func (c *call) text(text string) (unsafe.Pointer, uint32) {
	pointer := unsafe.Pointer(unsafe.StringData(text))
	if len(text) > 0 {
		c.Pin(pointer)
	}
	return pointer, uint32(len(text))
}

func send(request *Request, https bool, authority, path string) (*Response, error) {
	c := &call{request: request}
	defer c.Unpin()
	defer host.Current.SafePoint()

	fields := newFields()
	for _, header := range request.Headers {
		name, nameLen := c.text(header.Name)
		value, valueLen := c.text(header.Value)
		answer := c.area()
		fieldsAppend(fields, name, nameLen, value, valueLen, answer)
		if answer.byte(0) != 0 {
			dropFields(fields)
			return nil, c.refused(fmt.Sprintf("header %q", header.Name))
		}
	}
	outgoing := newOutgoingRequest(fields)
	if what := c.describe(outgoing, https, authority, path); what != "" {
		dropOutgoingRequest(outgoing)
		return nil, c.refused(what)
	}
	answer := c.area()
	requestBody(outgoing, answer)
	body := answer.word(4)
	options := newRequestOptions()
	if request.Timeout > 0 {
		nanos := uint64(request.Timeout.Nanoseconds())
		setConnectTimeout(options, 1, nanos)
		setFirstByteTimeout(options, 1, nanos)
		setBetweenBytesTimeout(options, 1, nanos)
	}
	handle(outgoing, 1, options, answer)
	if answer.byte(0) != 0 {
		dropOutgoingBody(body)
		return nil, c.failed(answer.byte(8))
	}
	begun := answer.word(8)
	defer dropFuture(begun)
	c.write(body)
	finish(body, 0, 0, answer)
	if answer.byte(0) != 0 {
		return nil, c.failed(answer.byte(8))
	}
	ready := subscribe(begun)
	block(ready)
	dropPollable(ready)
	get(begun, answer)
	switch {
	case answer.byte(0) == 0 || answer.byte(8) != 0:
		return nil, c.again("there was no answer")
	case answer.byte(16) != 0:
		return nil, c.failed(answer.byte(24))
	}
	return c.received(answer.word(24))
}

var methods = [...]string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}

// describe sets the parts of the request. It answers which of them cannot be sent.
func (c *call) describe(outgoing uint32, https bool, authority, path string) string {
	method := uint32(len(methods))
	for index, known := range methods {
		if known == c.request.Method {
			method = uint32(index)
		}
	}
	scheme := uint32(0)
	if https {
		scheme = 1
	}
	text, length := c.text(c.request.Method)
	if setMethod(outgoing, method, text, length) != 0 {
		return "the method"
	}
	if setScheme(outgoing, 1, scheme, nil, 0) != 0 {
		return "the scheme"
	}
	text, length = c.text(authority)
	if setAuthority(outgoing, 1, text, length) != 0 {
		return "the host"
	}
	text, length = c.text(path)
	if setPath(outgoing, 1, text, length) != 0 {
		return "the path"
	}
	return ""
}

func (c *call) write(body uint32) {
	answer := c.area()
	bodyWrite(body, answer)
	if answer.byte(0) != 0 {
		return
	}
	stream := answer.word(4)
	defer dropOutputStream(stream)
	rest := string(c.request.Body)
	for len(rest) > 0 {
		part := rest[:min(len(rest), chunk)]
		text, length := c.text(part)
		streamWrite(stream, text, length, answer)
		if answer.byte(0) != 0 { // the answer says why
			if answer.byte(4) == 0 {
				dropError(answer.word(8))
			}
			return
		}
		rest = rest[len(part):]
	}
}

func (c *call) received(incoming uint32) (*Response, error) {
	defer dropIncomingResponse(incoming)
	response := &Response{Status: int(status(incoming))}
	fields, answer := responseHeaders(incoming), c.area()
	fieldsEntries(fields, answer)
	dropFields(fields)
	for _, entry := range list[[4]uint32](answer.word(0), answer.word(4)) {
		name, value := list[byte](entry[0], entry[1]), list[byte](entry[2], entry[3])
		header := Header{strings.ToLower(string(name)), string(value)}
		response.Headers = append(response.Headers, header)
	}
	consume(incoming, answer)
	if answer.byte(0) != 0 {
		return nil, c.again("the answer broke off")
	}
	body := answer.word(4)
	defer dropIncomingBody(body)
	bodyStream(body, answer)
	if answer.byte(0) != 0 {
		return nil, c.again("the answer broke off")
	}
	stream := answer.word(4)
	defer dropInputStream(stream)
	for {
		streamRead(stream, 64<<10, answer)
		switch {
		case answer.byte(0) == 0:
			response.Body = append(response.Body, answer.bytes(4)...)
		case answer.byte(4) != 0: // it is at its end
			return response, nil
		default:
			broken := answer.word(8)
			defer dropError(broken)
			errorCode(broken, answer)
			if answer.byte(0) != 0 {
				return nil, c.failed(answer.byte(8))
			}
			return nil, c.again("the answer broke off")
		}
	}
}

func (c *call) refused(what string) error {
	return pgstream.Stop(fmt.Errorf("`%s`: %s is not one that can be sent", c.request.origin(), what))
}

func (c *call) again(why string) error {
	return pgstream.Retry(fmt.Errorf("`%s`: %s", c.request.origin(), why))
}

// failed is an error of wasi:http: what will pass is tried again, what the host refuses will not.
func (c *call) failed(code byte) error {
	what := "unknown error"
	if int(code) < len(codes) {
		what = codes[code]
	}
	err := fmt.Errorf("`%s`: %s", c.request.origin(), what)
	for _, final := range finals {
		if what == final {
			return pgstream.Stop(err)
		}
	}
	return pgstream.Retry(err)
}

// codes are the cases of wasi:http's error-code, in their order.
var codes = [...]string{
	"dns timeout", "dns error", "destination not found", "destination unavailable", "destination ip prohibited",
	"destination ip unroutable", "connection refused", "connection terminated", "connection timeout",
	"connection read timeout", "connection write timeout", "connection limit reached", "tls protocol error",
	"tls certificate error", "tls alert received", "http request denied", "http request length required",
	"http request body size", "http request method invalid", "http request uri invalid", "http request uri too long",
	"http request header section size", "http request header size", "http request trailer section size",
	"http request trailer size", "http response incomplete", "http response header section size",
	"http response header size", "http response body size", "http response trailer section size",
	"http response trailer size", "http response transfer coding", "http response content coding",
	"http response timeout", "http upgrade failed", "http protocol error", "loop detected", "configuration error",
	"internal error",
}

var finals = [...]string{
	"destination ip prohibited", "tls certificate error", "http request denied", "http request length required",
	"http request body size", "http request method invalid", "http request uri invalid",
	"http request trailer section size", "http response body size", "http protocol error",
}
