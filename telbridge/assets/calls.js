// What is live on a page is fetched anew now and then; the rest of it stays as it is.
"use strict";

const EVERY_MS = 3000;
const NEAR_END_PX = 40;

function places(live) {
  return [...live.querySelectorAll(".scroll")].map((line) => {
    const atEnd = line.scrollWidth - line.clientWidth - line.scrollLeft < NEAR_END_PX;
    return atEnd ? Infinity : line.scrollLeft;
  });
}

function scroll(live, to) {
  live.querySelectorAll(".scroll").forEach((line, index) => {
    line.scrollLeft = Math.min(to[index] ?? Infinity, line.scrollWidth);
  });
}

async function refresh() {
  const live = document.getElementById("live");
  if (!document.hidden) {
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const now = page.getElementById("live");
      if (now === null) {
        location.reload(); // The call is over: its record is there.
        return;
      }
      const before = places(live);
      live.replaceWith(now);
      scroll(now, before);
    } catch {
      live.dataset.stale = "yes";
    }
  }
  setTimeout(refresh, EVERY_MS);
}

scroll(document.getElementById("live"), []);
setTimeout(refresh, EVERY_MS);
