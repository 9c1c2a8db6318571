// Requests to the service. A failure throws `Failure` with the service's own message.

export class Failure extends Error {
  constructor(status, message, code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

const csrf = document.querySelector('meta[name="csrf"]').content;

export async function post(path, body = {}) {
  let reply;
  try {
    reply = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf },
      body: JSON.stringify(body),
    });
  } catch {
    throw new Failure(0, "The service cannot be reached.");
  }
  const data = await reply.json().catch(() => ({}));
  if (!reply.ok) {
    const error = data.error ?? {};
    throw new Failure(reply.status, error.message ?? `The service answered ${reply.status}.`, error.code);
  }
  return data;
}

// An element with text. Text of models and people goes through here only, never through innerHTML.
export function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}
