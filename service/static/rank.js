// /rank: K responses, a rank for each, with optional ratings and remarks. A draft survives a reload.

import { fillCard, nameCard, openDesk } from "./desk.js";

const places = [...document.querySelectorAll(".response")];
let cards = places; // those of the task on screen: identical responses are shown once
const submit = document.querySelector('[data-action="submit"]');
let dropped = ""; // what is said of ranks that were too few to be stored
let current = null; // id of the task on screen, under which the draft is kept

const rankOf = (card) => Number(card.querySelector(".ranks input:checked")?.value ?? 0);
const ratingOf = (card) => Number(card.querySelector("select").value) || null;
const flagsOf = (card) => [...card.querySelectorAll("[name=flag]:checked")].map((box) => box.value);

function setRank(card, rank) {
  const input = card.querySelector(`.ranks input[value="${rank}"]`);
  if (input) input.checked = true;
  changed();
}

function changed() {
  block();
  if (!current) return;
  const draft = cards.map((card) => ({ rank: rankOf(card), rating: ratingOf(card), flags: flagsOf(card) }));
  sessionStorage.setItem("draft", JSON.stringify({ task: current, draft }));
}

// Only a whole ranking can be submitted.
function block() {
  submit.disabled = !cards.every(rankOf);
  if (submit.disabled) submit.dataset.blocked = "";
  else delete submit.dataset.blocked;
}

function restore(id) {
  const kept = JSON.parse(sessionStorage.getItem("draft") ?? "null");
  if (kept?.task !== id) return;
  kept.draft.forEach(({ rank, rating, flags }, position) => {
    const card = cards[position];
    if (rank) setRank(card, rank);
    card.querySelector("select").value = rating ?? "";
    for (const box of card.querySelectorAll("[name=flag]")) box.checked = flags.includes(box.value);
  });
}

function judgement(allBad) {
  const some = cards.some(rankOf) && !cards.every(rankOf);
  dropped = some ? " Your ranks are not stored: not every response had one." : "";
  const ratings = cards.map(ratingOf);
  const flags = cards.map(flagsOf);
  return {
    ...(cards.every(rankOf) ? { ranks: cards.map(rankOf) } : {}),
    ...(ratings.some(Boolean) ? { ratings } : {}),
    ...(flags.some((names) => names.length) ? { flags } : {}),
    ...(allBad ? { all_bad: true } : {}),
  };
}

const marked = () => cards.find((card) => card.contains(document.activeElement));
const mark = (position) => cards[(position + cards.length) % cards.length].focus();

const desk = openDesk({
  draw(task) {
    current = null;
    cards = places.slice(0, task.responses.length);
    places.forEach((card, position) => {
      card.hidden = position >= cards.length;
      for (const input of card.querySelectorAll(".ranks input"))
        input.closest("label").hidden = Number(input.value) > cards.length;
    });
    cards.forEach((card, position) => {
      fillCard(card, task.responses[position]);
      for (const input of card.querySelectorAll("input")) input.checked = false;
      card.querySelector("select").value = "";
      card.querySelector("details").open = false;
    });
    current = task.id;
    restore(task.id);
    block();
  },

  reveal(names, { ranks, all_bad }) {
    sessionStorage.removeItem("draft");
    cards.forEach((card, position) =>
      nameCard(card, names[position], !all_bad && ranks[position] === Math.min(...ranks)),
    );
    if (!all_bad) return "Your ranking is stored.";
    return ranks ? "You marked all of them as bad; your ranks are stored." : `You marked all of them as bad.${dropped}`;
  },

  key(event) {
    // In a group of ranks the arrow keys are the browser's: they change the rank.
    if (event.key.startsWith("Arrow") && event.target.matches("input[type=radio]")) return false;
    const card = marked();
    const digit = /^Digit([1-9])$/.exec(event.code)?.[1] ?? /^[1-9]$/.exec(event.key)?.[0];
    if (event.key === "ArrowRight" || event.key === "ArrowDown") mark(card ? cards.indexOf(card) + 1 : 0);
    else if (event.key === "ArrowLeft" || event.key === "ArrowUp") mark(card ? cards.indexOf(card) - 1 : -1);
    else if (digit && event.shiftKey && card && digit <= 7) rate(card, digit);
    else if (digit && !event.shiftKey && digit <= cards.length) rankNext(card ?? cards[0], digit);
    else if (event.key.toLowerCase() === "f" && card) toggle(card);
    else if (event.key.toLowerCase() === "b") desk.judge(judgement(true));
    else if (event.key === "Enter" && !submit.disabled) desk.judge(judgement(false));
    else return false;
    return true;
  },
});

function rate(card, rating) {
  card.querySelector("select").value = rating;
  card.querySelector("details").open = true;
  changed();
}

function rankNext(card, rank) {
  setRank(card, rank);
  const next = cards.findIndex((other) => !rankOf(other));
  if (next >= 0) mark(next);
  else card.focus();
}

function toggle(card) {
  const extra = card.querySelector("details");
  extra.open = !extra.open;
}

for (const card of cards) card.addEventListener("change", changed);
submit.addEventListener("click", () => desk.judge(judgement(false)));
document.querySelector('[data-action="bad"]').addEventListener("click", () => desk.judge(judgement(true)));
