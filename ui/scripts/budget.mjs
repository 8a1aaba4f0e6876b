// Fails the build when the first page needs more than 250 kB of JavaScript (gzip).
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const LIMIT = 250_000;
const dist = join(dirname(fileURLToPath(import.meta.url)), "..", "dist");

/** A file and all that it imports statically, from the built output itself. */
function reach(path, seen) {
  if (seen.has(path)) return;
  seen.add(path);
  const text = readFileSync(path, "utf8");
  for (const [, next] of text.matchAll(/(?:from|import)\s*["'](\.\/[^"']+\.js)["']/g)) {
    reach(join(dirname(path), next), seen);
  }
}

const html = readFileSync(join(dist, "index.html"), "utf8");
const seen = new Set();
for (const [, url] of html.matchAll(/(?:src|href)="(\/[^"]+\.js)"/g)) reach(join(dist, url), seen);
if (/<script(?![^>]*\ssrc=)[^>]*>/.test(html))
  throw new Error("index.html has an inline script; the CSP forbids it");
const bytes = [...seen].reduce((sum, path) => sum + gzipSync(readFileSync(path)).length, 0);
console.log(`initial JavaScript: ${(bytes / 1000).toFixed(1)} kB gzip of ${LIMIT / 1000} kB`);
if (bytes > LIMIT) process.exit(1);
