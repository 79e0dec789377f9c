// The gallery: one page of samples at a time, whose texts are read when they are shown.

const PAGE_SIZE = 24;

/** A run's colour, where there are two. */
function runMark(run) {
  return el("span", { class: `mark colour-${run.number}`, "aria-hidden": true });
}

/** An image, or the path of one that lies outside the run's folder. */
function picture(run, image) {
  const source = run.source(image);
  if (source === null) {
    return el(
      "p",
      { class: "absent", title: image.path || image.src },
      "image outside the run’s folder: ",
      el("code", {}, image.path || image.src),
    );
  }
  const shown = el("img", {
    src: source,
    alt: "image of the question",
    loading: "lazy",
    decoding: "async",
  });
  shown.addEventListener("load", () => shown.classList.toggle("tiny", shown.naturalWidth < 160));
  return shown;
}

/** The values of a sample that tell it from its siblings. */
function valueList(sample, columns, left) {
  return columns
    .filter(({ key, form }) => form && !left.includes(key))
    .map(({ key, label, form }) => {
      const value = valueOf(sample, key);
      if (value === null) return null;
      return el(
        "span",
        { class: "fact" },
        `${label.split(",")[0]} `,
        el("b", {}, format(value, form)),
      );
    });
}

function scoreOf(sample) {
  for (const key of ["reward", "score", "margin", "loss"]) {
    if (sample.run.places.has(key)) return [key, valueOf(sample, key)];
  }
  return [null, null];
}

/** A score in a word. */
function scoreText(sample) {
  const [key, score] = scoreOf(sample);
  if (key === null) return "";
  return score === null ? "not scored" : `${key} ${plain(score)}`;
}

/** One sample of the gallery; its text comes when its part has been read. */
function tile(sample, columns, open) {
  const name = String(valueOf(sample, "name"));
  const body = el("div", { class: "body" }, el("p", { class: "faint" }, "…"));
  const images = el("div", { class: "thumb" });
  const node = el(
    "button",
    {
      type: "button",
      class: "card",
      click: () => open(sample),
      "aria-label": `${name}, ${scoreText(sample)}`,
    },
    el(
      "div",
      { class: "cardhead" },
      sample.run.marked ? runMark(sample.run) : null,
      verdictBadge(valueOf(sample, "verdict")),
      el("span", { class: "score" }, scoreText(sample)),
      valueOf(sample, "finish") === "length"
        ? el("span", { class: "badge warn" }, "cut off")
        : null,
    ),
    images,
    body,
    el(
      "div",
      { class: "facts" },
      valueList(sample, columns, [
        "reward",
        "score",
        "loss",
        "margin",
        "gap",
        "sample",
        "trained_tokens",
      ]),
    ),
  );
  sample.run.card(sample.row).then(
    (card) => {
      const question = card.asked.length ? card.asked[card.asked.length - 1].text : "";
      images.replaceChildren(...card.images.slice(0, 2).map((image) => picture(sample.run, image)));
      body.replaceChildren(
        el("p", { class: "question" }, ends(question.replaceAll("<image>", ""), 200)),
        el("p", { class: "answer" }, ends(card.said[0].text, 260)),
      );
    },
    (error) => body.replaceChildren(el("p", { class: "notice" }, error.message)),
  );
  return node;
}

function headingOf(sample, choice, columns) {
  const key = choice.get("sort", columns[0]?.key);
  if (key !== "step" && key !== "benchmark") return null;
  return `${key} ${valueOf(sample, key)}`;
}

function sortControl(columns, choice) {
  const key = choice.get("sort", columns[0]?.key);
  const down = choice.get("order", "down") === "down";
  const options = columns.map((column) =>
    el("option", { value: column.key, selected: column.key === key }, column.label.split(",")[0]),
  );
  return el(
    "span",
    { class: "sort" },
    el(
      "label",
      {},
      "Sort by ",
      el(
        "select",
        { id: "sort", change: (event) => choice.set({ sort: event.target.value }) },
        options,
      ),
    ),
    el(
      "button",
      {
        type: "button",
        class: "quiet",
        id: "order",
        click: () => choice.set({ order: down ? "up" : "" }),
      },
      down ? "↓ highest first" : "↑ lowest first",
    ),
  );
}

