// The flow of tasks that comparing and ranking share: fetch, judge, reveal, next, undo, skip, own prompt.
//
// The page gives three functions: `draw(task)` shows the responses, `reveal(names, judgement)` shows who wrote
// them, `key(event)` handles the page's own keys and returns true when it used one.

import { element, post } from "./api.js";

const RETRY_MS = 4000;
const $ = (selector) => document.querySelector(selector);

export function openDesk({ draw, reveal, key }) {
  const root = $("#desk");
  const wanted = { kind: root.dataset.kind, k: Number(root.dataset.k) };
  const held = []; // tasks put aside by an undo or an own prompt; they come back first
  let task = null; // on screen
  let phase = "loading"; // loading | open | sending | revealed | empty | failed
  let upcoming = null; // promise of the task after this one, fetched while the names are read
  let last = null; // id of the task that undo reopens
  let since = 0;
  let retry = 0;

  const button = (action) => $(`[data-action="${action}"]`);

  function setPhase(next) {
    phase = next;
    root.dataset.phase = next;
    $("#task").hidden = task === null;
    $("#judgement").hidden = next === "revealed" || task === null;
    for (const control of root.querySelectorAll("#judgement button, .choose, .response input, .response select"))
      control.disabled = next !== "open" || "blocked" in control.dataset;
    button("next").hidden = next !== "revealed";
    button("skip").disabled = next !== "open";
    button("undo").disabled = last === null || next === "sending" || next === "loading";
    button("own").disabled = next === "sending";
  }

  function say(text, kind = "") {
    const status = $("#status");
    status.textContent = text;
    status.className = `notice ${kind}`;
  }

  function showProgress(progress) {
    if (!progress) return; // not counted this time: the last one stays
    const { answered, left } = progress;
    const total = answered + left;
    $("#progress").hidden = false;
    $("#progress progress").value = total ? answered / total : 0;
    $("#progress span").textContent = `${answered} judged · ${left} left`;
  }

  function show(found) {
    clearTimeout(retry);
    showProgress(found.progress);
    task = found.task;
    if (task === null) {
      setPhase("empty");
      const aside = found.progress?.set_aside;
      const refused = aside ? ` No model takes ${aside} more: whoever runs this service can see why.` : "";
      say(`No prompts are left for you. Thank you! You can still type a prompt of your own with N.${refused}`, "good");
      return;
    }
    $("#messages").replaceChildren(
      ...task.messages.map((message) => {
        const turn = element("div", `turn ${message.role}`);
        if (task.messages.length > 1) turn.append(element("span", "role", message.role));
        turn.append(element("div", "text", message.content));
        return turn;
      }),
    );
    draw(task);
    setPhase("open");
    say(found.identical ? `Passed over ${found.identical} prompts: all their responses were identical.` : "");
    since = performance.now();
    $("#prompt-title").focus({ preventScroll: true });
    window.scrollTo({ top: 0 });
  }

  // The oldest open task comes first: one fetched before a reload of the page is not lost.
  const fetchNext = () => post("/api/tasks/next", { ...wanted, resume: true });

  async function advance() {
    if (held.length) return show(held.pop());
    const asked = upcoming ?? fetchNext();
    upcoming = null;
    task = null;
    setPhase("loading");
    say("Fetching responses…");
    try {
      show(await asked);
    } catch (failure) {
      failed(failure);
    }
  }

  function failed(failure) {
    setPhase("failed");
    if (failure.status === 401) return location.reload();
    say(`${sentence(failure.message)} Trying again every few seconds.`, "bad");
    retry = setTimeout(advance, RETRY_MS);
  }

  // Send something about the task on screen. On failure the task stays as it is.
  async function send(path, body) {
    setPhase("sending");
    try {
      return await post(path, body);
    } catch (failure) {
      setPhase("open");
      say(sentence(failure.message), "bad");
      if (["task_expired", "task_closed", "bad_token"].includes(failure.code)) {
        say(`${sentence(failure.message)} Here is the next one.`, "bad");
        setTimeout(advance, 1500);
      }
      return null;
    }
  }

  async function judge(judgement) {
    if (phase !== "open") return;
    const seconds = Math.round(performance.now() - since) / 1000;
    const answered = await send(`/api/tasks/${task.id}/answer`, { token: task.token, seconds, ...judgement });
    if (!answered) return;
    last = task.id;
    showProgress(answered.progress);
    if (!held.length) {
      upcoming = fetchNext();
      upcoming.catch(() => {}); // shown when the labeler goes on
    }
    setPhase("revealed");
    const names = answered.reveal
      .sort((a, b) => a.position - b.position)
      .map((entry) => [entry.checkpoint ?? "unknown", ...entry.aliases]);
    say(reveal(names, judgement), "good");
    button("next").focus({ preventScroll: true });
  }

  async function skip() {
    if (phase !== "open") return;
    const id = task.id;
    const skipped = await send(`/api/tasks/${id}/skip`, { token: task.token });
    if (!skipped) return;
    last = id;
    await advance();
  }

  async function undo() {
    if (last === null || !["open", "revealed", "empty", "failed"].includes(phase)) return;
    const current = phase === "open" ? task : null;
    try {
      const found = await post(`/api/tasks/${last}/undo`);
      if (current) held.push({ task: current, progress: found.progress });
      last = null;
      show(found);
      say("Taken back. Judge it again.");
    } catch (failure) {
      say(sentence(failure.message), "bad");
    }
  }

  async function ask(text) {
    const current = phase === "open" ? { task, progress: null } : null;
    clearTimeout(retry);
    setPhase("loading");
    say("The models are answering…");
    try {
      const found = await post("/api/tasks/prompt", { ...wanted, text });
      if (current) held.push({ ...current, progress: found.progress });
      show(found);
      return true;
    } catch (failure) {
      if (!task) failed(failure);
      else {
        setPhase(current ? "open" : "revealed");
        say(sentence(failure.message), "bad");
      }
      return false;
    }
  }

  const actions = {
    next: () => phase === "revealed" && advance(),
    undo,
    skip,
    own: () => openDialog("own"),
    help: () => openDialog("help"),
  };

  root.addEventListener("click", (event) => {
    const pressed = event.target.closest("[data-action]");
    if (pressed && Object.hasOwn(actions, pressed.dataset.action)) actions[pressed.dataset.action]();
  });

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    const dialog = $("dialog[open]");
    if (dialog) {
      if (event.key === "?" && dialog.id === "help") dialog.close();
      return;
    }
    if (event.target.matches("textarea, select, input:not([type=radio]):not([type=checkbox])")) return;
    const onControl = event.target.closest("button, a, summary, input");
    if (event.key === "Enter" && onControl && !onControl.matches("input")) return; // the browser presses it
    const names = { u: "undo", s: "skip", n: "own", "?": "help" };
    const action = names[event.key.toLowerCase()];
    if (action) actions[action]();
    else if (event.key === "Enter" && phase === "revealed") advance();
    else if (!(phase === "open" && key(event))) return;
    event.preventDefault();
  });

  wireDialogs(ask);
  rememberGuidelines();
  advance();
  return { judge };
}

