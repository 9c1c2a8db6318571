// /compare: two responses, one judgement.

import { fillCard, nameCard, openDesk } from "./desk.js";

const cards = [...document.querySelectorAll(".response")];

const judgements = {
  "choose-0": { ranks: [1, 2] },
  "choose-1": { ranks: [2, 1] },
  tie: { ranks: [1, 1] },
  bad: { ranks: [1, 1], all_bad: true },
};
const keys = { 1: "choose-0", ArrowLeft: "choose-0", 2: "choose-1", ArrowRight: "choose-1", t: "tie", b: "bad" };

const desk = openDesk({
  draw: (task) => cards.forEach((card, position) => fillCard(card, task.responses[position])),

  reveal(names, { ranks, all_bad }) {
    cards.forEach((card, position) => nameCard(card, names[position], !all_bad && ranks[position] === 1));
    if (all_bad) return "You marked both as bad.";
    return ranks[0] === ranks[1] ? "You rated both equally good." : `You preferred ${names[ranks.indexOf(1)][0]}.`;
  },

  key(event) {
    const action = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (action) desk.judge(judgements[action]);
    return Boolean(action);
  },
});

for (const [action, judgement] of Object.entries(judgements))
  document.querySelector(`[data-action="${action}"]`).addEventListener("click", () => desk.judge(judgement));
