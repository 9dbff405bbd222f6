"""Makes the vendored runtime of `componentize-qjs` give the same component for the same source.

    python3 patch.py runtime-sync.wasm quickjs-sync.wasm

Until the export `init` has returned, which is when the component is made, the clocks stand at zero and the seed of hashes is
fixed. Afterwards both are the host's. Only calls of the three imports are led elsewhere; nothing else changes.
"""
import sys

def leb(d, p):
    value = shift = 0
    while True:
        byte = d[p]; p += 1
        value |= (byte & 127) << shift; shift += 7
        if not byte & 128: return value, p

def uleb(n):
    out = bytearray()
    while True:
        byte = n & 127; n >>= 7
        out.append(byte | (128 if n else 0))
        if not n: return bytes(out)

def vector(items): return uleb(len(items)) + b"".join(items)
def name(d, p):
    n, p = leb(d, p); return d[p:p + n].decode(), p + n

def step(d, p):
    """Past one instruction; (opcode, where its immediate begins, the next)."""
    op = d[p]; p += 1; at = p
    skip = lambda p, n: p if n == 0 else skip(leb(d, p)[1], n - 1)
    if op in (0x02, 0x03, 0x04, 0x0c, 0x0d, 0x10, 0x12, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x41, 0x42, 0xd0, 0xd2): p = skip(p, 1)
    elif op in (0x11, 0x13): p = skip(p, 2)
    elif op in (0x0e, ): n, p = leb(d, p); p = skip(p, n + 1)
    elif op == 0x1c: n, p = leb(d, p); p = skip(p, n)
    elif 0x28 <= op <= 0x3e: p = skip(p, 2)
    elif op in (0x3f, 0x40): p += 1
    elif op == 0x43: p += 4
    elif op == 0x44: p += 8
    elif op == 0xfc:
        sub, p = leb(d, p)
        p = skip(p, 0 if sub < 8 else 2 if sub in (8, 10, 12, 14) else 1)
    elif op in (0x00, 0x01, 0x05, 0x0b, 0x0f, 0x1a, 0x1b, 0xd1) or 0x45 <= op <= 0xc4: pass
    else: raise SystemExit(f"an instruction that is not known: {op:#x}")
    return op, at, p

source = open(sys.argv[1], "rb").read()
sections, p = [], 8
while p < len(source):
    n, q = leb(source, p + 1); sections.append([source[p], source[q:q + n]]); p = q + n
get = lambda id: next(body for kind, body in sections if kind == id)

imports, globals_, functions = {}, 0, 0
d = get(2); count, p = leb(d, 0)
for _ in range(count):
    module, p = name(d, p); field, p = name(d, p); kind = d[p]; p += 1
    if kind == 0: imports[module, field] = functions; functions += 1; _, p = leb(d, p)
    elif kind == 1: flags = d[p + 1]; _, p = leb(d, p + 2); p = leb(d, p)[1] if flags & 1 else p
    elif kind == 2: flags = d[p]; _, p = leb(d, p + 1); p = leb(d, p)[1] if flags & 1 else p
    elif kind == 3: globals_ += 1; p += 2
d = get(3); count, p = leb(d, 0); types = []
for _ in range(count): kind, p = leb(d, p); types.append(kind)
imported = functions; functions += count
d = get(6); count, first = leb(d, 0); live = globals_ + count
new_globals = uleb(count + 1) + d[first:] + bytes([0x7f, 1, 0x41, 0, 0x0b])

d = get(1); signatures, p = [], 0
count, p = leb(d, 0)
for _ in range(count):
    assert d[p] == 0x60; begin = p; n, q = leb(d, p + 1); q += n; m, r = leb(d, q); p = r + m
    signatures.append(d[begin:p])
type_of = {}
I32, I64 = 0x7f, 0x7e
sig = lambda params, results: signatures.index(bytes([0x60, len(params), *params, len(results), *results]))

d = get(7); count, p = leb(d, 0); exports, init = [], None
for _ in range(count):
    field, p = name(d, p); kind = d[p]; index, p = leb(d, p + 1)
    if field == "init": init = index; index = functions + 3
    exports.append(uleb(len(field)) + field.encode() + bytes([kind]) + uleb(index))
init_type = types[init - imported]
params = signatures[init_type][1]

LIVE = b"\x23" + uleb(live)
def body(code): code = b"\x00" + code + b"\x0b"; return uleb(len(code)) + code
seed = imports["wasi:random/insecure-seed@0.2.12", "insecure-seed"]
mono = imports["wasi:clocks/monotonic-clock@0.2.0", "now"]
wall = imports["wasi:clocks/wall-clock@0.2.0", "now"]
zero64 = lambda offset: b"\x20\x00\x42\x00\x37\x03" + uleb(offset)
into = lambda index: body(LIVE + b"\x04\x40\x20\x00\x10" + uleb(index) + b"\x05" + zero64(0) + zero64(8) + b"\x0b")
added = [
    (sig([I32], []), into(seed)),
    (sig([], [I64]), body(LIVE + b"\x04\x7e\x10" + uleb(mono) + b"\x05\x42\x00\x0b")),
    (sig([I32], []), into(wall)),
    (init_type, body(b"".join(b"\x20" + uleb(at) for at in range(params)) + b"\x10" + uleb(init) + b"\x41\x01\x24" + uleb(live))),
]
led = {seed: functions, mono: functions + 1, wall: functions + 2}

d = get(10); count, p = leb(d, 0); codes, calls = [], {index: 0 for index in led}
for _ in range(count):
    size, p = leb(d, p); end = p + size; begin = p
    groups, q = leb(d, p)
    for _ in range(groups): q = leb(d, q)[1] + 1
    out, last = bytearray(), begin
    while q < end:
        op, at, q = step(d, q)
        if op == 0x10 and (target := leb(d, at)[0]) in led:
            calls[target] += 1; out += d[last:at] + uleb(led[target]); last = q
    out += d[last:end]
    codes.append(uleb(len(out)) + bytes(out)); p = end
assert all(calls.values()), calls

replaced = {
    3: vector([uleb(kind) for kind in types + [kind for kind, _ in added]]),
    6: new_globals,
    7: vector(exports),
    10: vector(codes + [code for _, code in added]),
}
result = source[:8]
for kind, content in sections:
    content = replaced.get(kind, content) if kind else content
    result += bytes([kind]) + uleb(len(content)) + content
open(sys.argv[2], "wb").write(result)
print({key: calls[index] for key, index in (("seed", seed), ("monotonic", mono), ("wall", wall))})