function openDialog(id) {
  const dialog = $(`#${id}`);
  if (!dialog.open) dialog.showModal();
  dialog.querySelector("textarea")?.focus();
}

function wireDialogs(ask) {
  for (const close of document.querySelectorAll("[data-close]"))
    close.addEventListener("click", () => close.closest("dialog").close());
  const form = $("#own form");
  const text = $("#own-text");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!text.value.trim()) return;
    $("#own").close();
    if (await ask(text.value)) text.value = ""; // kept when it failed, so that nothing typed is lost
  });
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
}

function rememberGuidelines() {
  const box = $("#guidelines");
  if (localStorage.getItem("guidelines") === box.dataset.version) box.open = false; // a new version opens again
  box.addEventListener("toggle", () => {
    if (box.open) localStorage.removeItem("guidelines");
    else localStorage.setItem("guidelines", box.dataset.version);
  });
}

// The service's messages start small and have no full stop.
function sentence(message) {
  const text = message.charAt(0).toUpperCase() + message.slice(1);
  return /[.!?…]$/.test(text) ? text : `${text}.`;
}

// Put a response's text into its card, and say so when it was cut off or is empty.
export function fillCard(card, response) {
  const text = card.querySelector(".text");
  text.replaceChildren();
  if (response.text.trim()) text.textContent = response.text;
  else text.append(element("em", "missing", "(empty response)"));
  if (response.truncated) text.append(element("span", "cut", " … cut off at its length limit"));
  card.classList.remove("chosen");
  card.querySelector(".name").hidden = true;
}

export function nameCard(card, [checkpoint, ...aliases], chosen) {
  const name = card.querySelector(".name");
  name.replaceChildren(element("code", "", checkpoint), ...aliases.map((alias) => element("span", "alias", alias)));
  name.hidden = false;
  card.classList.toggle("chosen", chosen);
}
