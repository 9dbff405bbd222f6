// Makes a component of a handler: `node build.js PROJECT OUT`. `pgstream-host build` runs this.
//
// esbuild bundles the handler, TypeScript too, with this SDK; componentize-qjs puts the bundle into QuickJS. Both are the
// project's own, as its package.json pins them. The folder `wit` beside this SDK holds the contract.

import { copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { spawnSync } from "node:child_process";
import { tmpdir } from "node:os";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliDecompressSync } from "node:zlib";

/** Stands for the places until it is known in which line the bundle begins. */
const PLACES = "__pgstream_places__";

/**
 * Stands for `wasi:` in the names of what requests need, until the component is made: componentize-qjs runs the handler once, on
 * a WASI of its own that has no HTTP, and what bears no name of WASI's it takes as not there yet. Both are of one length, so that
 * the names can be put right in the component.
 */
const BORROWED = "pasi:";

const sdk = dirname(fileURLToPath(import.meta.url));
const [project, out] = process.argv.slice(2).map((path) => resolve(path));
if (!project || !out) fail("usage: node build.js PROJECT OUT");

const manifest = JSON.parse(readFileSync(join(project, "package.json"), "utf8"));
const require = createRequire(join(project, "package.json"));
const entry = handler();

check();
const { componentize } = tool("componentize-qjs");
const source = program(await bundle());
const asksOthers = source.text.includes(`"${BORROWED}http/types@`);
const { component } = await componentize({
  witPath: contract(asksOthers),
  world: "javascript",
  jsSource: source.text,
  runtimeBytes: brotliDecompressSync(readFileSync(join(sdk, "runtime", "quickjs-sync.wasm.br"))),
}).catch((error) => {
  fail(`the handler's top level failed when it ran, which it does at build time too:\n${shown(error.message)}`);
});
writeFileSync(out, asksOthers ? named(component) : component);

/** The file that exports the handler: `main` of package.json, or one of the usual names. */
function handler() {
  if (manifest.main) return manifest.main;
  const names = ["handler.ts", "handler.js", "src/handler.ts", "src/handler.js"];
  return names.find((name) => existsSync(join(project, name))) ?? fail("package.json names no `main`: the handler's file");
}

/** Has the TypeScript compiler look at the types, if the project has one. */
function check() {
  if (!existsSync(join(project, "tsconfig.json"))) return;
  let compiler;
  try {
    compiler = require.resolve("typescript/package.json");
  } catch {
    return;
  }
  const { bin } = JSON.parse(readFileSync(compiler, "utf8"));
  const arguments_ = [join(dirname(compiler), bin.tsc), "--noEmit", "--project", project];
  const { status } = spawnSync(process.execPath, arguments_, { cwd: project, stdio: "inherit" });
  if (status !== 0) fail("the types do not fit");
}

/** The contract, and what the SDK asks for besides, in one folder. */
function contract(asksOthers) {
  const folder = mkdtempSync(join(tmpdir(), "pgstream-wit-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  cpSync(resolve(sdk, "..", "wit"), folder, { recursive: true, dereference: true });
  copyFileSync(join(sdk, "wit", "javascript.wit"), join(folder, "javascript.wit"));
  mkdirSync(join(folder, "deps", "random"), { recursive: true });
  copyFileSync(join(sdk, "wit", "random.wit"), join(folder, "deps", "random", "random.wit"));
  if (!asksOthers) return folder;
  for (const name of ["http", "io", "clocks"]) {
    mkdirSync(join(folder, "deps", name));
    const text = readFileSync(join(sdk, "wit", `${name}.wit`), "utf8");
    writeFileSync(join(folder, "deps", name, `${name}.wit`), text.replaceAll("wasi:", BORROWED));
  }
  const world = readFileSync(join(folder, "javascript.wit"), "utf8");
  const imports = ["types", "outgoing-handler"].map((name) => `  import ${BORROWED}http/${name}@0.2.6;\n`).join("");
  writeFileSync(join(folder, "javascript.wit"), world.replace(/}\s*$/, `${imports}}\n`));
  return folder;
}

/** The component with WASI's own names. */
function named(component) {
  const bytes = Buffer.from(component);
  for (const name of ["http", "io", "clocks"]) {
    const [borrowed, own] = [BORROWED, "wasi:"].map((start) => Buffer.from(`${start}${name}`));
    for (let at = bytes.indexOf(borrowed); at >= 0; at = bytes.indexOf(borrowed, at)) own.copy(bytes, at);
  }
  return bytes;
}

/** The handler with the SDK, as one text; and where each line of it comes from. */
async function bundle() {
  const { build, formatMessages } = tool("esbuild");
  const start = `import "pgstream-handler/prelude";
    import * as handler from ${JSON.stringify(`./${entry}`)};
    import { serve } from "pgstream-handler/serve";
    export const handle = serve(handler);`;
  try {
    const result = await build({
      stdin: { contents: start, resolveDir: project, sourcefile: "component.js" },
      absWorkingDir: project,
      outfile: join(project, "component.js"),
      bundle: true,
      write: false,
      sourcemap: "external",
      sourcesContent: false,
      format: "cjs",
      target: "es2023",
      // Promises are the SDK's own: see `src/promise.js`.
      supported: {
        "async-await": false,
        "async-generator": false,
        "for-await": false,
        "dynamic-import": false,
        "top-level-await": false,
      },
      platform: "neutral",
      mainFields: ["module", "main"],
      conditions: ["pgstream", "module"],
      external: ["pgstream:*", "wasi:*", `${BORROWED}*`],
      define: { "process.env.NODE_ENV": '"production"' },
      legalComments: "none",
      logLevel: "silent",
    });
    const [map, code] = ["component.js.map", "component.js"].map(
      (name) => result.outputFiles.find(({ path }) => path.endsWith(name)).text,
    );
    return { code, places: places(JSON.parse(map)) };
  } catch (error) {
    if (!error.errors) throw error;
    const shown = await formatMessages(error.errors, { kind: "error", color: false });
    const said = (pattern) => error.errors.some(({ text }) => pattern.test(text));
    const advice = said(/"(node:|fs"|path"|crypto"|http)/)
      ? "a handler runs in QuickJS, which has none of Node.js's own modules"
      : said(/[Tt]op-level await/)
        ? "a handler is synchronous: its module can wait for nothing when it begins"
        : "";
    fail(shown.join("") + advice);
  }
}

