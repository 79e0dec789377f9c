// Which samples are shown, and in which order. What is chosen lies in the address behind #, so that
// a reload, or somebody else with the same link, sees the same.

const BINS = 24;
const MOST_WORDS = 12;

/** What the reader has chosen, read from and written to the address. */
class Choice {
  constructor(changed) {
    this.changed = changed;
    this.read();
    window.addEventListener("hashchange", () => {
      if (this.text() !== location.hash.slice(1)) {
        this.read();
        changed();
      }
    });
  }

  read() {
    this.values = new Map(new URLSearchParams(location.hash.slice(1)));
  }

  text() {
    return new URLSearchParams([...this.values].filter(([, value]) => value !== "")).toString();
  }

  get(key, otherwise = "") {
    return this.values.get(key) ?? otherwise;
  }

  /** Set values by their keys, empty ones to be forgotten; the page goes back to the first. */
  set(values) {
    this.values.delete("page");
    for (const [key, value] of Object.entries(values)) {
      if (value === "" || value === null) this.values.delete(key);
      else this.values.set(key, String(value));
    }
    history.replaceState(null, "", `#${this.text()}`);
    this.changed();
  }
}

/** Columns of all runs, each once. */
function columnsOf(runs) {
  const found = new Map();
  for (const column of runs.flatMap((run) => run.about.columns)) {
    if (!found.has(column.key)) found.set(column.key, column);
  }
  return [...found.values()];
}

/** The samples that fit the choice, in its order. */
function chosen(samples, columns, choice) {
  const tests = columns.map((column) => testOf(column, choice)).filter(Boolean);
  const run = choice.get("run");
  if (run !== "") tests.push((sample) => String(sample.run.number) === run);
  const kept = samples.filter((sample) => tests.every((test) => test(sample)));
  return sorted(kept, columns, choice);
}

function testOf({ key, form }, choice) {
  if (form) {
    const [from, to] = [choice.get(`${key}_from`), choice.get(`${key}_to`)].map((text) =>
      text === "" ? null : Number(text),
    );
    if (from === null && to === null) return null;
    return (sample) => {
      const value = valueOf(sample, key);
      return value !== null && (from === null || value >= from) && (to === null || value <= to);
    };
  }
  const wanted = choice.get(key);
  if (wanted === "") return null;
  if (key === "name") return (sample) => String(valueOf(sample, key)).includes(wanted);
  const words = new Set(wanted.split(","));
  return (sample) => words.has(String(valueOf(sample, key)));
}

/** Later steps first unless the choice says otherwise; samples without the value come last. */
function sorted(samples, columns, choice) {
  const key = choice.get("sort", columns[0]?.key);
  const way = choice.get("order", "down") === "down" ? -1 : 1;
  const column = columns.find((each) => each.key === key);
  if (!column) return samples;
  const keyed = samples.map((sample, place) => [valueOf(sample, key), place, sample]);
  const compare = column.form ? (a, b) => a - b : (a, b) => (a < b ? -1 : Number(a > b));
  keyed.sort(([a, i], [b, j]) => {
    if (a === null || b === null) return Number(a === null) - Number(b === null) || i - j;
    return way * compare(a, b) || i - j;
  });
  return keyed.map(([, , sample]) => sample);
}

/** How many values fall where, from the lowest to the highest. */
function histogram(values) {
  const low = values.reduce((a, b) => Math.min(a, b), Infinity);
  const high = values.reduce((a, b) => Math.max(a, b), -Infinity);
  const counts = new Array(BINS).fill(0);
  const place = (value) =>
    Math.min(BINS - 1, Math.floor(((value - low) / (high - low || 1)) * BINS));
  for (const value of values) counts[place(value)] += 1;
  return { low, high, counts };
}

function bars({ low, high, counts }, from, to) {
  const most = counts.reduce((a, b) => Math.max(a, b));
  const width = (high - low) / BINS;
  return svg(
    "svg",
    {
      class: "bars",
      viewBox: `0 0 ${BINS * 8} 30`,
      preserveAspectRatio: "none",
      "aria-hidden": true,
    },
    counts.map((count, i) => {
      const kept =
        (from === null || low + (i + 1) * width >= from) && (to === null || low + i * width <= to);
      const height = count ? Math.max(1.5, (count / most) * 30) : 0;
      return svg("rect", {
        class: kept ? "kept" : "out",
        x: i * 8,
        width: 7,
        y: 30 - height,
        height,
      });
    }),
  );
}

