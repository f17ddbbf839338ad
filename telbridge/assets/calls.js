// The live calls of the list are fetched anew now and then; the rest of the page stays as it is.
"use strict";

const EVERY_MS = 3000;

async function refresh() {
  const live = document.getElementById("live");
  if (!document.hidden) {
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      live.replaceWith(page.getElementById("live"));
    } catch {
      live.dataset.stale = "yes";
    }
  }
  setTimeout(refresh, EVERY_MS);
}

setTimeout(refresh, EVERY_MS);