/**
 * The module that is put into QuickJS. What runs is kept in the component as it is then, so the handler's modules run at the
 * build only to be looked at, and again in each instance when it is first called: times and random numbers are its own.
 */
function program({ code, places }) {
  const imports = ["pgstream:host/log@0.1.0", "pgstream:host/config@0.1.0", "pgstream:host/embeddings@0.1.0"];
  imports.push("wasi:random/random@0.2.6");
  if (code.includes(`"${BORROWED}http/types@`)) {
    imports.push(`${BORROWED}http/types@0.2.6`, `${BORROWED}http/outgoing-handler@0.2.6`);
  }
  const lines = [
    ...imports.map((name, at) => `import * as host${at} from ${JSON.stringify(name)};`),
    `const hosts = { ${imports.map((name, at) => `${JSON.stringify(name)}: host${at}`).join(", ")} };`,
    "const require = (name) => { if (hosts[name]) return hosts[name]; throw new Error(`there is no module ${name} here`); };",
    "let __pgstreamBuilding = true;",
    `const __pgstreamPlaces = ${PLACES};`,
    "const begin = () => { const module = { exports: {} }; let { exports } = module;",
  ];
  const first = lines.length + 1;
  const shifted = { files: places.files, runs: places.runs.map((part, at) => (at % 4 === 0 ? part + first : part)) };
  const text = [
    ...lines,
    code,
    "return module.exports; };",
    "begin();",
    "__pgstreamBuilding = false;",
    "let handler;",
    "export const handle = (batch) => (handler ??= begin().handle)(batch);",
    "",
  ]
    .join("\n")
    .replace(PLACES, () => JSON.stringify(shifted));
  return { text, places: shifted };
}

/** Of a source map, runs of lines that follow one another in the bundle and in a file: `[line, how many, file, line there, …]`. */
function places({ mappings, sources }) {
  const outside = (path) => path.startsWith("..") || /(^|\/)node_modules\/pgstream-handler\/|^(sdk\/|component\.js)/.test(path);
  const files = sources.map((path) => relative(project, join(project, path)).replaceAll("\\", "/"));
  const runs = [];
  let [source, line] = [0, 0];
  mappings.split(";").forEach((segments, at) => {
    let seen = false;
    for (const segment of segments === "" ? [] : segments.split(",")) {
      const [, bySource, byLine] = numbers(segment);
      if (bySource === undefined) continue;
      source += bySource;
      line += byLine;
      if (seen || outside(files[source])) continue;
      seen = true;
      const last = runs.length - 4;
      if (last >= 0 && runs[last + 2] === source && runs[last] + runs[last + 1] === at && runs[last + 3] + runs[last + 1] === line + 1) {
        runs[last + 1]++;
      } else {
        runs.push(at, 1, source, line + 1);
      }
    }
  });
  return { files, runs };
}

/** What a segment of a source map says: numbers in base 64, the sign last. */
function numbers(segment) {
  const all = [];
  let [value, shift] = [0, 0];
  for (const character of segment) {
    const digit = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".indexOf(character);
    value += (digit & 31) << shift;
    shift += 5;
    if (digit & 32) continue;
    all.push(value & 1 ? -(value >> 1) : value >> 1);
    [value, shift] = [0, 0];
  }
  return all;
}

/** What the engine says of an error, with the author's files and lines. */
function shown(message) {
  const { files, runs } = source.places;
  const place = (frame, line) => {
    for (let at = 0; at < runs.length; at += 4) {
      const after = Number(line) - runs[at];
      if (after >= 0 && after < runs[at + 1]) return `${files[runs[at + 2]]}:${runs[at + 3] + after}`;
    }
    return frame;
  };
  const inner = /JavaScript module evaluation: (.*)$/s.exec(message)?.[1] ?? message;
  const lines = inner.replace(/componentize-qjs:user\.js:(\d+):\d+/g, place).split("\n");
  return lines.filter((line) => !line.includes("componentize-qjs:")).join("\n").trim();
}

function tool(name) {
  try {
    return require(name);
  } catch (error) {
    return fail(`\`${name}\` cannot be loaded: run \`npm install\` in ${project}\n${error.message}`);
  }
}

function fail(why) {
  console.error(why);
  process.exit(1);
}
