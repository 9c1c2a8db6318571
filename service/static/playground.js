// /playground: a chat over the same OpenAI routes that programs use, streamed.

import { element } from "./api.js";

const $ = (id) => document.getElementById(id);
let chat = { messages: [], running: null }; // a new one for each chat: an answer that ends late finds its own
let key = ""; // kept in this page only

function headers() {
  return { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
}

function say(text) {
  $("status").textContent = text;
  $("status").className = "notice bad";
  $("status").hidden = !text;
}

async function explain(reply) {
  const data = await reply.json().catch(() => ({}));
  if (reply.status === 401) $("key-form").hidden = false;
  return data.error?.message ?? `The service answered ${reply.status}.`;
}

async function loadModels() {
  const reply = await fetch("/v1/models", { headers: headers() });
  if (!reply.ok) return say(await explain(reply));
  const models = (await reply.json()).data.filter((model) => model.kind !== "reward");
  $("model").replaceChildren(...models.map((model) => new Option(model.id, model.id)));
  if (models.some((model) => model.id === "policy/production")) $("model").value = "policy/production";
  $("model").disabled = models.length === 0;
  say(models.length ? "" : "No model is ready yet. Start an engine, then reload this page.");
}

function turn(role, text) {
  const box = element("div", `turn ${role}`);
  const body = element("div", "text", text);
  box.append(element("span", "role", role), body);
  $("log").append(box);
  box.scrollIntoView({ block: "end" });
  return body;
}

async function send(text) {
  const own = chat;
  const { messages } = own;
  say("");
  messages.push({ role: "user", content: text });
  turn("user", text);
  const system = $("system").value.trim();
  own.running = new AbortController();
  showRunning(true);
  const body = turn("assistant", "");
  let answer = "";
  try {
    const reply = await fetch("/v1/chat/completions", {
      method: "POST",
      headers: headers(),
      signal: own.running.signal,
      body: JSON.stringify({
        model: $("model").value,
        messages: system ? [{ role: "system", content: system }, ...messages] : messages,
        temperature: Number($("temperature").value),
        stream: true,
      }),
    });
    if (!reply.ok) throw new Error(await explain(reply));
    for await (const piece of pieces(reply.body)) {
      answer += piece;
      body.textContent = answer;
    }
  } catch (failure) {
    if (own === chat && failure.name !== "AbortError") say(failure.message);
  }
  own.running = null;
  if (own !== chat) return; // a new chat has begun meanwhile
  showRunning(false);
  if (answer) messages.push({ role: "assistant", content: answer });
  else {
    // Nothing came back: take the turn off, and keep what was typed.
    messages.pop();
    $("log").lastChild.remove();
    $("log").lastChild.remove();
    if (!$("text").value) $("text").value = text;
  }
  $("text").focus();
}

function showRunning(running) {
  $("send").hidden = running;
  $("stop").hidden = !running;
}

// The texts of a stream of server-sent events.
async function* pieces(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
      const event = JSON.parse(line.slice(6));
      if (event.error) throw new Error(event.error.message);
      yield event.choices?.[0]?.delta?.content ?? "";
    }
  }
}

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value;
  if (chat.running || !text.trim() || !$("model").value) return;
  $("text").value = "";
  send(text);
});
$("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
});
$("stop").addEventListener("click", () => chat.running?.abort());
$("clear").addEventListener("click", () => {
  chat.running?.abort();
  chat = { messages: [], running: null };
  showRunning(false);
  say("");
  $("log").replaceChildren();
  $("text").focus();
});
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key = $("key").value.trim();
  $("key-form").hidden = true;
  loadModels();
});

loadModels();
