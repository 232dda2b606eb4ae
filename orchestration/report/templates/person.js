"use strict";
(async () => {
  const byId = (id) => document.getElementById(id);
  const packed = Uint8Array.from(atob(byId("packed").textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const people = await new Response(stream).json();
  const make = (tag, text, parent) => {
    const element = document.createElement(tag);
    if (text) element.textContent = text;
    if (parent) parent.append(element);
    return element;
  };
  const texts = people.map((one) =>
    [one.name, ...one.who, one.id].join(" ").toLowerCase());
  const called = (one) => one.name || one.who[0] || one.id;

  const show = (one) => {
    const place = byId("person");
    place.replaceChildren();
    byId("people").replaceChildren();
    const heading = make("h2", called(one), place);
    heading.tabIndex = -1;
    make("p", [...one.who, one.id].join(" · "), place);
    const facts = make("ul", "", place);
    one.facts.forEach((fact) => make("li", fact, facts));
    one.scores.forEach(([score, reasons]) => {
      const item = make("li", score, facts);
      if (reasons.length) item.append(" (" + reasons.join("; ") + ")");
    });
    table(place, "Messages: each verdict and its reason",
      ["When", "Journey", "Step", "Channel", "Verdict", "Reason"], one.verdicts,
      "Nothing was due to this person yet.");
    table(place, "What happened, the newest first", ["When", "What"], one.moments,
      "Nothing is known to have happened.");
    heading.focus();
  };
  const table = (place, caption, headings, rows, ifEmpty) => {
    make("h3", caption, place);
    if (!rows.length) {
      make("p", ifEmpty, place).className = "empty";
      return;
    }
    const box = make("div", "", place);
    box.className = "table";
    const element = make("table", "", box);
    if (headings.length >= 5) element.className = "stacks";
    make("caption", caption, element);
    const head = make("tr", "", make("thead", "", element));
    headings.forEach((heading) => { make("th", heading, head).scope = "col"; });
    const body = make("tbody", "", element);
    rows.forEach((row) => {
      const line = make("tr", "", body);
      row.forEach((cell, index) => {
        const made = make(index ? "td" : "th", cell, line);
        if (index) made.dataset.heading = headings[index];
        else made.scope = "row";
      });
    });
  };
  const look = () => {
    const words = byId("who").value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = words.length
      ? people.filter((_, at) => words.every((word) => texts[at].includes(word)))
      : [];
    byId("found").textContent = words.length
      ? `${found.length} found${found.length > 20 ? ", the first 20 are shown" : ""}`
      : "";
    byId("person").replaceChildren();
    byId("people").replaceChildren(...found.slice(0, 20).map((one) => {
      const item = document.createElement("li");
      const button = make("button", called(one), item);
      button.type = "button";
      item.append(" " + one.who.slice(0, 1).join(""));
      button.addEventListener("click", () => show(one));
      return item;
    }));
  };
  byId("who").addEventListener("input", look);
  document.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    const first = byId("people").querySelector("button");
    if (first) first.click();
  });
})();
