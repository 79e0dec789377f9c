// The page as a whole: reads the runs, and shows the part that is chosen.

const PARTS = { curves: "Curves", samples: "Samples", recipe: "Recipe" };
const KEYS = [
  ["c, s, r", "curves, samples, recipe"],
  ["n, p", "the next and the previous page of samples"],
  ["arrows, Enter", "from card to card, and open one; along a curve, and the samples of that step"],
  ["j, k", "in a sample: the next, the previous"],
  ["t", "in a sample: shade its tokens by something else"],
  ["Esc", "close what is open"],
];

/** What the head says of each run. */
function headOf(run) {
  const { about } = run;
  const last = run.figures.length ? run.figures[run.figures.length - 1].step + 1 : 0;
  const steps = last ? `${last} of ${counted(about.steps ?? last, "step")}` : null;
  const many = about.samples ? counted(about.samples, about.kind.replace(/s$/, "")) : "no samples";
  const written = new Date(about.written * 1000).toLocaleString("sv", {
    dateStyle: "short",
    timeStyle: "short",
  });
  const odd = about.odd ? `${counted(about.odd, "line")} of samples could not be read` : null;
  return el(
    "p",
    { class: "about", title: about.folder },
    run.marked ? [runMark(run), el("b", {}, run.label), " "] : null,
    [steps, many, `written ${written}`, odd].filter(Boolean).join(" · "),
  );
}

/** Labels that tell the runs apart: names, or folders where the names are the same. */
function label(runs) {
  const same = new Set(runs.map((run) => run.name)).size < runs.length;
  for (const run of runs) {
    run.label = String(same ? run.about.folder : run.name);
    run.marked = runs.length > 1;
  }
}

class Page {
  constructor(runs) {
    this.runs = runs;
    this.choice = new Choice(() => this.draw());
    this.gallery = new Gallery(runs, this.choice, (sample, among) => this.view.open(sample, among));
    this.view = new SampleView(document.getElementById("sample"), this.gallery, this.choice);
    this.panes = {
      curves: curvesPart(runs, (step) =>
        this.choice.set({ part: "samples", step_from: step, step_to: step }),
      ),
      samples: this.gallery.node,
      recipe: recipePart(runs),
    };
    this.tabs = Object.entries(PARTS).map(([name, title]) =>
      el(
        "button",
        {
          type: "button",
          role: "tab",
          id: `tab-${name}`,
          "aria-controls": "main",
          click: () => this.go(name),
        },
        title,
      ),
    );
    document.getElementById("tabs").append(...this.tabs);
    document.getElementById("tabs").addEventListener("keydown", (event) => this.tabKey(event));
    document.getElementById("names").append(...runs.map(headOf));
    document.addEventListener("keydown", (event) => this.key(event));
    document.getElementById("keys-button").addEventListener("click", showKeys);
    this.draw();
  }

  go(part) {
    this.choice.set({ part: part === "curves" ? "" : part });
  }

  draw() {
    const wanted = this.choice.get("part", "curves");
    const part = wanted in this.panes ? wanted : "curves";
    for (const tab of this.tabs) {
      const on = tab.id === `tab-${part}`;
      tab.setAttribute("aria-selected", String(on));
      tab.tabIndex = on ? 0 : -1;
    }
    if (part === "samples") this.gallery.draw();
    const main = document.getElementById("main");
    if (main.firstChild !== this.panes[part]) main.replaceChildren(this.panes[part]);
    this.view.redraw();
  }

  tabKey(event) {
    const at = this.tabs.indexOf(document.activeElement);
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (at < 0 || !by) return;
    const next = this.tabs[(at + by + this.tabs.length) % this.tabs.length];
    next.click();
    next.focus();
  }

  key(event) {
    const typing =
      event.target instanceof HTMLElement && event.target.matches("input, select, textarea");
    if (
      typing ||
      event.ctrlKey ||
      event.altKey ||
      event.metaKey ||
      document.querySelector("dialog[open]")
    )
      return;
    const part = { c: "curves", s: "samples", r: "recipe" }[event.key];
    const turn = { n: "on", p: "back" }[event.key];
    if (part) this.go(part);
    else if (turn) document.getElementById(turn)?.click();
    else if (event.key === "?") showKeys();
    else return;
    event.preventDefault();
  }
}

function showKeys() {
  const dialog = document.getElementById("keys");
  dialog.replaceChildren(
    el("h2", {}, "Keys"),
    el(
      "dl",
      { class: "values" },
      KEYS.map(([keys, what]) => el("div", {}, el("dt", {}, keys), el("dd", {}, what))),
    ),
    el("button", { type: "button", class: "quiet", click: () => dialog.close() }, "Close"),
  );
  dialog.showModal();
}

async function start() {
  const bases = JSON.parse(document.body.dataset.runs);
  try {
    const runs = await Promise.all(bases.map((base, number) => Run.open(base, number)));
    label(runs);
    new Page(runs);
    document.body.dataset.ready = "";
  } catch (error) {
    document.getElementById("loading").textContent =
      `This page cannot read its run: ${error.message}. It needs the folder report/ beside it, and for two runs both folders where they were.`;
  }
}

start();
