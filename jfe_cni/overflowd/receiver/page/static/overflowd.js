// Asks for the page's content anew when something was taken, once a second at most; and each minute, for the timeline.
// It is HTML, escaped where it was made. What is there is changed and not replaced: whoever reads it stays where they are.
"use strict";
const content = document.getElementById("content");
const live = document.getElementById("live");
let asked = false;
let waits = false;
let events = null;

function say(text) {
  if (live.textContent !== text) live.textContent = text;
}

// Makes one node what another is, of a document that runs nothing.
function become(node, made) {
  if (node.nodeName !== made.nodeName) {
    node.replaceWith(made);
  } else if (node.nodeType !== Node.ELEMENT_NODE) {
    if (node.data !== made.data) node.data = made.data;
  } else {
    for (const name of node.getAttributeNames()) if (!made.hasAttribute(name)) node.removeAttribute(name);
    for (const { name, value } of made.attributes) if (node.getAttribute(name) !== value) node.setAttribute(name, value);
    becomeAll(node, made);
  }
}

function becomeAll(node, made) {
  const children = [...made.childNodes];
  children.forEach((child, place) => {
    if (place < node.childNodes.length) become(node.childNodes[place], child);
    else node.append(child);
  });
  while (node.childNodes.length > children.length) node.lastChild.remove();
}

// Whoever has selected something is about to copy it.
function isSelected() {
  const selection = getSelection();
  return !selection.isCollapsed && selection.containsNode(content, true);
}

async function renew() {
  try {
    const answer = await fetch("/content");
    if (!answer.ok) return;
    const text = await answer.text();
    waits = isSelected();
    if (waits) {
      say("Not renewed while something is selected.");
      return;
    }
    becomeAll(content, new DOMParser().parseFromString(text, "text/html").body);
    if (events.readyState === EventSource.OPEN) say("Live.");
  } finally {
    asked = false;
  }
}

function soon() {
  if (asked) return;
  asked = true;
  setTimeout(() => renew().catch(() => say("No answer.")), 1000);
}

function listen() {
  events = new EventSource("/events");
  events.addEventListener("open", () => { say("Live."); soon(); });
  events.addEventListener("notice", soon);
  events.addEventListener("error", () => {
    say("Not live: waiting for the receiver.");
    // It asks again by itself, unless it is answered by anything but events (HTML Standard, 9.2.3): by a web server
    // whose receiver is away, say. Not all that have the page at one time, when that is back.
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, 3000 + 5000 * Math.random());
  });
}

document.addEventListener("selectionchange", () => { if (waits && !isSelected()) soon(); });
listen();
setInterval(soon, 60000);
