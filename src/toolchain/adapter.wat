;; WASI preview 1, which core modules of Go import, over the little of WASI 0.2 that a handler has: standard output and
;; error, clocks, random numbers. There are no files, sockets, arguments or variables.
;;
;; Why not the official adapter: Go's collector may start inside `cabi_realloc`, while the host is passing an argument, and
;; reads the clock there. The component model forbids every call out of the instance at that time; the call traps. So here
;; `clock_time_get` never calls out. It tells what the clock was at the last safe point, and adds a microsecond each time
;; it is asked, so that time moves on. Safe points are the first question of all, which Go's start asks, and each
;; `clock_res_get`, which Go itself never calls: our SDK does, before each event and after each `embed`.
;;
;; Neither clock goes back. That of the wall tells whole milliseconds at a safe point, and stays within the same one until the
;; next, however often it is asked: so it is never ahead of the real one, unless that is set back.
;;
;; A wait is over at once, as everywhere in this host: the monotonic clock is put forward by as much as was to be waited for.
;;
;; When Go crashes it prints the stacks of all goroutines, of which there may be thousands, and what it crashed of comes
;; first. The host remembers the last lines; so nothing is passed on after the beginning of the first stack.
;;
;; Memory of its own an adapter cannot have. Where a call needs a place for its result, it borrows the bytes at $SCRATCH,
;; and puts back what was there.
(module
  (import "wasi:cli/stdout@0.2.0" "get-stdout" (func $get-stdout (result i32)))
  (import "wasi:cli/stderr@0.2.0" "get-stderr" (func $get-stderr (result i32)))
  (import "wasi:cli/exit@0.2.0" "exit" (func $exit (param $failed i32)))
  (import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush"
    (func $stream-write (param $stream i32) (param $bytes i32) (param $len i32) (param $result i32)))
  (import "wasi:clocks/monotonic-clock@0.2.0" "now" (func $monotonic-now (result i64)))
  (import "wasi:clocks/wall-clock@0.2.0" "now" (func $wall-now (param $result i32)))
  (import "wasi:random/random@0.2.0" "get-random-u64" (func $random (result i64)))
  (import "env" "memory" (memory 0))

  (global $SCRATCH i32 (i32.const 16))
  (global $OK i32 (i32.const 0))
  (global $EBADF i32 (i32.const 8))
  ;; Bytes that a stream takes in one go.
  (global $WRITE i32 (i32.const 4096))

  ;; Streams, once they were asked for.
  (global $stdout (mut i32) (i32.const -1))
  (global $stderr (mut i32) (i32.const -1))
  ;; Both clocks in nanoseconds, and by how much the monotonic one was put forward.
  (global $started (mut i32) (i32.const 0))
  (global $wall (mut i64) (i64.const 0))
  (global $monotonic (mut i64) (i64.const 0))
  (global $forward (mut i64) (i64.const 0))
  ;; Microseconds that the wall's clock may still add.
  (global $spare (mut i32) (i32.const 0))
  ;; Lines of a crash that are still passed on; all are, if it is negative.
  (global $lines (mut i32) (i32.const -1))

  ;; Reads the real clocks.
  (func $set-clocks
    (local $now i64) (local $kept-a i64) (local $kept-b i64)
    (global.set $started (i32.const 1))
    (global.set $lines (i32.const -1))
    (local.set $now (i64.add (call $monotonic-now) (global.get $forward)))
    (if (i64.gt_s (local.get $now) (global.get $monotonic))
      (then (global.set $monotonic (local.get $now))))
    (local.set $kept-a (i64.load (global.get $SCRATCH)))
    (local.set $kept-b (i64.load offset=8 (global.get $SCRATCH)))
    (call $wall-now (global.get $SCRATCH))
    (local.set $now (i64.add
      (i64.mul (i64.load (global.get $SCRATCH)) (i64.const 1000000000))
      (i64.load32_u offset=8 (global.get $SCRATCH))))
    ;; In the millisecond of the last safe point it goes on from where it is.
    (if (i64.gt_u (i64.sub (local.get $now) (i64.sub (global.get $wall) (i64.const 1000000))) (i64.const 1000000))
      (then
        (global.set $wall (local.get $now))
        (global.set $spare (i32.const 999))))
    (i64.store (global.get $SCRATCH) (local.get $kept-a))
    (i64.store offset=8 (global.get $SCRATCH) (local.get $kept-b)))

  (func $advance (param $nanoseconds i64)
    (global.set $monotonic (i64.add (global.get $monotonic) (local.get $nanoseconds))))

  ;; What a question adds.
  (func $tick
    (call $advance (i64.const 1000))
    (if (global.get $spare)
      (then
        (global.set $spare (i32.sub (global.get $spare) (i32.const 1)))
        (global.set $wall (i64.add (global.get $wall) (i64.const 1000))))))

  (func $now (param $clock i32) (result i64)
    (if (i32.eqz (global.get $started)) (then (call $set-clocks)))
    (if (result i64) (local.get $clock)
      (then (global.get $monotonic))
      (else (global.get $wall))))

  (func (export "clock_time_get") (param $clock i32) (param i64) (param $result i32) (result i32)
    (i64.store (local.get $result) (call $now (local.get $clock)))
    (call $tick)
    (global.get $OK))

  ;; Clocks tell whole milliseconds.
  (func (export "clock_res_get") (param $clock i32) (param $result i32) (result i32)
    (call $set-clocks)
    (i64.store (local.get $result) (i64.const 1000000))
    (global.get $OK))

  (func $stream (param $fd i32) (result i32)
    (if (i32.eq (local.get $fd) (i32.const 1))
      (then
        (if (i32.eq (global.get $stdout) (i32.const -1)) (then (global.set $stdout (call $get-stdout))))
        (return (global.get $stdout))))
    (if (i32.eq (local.get $fd) (i32.const 2))
      (then
        (if (i32.eq (global.get $stderr) (i32.const -1)) (then (global.set $stderr (call $get-stderr))))
        (return (global.get $stderr))))
    (i32.const -1))

  ;; Writes bytes to a stream. That it may fail is no concern of a handler.
  (func $say (param $stream i32) (param $bytes i32) (param $len i32)
    (local $part i32) (local $kept-a i64) (local $kept-b i64)
    (local.set $kept-a (i64.load (global.get $SCRATCH)))
    (local.set $kept-b (i64.load offset=8 (global.get $SCRATCH)))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $len)))
        (local.set $part (select (local.get $len) (global.get $WRITE)
          (i32.lt_u (local.get $len) (global.get $WRITE))))
        (call $stream-write (local.get $stream) (local.get $bytes) (local.get $part) (global.get $SCRATCH))
        (local.set $bytes (i32.add (local.get $bytes) (local.get $part)))
        (local.set $len (i32.sub (local.get $len) (local.get $part)))
        (br $next)))
    (i64.store (global.get $SCRATCH) (local.get $kept-a))
    (i64.store offset=8 (global.get $SCRATCH) (local.get $kept-b)))

  ;; Whether bytes for standard error are passed on. Go begins a stack with a write of just `goroutine `.
  (func $heard (param $bytes i32) (param $len i32) (result i32)
    (if (i32.and (i32.eq (local.get $len) (i32.const 10)) (i32.lt_s (global.get $lines) (i32.const 0)))
      (then (if (i32.and
          (i64.eq (i64.load (local.get $bytes)) (i64.const 0x6e6974756f726f67)) ;; goroutin
          (i32.eq (i32.load16_u offset=8 (local.get $bytes)) (i32.const 0x2065))) ;; e and a space
        (then (global.set $lines (i32.const 3))))))
    (if (i32.le_s (global.get $lines) (i32.const 0))
      (then (return (i32.lt_s (global.get $lines) (i32.const 0)))))
    (if (local.get $len)
      (then (if (i32.eq (i32.load8_u (i32.sub (i32.add (local.get $bytes) (local.get $len)) (i32.const 1)))
                        (i32.const 10))
        (then (global.set $lines (i32.sub (global.get $lines) (i32.const 1)))))))
    (i32.const 1))

  (func (export "fd_write")
    (param $fd i32) (param $parts i32) (param $count i32) (param $result i32) (result i32)
    (local $stream i32) (local $written i32) (local $bytes i32) (local $len i32)
    (local.set $stream (call $stream (local.get $fd)))
    (if (i32.eq (local.get $stream) (i32.const -1)) (then (return (global.get $EBADF))))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $count)))
        (local.set $bytes (i32.load (local.get $parts)))
        (local.set $len (i32.load offset=4 (local.get $parts)))
        (if (i32.eq (local.get $fd) (i32.const 2))
          (then (if (call $heard (local.get $bytes) (local.get $len))
            (then (call $say (local.get $stream) (local.get $bytes) (local.get $len)))))
          (else (call $say (local.get $stream) (local.get $bytes) (local.get $len))))
        (local.set $written (i32.add (local.get $written) (local.get $len)))
        (local.set $parts (i32.add (local.get $parts) (i32.const 8)))
        (local.set $count (i32.sub (local.get $count) (i32.const 1)))
        (br $next)))
    (i32.store (local.get $result) (local.get $written))
    (global.get $OK))

  (func (export "random_get") (param $bytes i32) (param $len i32) (result i32)
    (local $random i64)
    (block $whole
      (loop $next
        (br_if $whole (i32.lt_u (local.get $len) (i32.const 8)))
        (i64.store (local.get $bytes) (call $random))
        (local.set $bytes (i32.add (local.get $bytes) (i32.const 8)))
        (local.set $len (i32.sub (local.get $len) (i32.const 8)))
        (br $next)))
    (if (local.get $len) (then (local.set $random (call $random))))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $len)))
        (i64.store8 (local.get $bytes) (local.get $random))
        (local.set $random (i64.shr_u (local.get $random) (i64.const 8)))
        (local.set $bytes (i32.add (local.get $bytes) (i32.const 1)))
        (local.set $len (i32.sub (local.get $len) (i32.const 1)))
        (br $next)))
    (global.get $OK))

  ;; Of what is waited for only clocks can ever come: the first among the subscriptions is over at once.
  (func (export "poll_oneoff")
    (param $subscriptions i32) (param $events i32) (param $count i32) (param $result i32) (result i32)
    (local $wait i64)
    (block $found
      (loop $next
        (if (i32.eqz (local.get $count)) (then (return (global.get $EBADF))))
        (br_if $found (i32.eqz (i32.load8_u offset=8 (local.get $subscriptions))))
        (local.set $subscriptions (i32.add (local.get $subscriptions) (i32.const 48)))
        (local.set $count (i32.sub (local.get $count) (i32.const 1)))
        (br $next)))
    (local.set $wait (i64.load offset=24 (local.get $subscriptions)))
    ;; A point in time rather than a span.
    (if (i32.and (i32.load16_u offset=40 (local.get $subscriptions)) (i32.const 1))
      (then (local.set $wait (i64.sub (local.get $wait)
        (call $now (i32.load offset=16 (local.get $subscriptions)))))))
    (if (i64.gt_s (local.get $wait) (i64.const 0))
      (then
        (call $advance (local.get $wait))
        (global.set $forward (i64.add (global.get $forward) (local.get $wait)))))
    (i64.store (local.get $events) (i64.load (local.get $subscriptions)))
    (i64.store offset=8 (local.get $events) (i64.const 0))
    (i64.store offset=16 (local.get $events) (i64.const 0))
    (i64.store offset=24 (local.get $events) (i64.const 0))
    (i32.store (local.get $result) (i32.const 1))
    (global.get $OK))

  (func (export "args_sizes_get") (export "environ_sizes_get")
    (param $count i32) (param $bytes i32) (result i32)
    (i32.store (local.get $count) (i32.const 0))
    (i32.store (local.get $bytes) (i32.const 0))
    (global.get $OK))
  (func (export "args_get") (export "environ_get") (param i32 i32) (result i32) (global.get $OK))
  ;; How Go's bindings tell the official adapter that they are inside `cabi_realloc`. This one needs not know.
  (func (export "adapter_monotonic_clock_set_paused") (param i32))
  (func (export "sched_yield") (result i32) (global.get $OK))

  ;; Go ends with 2 when it crashes, after it has said why on standard error, which the host repeats. That is no `exit`.
  (func (export "proc_exit") (param $code i32)
    (if (i32.ne (local.get $code) (i32.const 2))
      (then (call $exit (i32.ne (local.get $code) (i32.const 0)))))
    unreachable)
  (func (export "proc_raise") (param i32) (result i32) unreachable)

  ;; No descriptor but those of standard output and error is good for anything.
  (func (export "fd_close") (export "fd_datasync") (export "fd_sync")
    (param i32) (result i32) (global.get $EBADF))
  (func (export "fd_fdstat_get") (export "fd_fdstat_set_flags") (export "fd_filestat_get") (export "fd_prestat_get")
    (export "fd_renumber") (export "fd_tell") (export "sock_shutdown")
    (param i32 i32) (result i32) (global.get $EBADF))
  (func (export "fd_prestat_dir_name") (export "path_create_directory") (export "path_remove_directory")
    (export "path_unlink_file") (export "sock_accept")
    (param i32 i32 i32) (result i32) (global.get $EBADF))
  (func (export "fd_read") (param i32 i32 i32 i32) (result i32) (global.get $EBADF))
  (func (export "path_filestat_get") (export "path_symlink") (export "sock_send")
    (param i32 i32 i32 i32 i32) (result i32) (global.get $EBADF))
  (func (export "path_readlink") (export "path_rename") (export "sock_recv")
    (param i32 i32 i32 i32 i32 i32) (result i32) (global.get $EBADF))
  (func (export "path_link") (param i32 i32 i32 i32 i32 i32 i32) (result i32) (global.get $EBADF))
  (func (export "fd_filestat_set_size") (param i32 i64) (result i32) (global.get $EBADF))
  (func (export "fd_allocate") (export "fd_fdstat_set_rights") (param i32 i64 i64) (result i32) (global.get $EBADF))
  (func (export "fd_advise") (export "fd_filestat_set_times")
    (param i32 i64 i64 i32) (result i32) (global.get $EBADF))
  (func (export "fd_seek") (param i32 i64 i32 i32) (result i32) (global.get $EBADF))
  (func (export "fd_pread") (export "fd_pwrite") (export "fd_readdir")
    (param i32 i32 i32 i64 i32) (result i32) (global.get $EBADF))
  (func (export "path_filestat_set_times")
    (param i32 i32 i32 i32 i64 i64 i32) (result i32) (global.get $EBADF))
  (func (export "path_open")
    (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32) (global.get $EBADF)))
