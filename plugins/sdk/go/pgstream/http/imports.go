//go:build wasip1

package http

import "unsafe"

// The functions of WASI 0.2 that are needed, as the canonical ABI passes their parameters. The host's program puts their types
// into a component that imports them.

//go:wasmimport wasi:http/types@0.2.0 [constructor]fields
func newFields() uint32

//go:wasmimport wasi:http/types@0.2.0 [method]fields.append
func fieldsAppend(fields uint32, name unsafe.Pointer, nameLen uint32, value unsafe.Pointer, valueLen uint32, answer *area)

//go:wasmimport wasi:http/types@0.2.0 [method]fields.entries
func fieldsEntries(fields uint32, answer *area)

//go:wasmimport wasi:http/types@0.2.0 [resource-drop]fields
func dropFields(fields uint32)

//go:wasmimport wasi:http/types@0.2.0 [constructor]outgoing-request
func newOutgoingRequest(fields uint32) uint32

//go:wasmimport wasi:http/types@0.2.0 [method]outgoing-request.set-method
func setMethod(request, method uint32, text unsafe.Pointer, length uint32) uint32

//go:wasmimport wasi:http/types@0.2.0 [method]outgoing-request.set-scheme
func setScheme(request, some, scheme uint32, text unsafe.Pointer, length uint32) uint32

//go:wasmimport wasi:http/types@0.2.0 [method]outgoing-request.set-authority
func setAuthority(request, some uint32, text unsafe.Pointer, length uint32) uint32

//go:wasmimport wasi:http/types@0.2.0 [method]outgoing-request.set-path-with-query
func setPath(request, some uint32, text unsafe.Pointer, length uint32) uint32

//go:wasmimport wasi:http/types@0.2.0 [method]outgoing-request.body
func requestBody(request uint32, answer *area)

//go:wasmimport wasi:http/types@0.2.0 [resource-drop]outgoing-request
func dropOutgoingRequest(request uint32)

//go:wasmimport wasi:http/types@0.2.0 [method]outgoing-body.write
func bodyWrite(body uint32, answer *area)

//go:wasmimport wasi:http/types@0.2.0 [static]outgoing-body.finish
func finish(body, some, trailers uint32, answer *area)

//go:wasmimport wasi:http/types@0.2.0 [resource-drop]outgoing-body
func dropOutgoingBody(body uint32)

//go:wasmimport wasi:http/types@0.2.0 [constructor]request-options
func newRequestOptions() uint32

//go:wasmimport wasi:http/types@0.2.0 [method]request-options.set-connect-timeout
func setConnectTimeout(options, some uint32, nanos uint64) uint32

//go:wasmimport wasi:http/types@0.2.0 [method]request-options.set-first-byte-timeout
func setFirstByteTimeout(options, some uint32, nanos uint64) uint32

//go:wasmimport wasi:http/types@0.2.0 [method]request-options.set-between-bytes-timeout
func setBetweenBytesTimeout(options, some uint32, nanos uint64) uint32

//go:wasmimport wasi:http/outgoing-handler@0.2.0 handle
func handle(request, some, options uint32, answer *area)

//go:wasmimport wasi:http/types@0.2.0 [method]future-incoming-response.subscribe
func subscribe(begun uint32) uint32

//go:wasmimport wasi:http/types@0.2.0 [method]future-incoming-response.get
func get(begun uint32, answer *area)

//go:wasmimport wasi:http/types@0.2.0 [resource-drop]future-incoming-response
func dropFuture(begun uint32)

//go:wasmimport wasi:io/poll@0.2.0 [method]pollable.block
func block(pollable uint32)

//go:wasmimport wasi:io/poll@0.2.0 [resource-drop]pollable
func dropPollable(pollable uint32)

//go:wasmimport wasi:http/types@0.2.0 [method]incoming-response.status
func status(response uint32) uint32

//go:wasmimport wasi:http/types@0.2.0 [method]incoming-response.headers
func responseHeaders(response uint32) uint32

//go:wasmimport wasi:http/types@0.2.0 [method]incoming-response.consume
func consume(response uint32, answer *area)

//go:wasmimport wasi:http/types@0.2.0 [resource-drop]incoming-response
func dropIncomingResponse(response uint32)

//go:wasmimport wasi:http/types@0.2.0 [method]incoming-body.stream
func bodyStream(body uint32, answer *area)

//go:wasmimport wasi:http/types@0.2.0 [resource-drop]incoming-body
func dropIncomingBody(body uint32)

//go:wasmimport wasi:http/types@0.2.0 http-error-code
func errorCode(broken uint32, answer *area)

//go:wasmimport wasi:io/streams@0.2.0 [method]input-stream.blocking-read
func streamRead(stream uint32, length uint64, answer *area)

//go:wasmimport wasi:io/streams@0.2.0 [resource-drop]input-stream
func dropInputStream(stream uint32)

//go:wasmimport wasi:io/streams@0.2.0 [method]output-stream.blocking-write-and-flush
func streamWrite(stream uint32, text unsafe.Pointer, length uint32, answer *area)

//go:wasmimport wasi:io/streams@0.2.0 [resource-drop]output-stream
func dropOutputStream(stream uint32)

//go:wasmimport wasi:io/error@0.2.0 [resource-drop]error
func dropError(broken uint32)