/** A range of a number: how its values lie, and the two ends to be kept. */
function rangeFilter({ key, label, form }, samples, choice) {
  const values = samples.map((sample) => valueOf(sample, key)).filter((value) => value !== null);
  if (!values.length) return null;
  const spread = histogram(values);
  if (spread.low === spread.high) {
    return el(
      "fieldset",
      {},
      el("legend", {}, label),
      el("p", { class: "faint" }, `${format(spread.low, form)} throughout`),
    );
  }
  const ends = ["from", "to"].map((end) => {
    const id = `${key}_${end}`;
    return el("input", {
      id,
      type: "number",
      step: "any",
      value: choice.get(id),
      placeholder: plain(end === "from" ? spread.low : spread.high),
      "aria-label": `${label}, ${end}`,
      change: (event) => choice.set({ [id]: event.target.value }),
    });
  });
  const [from, to] = ends.map((input) => (input.value === "" ? null : Number(input.value)));
  return el(
    "fieldset",
    {},
    el("legend", {}, label),
    bars(spread, from, to),
    el("div", { class: "range" }, ends[0], el("span", { class: "faint" }, "to"), ends[1]),
  );
}

/** Words to choose among, with how many samples have each. */
function wordFilter({ key, label }, samples, choice) {
  const counts = new Map();
  for (const sample of samples) {
    const word = String(valueOf(sample, key));
    counts.set(word, (counts.get(word) || 0) + 1);
  }
  if (counts.size > MOST_WORDS || key === "name") {
    const input = el("input", {
      id: key,
      type: "search",
      value: choice.get(key),
      placeholder: `part of its name`,
      "aria-label": label,
      change: (event) => choice.set({ [key]: event.target.value.trim() }),
    });
    return el("fieldset", {}, el("legend", {}, label), input);
  }
  const on = new Set(choice.get(key).split(",").filter(Boolean));
  const chips = [...counts]
    .sort((a, b) => b[1] - a[1])
    .map(([word, count]) =>
      el(
        "button",
        {
          type: "button",
          class: "chip",
          "aria-pressed": String(on.has(word)),
          "data-word": word,
          click: () => {
            const next = new Set(on);
            if (!next.delete(word)) next.add(word);
            choice.set({ [key]: [...next].join(",") });
          },
        },
        key === "verdict" ? verdictBadge(word) : word,
        el("span", { class: "faint" }, count.toLocaleString("en-US")),
      ),
    );
  return el("fieldset", {}, el("legend", {}, label), el("div", { class: "chips" }, chips));
}

/** All filters; built anew with each choice. */
function filterForm(samples, columns, runs, choice) {
  const run =
    runs.length > 1
      ? el(
          "fieldset",
          {},
          el("legend", {}, "run"),
          el(
            "div",
            { class: "chips" },
            runs.map((each) => {
              const on = choice.get("run") === String(each.number);
              return el(
                "button",
                {
                  type: "button",
                  class: "chip",
                  "aria-pressed": String(on),
                  click: () => choice.set({ run: on ? "" : each.number }),
                },
                runMark(each),
                each.label,
              );
            }),
          ),
        )
      : null;
  const each = columns.map((column) =>
    (column.form ? rangeFilter : wordFilter)(column, samples, choice),
  );
  const set = [...choice.values.keys()].some(
    (key) => !["part", "sort", "order", "page", "shade"].includes(key),
  );
  const clear = () =>
    choice.set(
      Object.fromEntries(
        [...choice.values.keys()]
          .filter((key) => !["part", "sort", "order", "shade"].includes(key))
          .map((key) => [key, ""]),
      ),
    );
  return el(
    "form",
    { class: "filters", "aria-label": "Filters", submit: (event) => event.preventDefault() },
    run,
    each,
    el(
      "button",
      { type: "button", class: "quiet", id: "clear", disabled: !set, click: clear },
      "Clear filters",
    ),
  );
}
