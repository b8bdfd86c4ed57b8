// Asks for the page's content anew when something was taken, once a second at most; and each minute, for the timeline.
// It is HTML, escaped where it was made.
"use strict";
const content = document.getElementById("content");
const live = document.getElementById("live");
let asked = false;

function say(text) {
  if (live.textContent !== text) live.textContent = text;
}

async function renew() {
  try {
    const answer = await fetch("/content");
    if (answer.ok) content.innerHTML = await answer.text();
  } finally {
    asked = false;
  }
}

function soon() {
  if (asked) return;
  asked = true;
  setTimeout(() => renew().catch(() => say("No answer.")), 1000);
}

const events = new EventSource("/events");
events.addEventListener("open", () => { say("Live."); soon(); });
events.addEventListener("error", () => say("Not live: waiting for the receiver."));
events.addEventListener("notice", soon);
setInterval(soon, 60000);
