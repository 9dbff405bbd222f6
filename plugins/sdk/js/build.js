// Makes a component of a handler: `node build.js PROJECT OUT`. `pgstream-host build` runs this.
//
// esbuild bundles the handler, TypeScript too, with this SDK; componentize-qjs puts the bundle into QuickJS. Both are the
// project's own, as its package.json pins them. The folder `wit` beside this SDK holds the contract.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { spawnSync } from "node:child_process";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliDecompressSync } from "node:zlib";

const sdk = dirname(fileURLToPath(import.meta.url));
const [project, out] = process.argv.slice(2).map((path) => resolve(path));
if (!project || !out) fail("usage: node build.js PROJECT OUT");

const manifest = JSON.parse(readFileSync(join(project, "package.json"), "utf8"));
const require = createRequire(join(project, "package.json"));
const entry = handler();

check();
const { componentize } = tool("componentize-qjs");
const { component } = await componentize({
  witPath: resolve(sdk, "..", "wit"),
  world: "handler",
  jsSource: await bundle(),
  runtimeBytes: brotliDecompressSync(readFileSync(join(sdk, "runtime", "quickjs-sync.wasm.br"))),
}).catch((error) => {
  fail(
    `the handler's top level failed when it ran, which it does at build time:\n${error.message}\n` +
      "config(), embed(), the log and console are there only while an event is handled",
  );
});
writeFileSync(out, component);

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

async function bundle() {
  const { build, formatMessages } = tool("esbuild");
  const start = `import * as handler from ${JSON.stringify(`./${entry}`)};
    import { serve } from "pgstream-handler/serve";
    export const handle = serve(handler);`;
  try {
    const result = await build({
      stdin: { contents: start, resolveDir: project, sourcefile: "component.js" },
      absWorkingDir: project,
      bundle: true,
      write: false,
      format: "esm",
      target: "es2023",
      platform: "neutral",
      mainFields: ["module", "main"],
      conditions: ["pgstream", "module"],
      external: ["pgstream:*"],
      define: { "process.env.NODE_ENV": '"production"' },
      legalComments: "none",
      logLevel: "silent",
    });
    return result.outputFiles[0].text;
  } catch (error) {
    if (!error.errors) throw error;
    const shown = await formatMessages(error.errors, { kind: "error", color: false });
    const node = error.errors.some(({ text }) => /"(node:|fs"|path"|crypto"|http)/.test(text));
    fail(shown.join("") + (node ? "a handler runs in QuickJS, which has none of Node.js's own modules" : ""));
  }
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
