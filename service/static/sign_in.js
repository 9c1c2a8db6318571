import { post } from "./api.js";

const form = document.getElementById("sign-in");
const status = document.getElementById("status");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  status.hidden = true;
  try {
    await post("/api/session", { token: form.elements.token.value });
    location.assign(form.dataset.target);
  } catch (failure) {
    status.textContent = `That did not work: ${failure.message}.`;
    status.hidden = false;
    form.elements.token.select();
  }
});
