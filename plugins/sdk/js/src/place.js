// The place where something was thrown: the author's file and line, from those of the bundle in which it ran.

/** The part that `build.js` leaves of the bundle's source map: its first line, how many, the file, the first line there; and so on. */
const { files, runs } = typeof __pgstreamPlaces === "undefined" ? { files: [], runs: [] } : __pgstreamPlaces;

const FRAME = /componentize-qjs:user\.js:(\d+)(?::\d+)?/g;

function found(line) {
  for (let at = 0; at < runs.length; at += 4) {
    const after = line - runs[at];
    if (after >= 0 && after < runs[at + 1]) return { file: files[runs[at + 2]], line: runs[at + 3] + after };
  }
  return undefined;
}

/** `" (handler.js:12)"`: the innermost line that is the author's own, or else that of a package; empty if there is none. */
export function place(error) {
  const stack = error instanceof Error && typeof error.stack === "string" ? error.stack : "";
  const lines = Array.from(stack.matchAll(FRAME), ([, line]) => found(Number(line))).filter(Boolean);
  const best = lines.find(({ file }) => !file.includes("node_modules/")) ?? lines[0];
  return best ? ` (${best.file}:${best.line})` : "";
}

/** The stack, with the author's files and lines. */
export function stack(error) {
  return String(error.stack).replace(FRAME, (frame, line) => {
    const at = found(Number(line));
    return at ? `${at.file}:${at.line}` : frame;
  });
}