/** Where in the samples the reader is; `turn(page)` goes elsewhere. */
function pager(count, page, turn, named) {
  const last = Math.max(0, Math.ceil(count / PAGE_SIZE) - 1);
  const to = Math.min(count, (page + 1) * PAGE_SIZE);
  const field = el("input", {
    type: "number",
    min: 1,
    max: last + 1,
    value: page + 1,
    "aria-label": "Page",
    id: named && "page",
    change: (event) => turn(Number(event.target.value) - 1),
  });
  return el(
    "nav",
    { class: "pager", "aria-label": "Pages" },
    el(
      "button",
      {
        type: "button",
        class: "quiet",
        id: named && "back",
        "aria-label": "Earlier page",
        disabled: page === 0,
        click: () => turn(page - 1),
      },
      "‹",
    ),
    el("span", {}, "page ", field, ` of ${(last + 1).toLocaleString("en-US")}`),
    el(
      "button",
      {
        type: "button",
        class: "quiet",
        id: named && "on",
        "aria-label": "Later page",
        disabled: page >= last,
        click: () => turn(page + 1),
      },
      "›",
    ),
    el(
      "span",
      { class: "faint" },
      count
        ? `${(page * PAGE_SIZE + 1).toLocaleString("en-US")} to ${to.toLocaleString("en-US")}`
        : "",
    ),
  );
}

/** The part with samples; `open(sample, shown)` shows one of those that fit. */
class Gallery {
  constructor(runs, choice, open) {
    this.runs = runs;
    this.choice = choice;
    this.open = open;
    this.samples = allSamples(runs);
    this.columns = columnsOf(runs);
    this.node = el("div", { class: "gallery" });
  }

  draw() {
    if (!this.samples.length) {
      this.node.replaceChildren(
        el(
          "p",
          { class: "notice" },
          "This run has kept no samples: there is no samples.jsonl in its folder, nor answers of an evaluation.",
        ),
      );
      return;
    }
    const { choice, columns } = this;
    this.shown = chosen(this.samples, columns, choice);
    const last = Math.max(0, Math.ceil(this.shown.length / PAGE_SIZE) - 1);
    const page = Math.min(last, Math.max(0, Number(choice.get("page", "1")) - 1 || 0));
    const visible = this.shown.slice(page * PAGE_SIZE, (page + 1) * PAGE_SIZE);
    const grid = el("div", { class: "grid", keydown: moveFocus });
    const headings = visible.map((sample) => headingOf(sample, choice, columns));
    const few = new Set(headings).size * 3 <= visible.length; // else they would be most of the page
    for (const [place, sample] of visible.entries()) {
      const heading = headings[place];
      if (few && heading && heading !== headings[place - 1]) grid.append(el("h3", {}, heading));
      grid.append(tile(sample, columns, (each) => this.open(each, this.shown)));
    }
    if (!visible.length) grid.append(el("p", { class: "notice" }, "No sample fits these filters."));
    const many =
      this.shown.length === this.samples.length
        ? counted(this.samples.length, "sample")
        : `${this.shown.length.toLocaleString("en-US")} of ${counted(this.samples.length, "sample")}`;
    const focused = this.node.contains(document.activeElement) ? document.activeElement.id : "";
    this.node.replaceChildren(
      filterForm(this.samples, columns, this.runs, choice),
      el(
        "section",
        { "aria-label": "Samples" },
        el(
          "div",
          { class: "bar" },
          el("strong", { id: "count", role: "status" }, many),
          sortControl(columns, choice),
          pager(this.shown.length, page, (to) => this.turn(to), true),
        ),
        grid,
        pager(this.shown.length, page, (to) => this.turn(to)),
      ),
    );
    if (focused) document.getElementById(focused)?.focus();
  }

  turn(page) {
    this.choice.values.set("page", String(page + 1));
    history.replaceState(null, "", `#${this.choice.text()}`);
    this.draw();
    scrollTo({ top: 0 });
  }
}

/** Arrow keys go from card to card. */
function moveFocus(event) {
  const cards = [...event.currentTarget.querySelectorAll(".card")];
  const at = cards.indexOf(document.activeElement);
  if (at < 0) return;
  const top = cards[0].offsetTop;
  const across = Math.max(1, cards.filter((card) => card.offsetTop === top).length);
  const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across };
  const next = cards[at + moves[event.key]];
  if (!next) return;
  next.focus();
  event.preventDefault();
  event.stopPropagation();
}
