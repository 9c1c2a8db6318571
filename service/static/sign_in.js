import { post } from "./api.js";

const form = document.getElementById("sign-in");
const status = document.getElementById("status");

// Only a page of this service: a link could otherwise send people elsewhere after they signed in.
function ownPage(target) {
  const url = new URL(target, location.href);
  // The whole address: a path alone may begin with two slashes, and would be read as another host.
  return url.origin === location.origin ? url.href : "/compare";
}

function say(text) {
  status.textContent = text;
  status.hidden = false;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  status.hidden = true;
  try {
    await post("/api/session", { token: form.elements.token.value });
    if ((await fetch("/api/session")).status === 401) return say(unkept());
    location.assign(ownPage(form.dataset.target));
  } catch (failure) {
    say(`That did not work: ${failure.message}.`);
    form.elements.token.select();
  }
});

// The token was right, and yet the next request came without the cookie.
function unkept() {
  return location.protocol === "https:"
    ? "Your token is right, but the browser did not keep the session: allow cookies for this site."
    : "Your token is right, but the browser did not keep the session: allow cookies for this site, " +
        "and if this service stands behind https, open its https address.";
}
