// Calls a model API over and over with `fetch`, which Node, Bun and Deno all have.
const body = JSON.stringify({ model: "gpt-4o-mini", messages: [{ role: "user", content: "Hi" }] });
const headers = { "content-type": "application/json", connection: "close" };
for (;;) {
  try {
    const answer = await fetch("https://api.openai.com/v1/chat/completions", { method: "POST", headers, body });
    await answer.text();
  } catch {
    // It calls again.
  }
  await new Promise((resolve) => setTimeout(resolve, 500));
}
