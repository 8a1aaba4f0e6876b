// Calls a model API from Node, once for each line on standard input.
//
// Usage: node node_client.js fetch|https. Lines and answers are those of python_sdk.py, with
// `provider` beside them. No package is needed.
"use strict";

const https = require("node:https");
const readline = require("node:readline");

const APIS = {
  openai: ["api.openai.com", "/v1/chat/completions", { authorization: "Bearer sk-test" }],
  anthropic: ["api.anthropic.com", "/v1/messages", { "x-api-key": "sk-test", "anthropic-version": "2023-06-01" }],
};

function request(call) {
  const [host, path, secret] = APIS[call.provider];
  const body = { model: call.model, messages: [{ role: "user", content: "Say something." }], stream: call.stream };
  if (call.provider === "anthropic") body.max_tokens = 300;
  else if (call.stream) body.stream_options = { include_usage: true };
  const headers = { "content-type": "application/json", "x-stand-in": JSON.stringify(call.wanted ?? {}), ...secret };
  return { host, path, headers, body: JSON.stringify(body) };
}

async function withFetch(call) {
  const { host, path, headers, body } = request(call);
  const response = await fetch(`https://${host}${path}`, { method: "POST", headers, body });
  await response.text();
  return { ok: response.ok, status: response.status };
}

const agent = new https.Agent({ keepAlive: true });

function withHttps(call) {
  const { host, path, headers, body } = request(call);
  return new Promise((resolve, reject) => {
    const outgoing = https.request({ host, path, headers, method: "POST", agent }, (response) => {
      response.on("error", reject);
      response.on("data", () => {});
      response.on("end", () => resolve({ ok: response.statusCode === 200, status: response.statusCode }));
    });
    outgoing.on("error", reject);
    outgoing.end(body);
  });
}

async function main() {
  const make = process.argv[2] === "fetch" ? withFetch : withHttps;
  console.log(JSON.stringify({ ready: true, pid: process.pid }));
  for await (const line of readline.createInterface({ input: process.stdin })) {
    let answer;
    try {
      answer = await make(JSON.parse(line));
    } catch (error) {
      answer = { ok: false, error: error.cause?.code ?? error.code ?? error.message, status: 0 };
    }
    console.log(JSON.stringify(answer));
  }
}

main();
