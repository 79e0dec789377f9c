// One sample in full: question and images beside the answer, its reward in parts, its siblings.

const MOST_RELATIVES = 400;

function partsTable(parts) {
  const weighted = parts.some((part) => typeof part.weight === "number");
  const rows = parts.map((part) => {
    const share = weighted && part.score !== null ? format(part.weight * part.score, ".3f") : null;
    return el(
      "tr",
      {},
      el("th", { scope: "row" }, part.name),
      el("td", { class: "number" }, format(part.score, ".3f")),
      weighted ? el("td", { class: "number" }, `× ${plain(part.weight ?? 0)}`) : null,
      weighted ? el("td", { class: "number" }, share) : null,
      el("td", {}, verdictBadge(part.cause)),
      el("td", { class: "reason" }, part.detail || ""),
    );
  });
  const head = [
    "reward",
    "score",
    weighted ? "weight" : null,
    weighted ? "counts" : null,
    "verdict",
    "reason",
  ];
  return el(
    "table",
    { class: "plain parts" },
    columnHeads(head),
    el("tbody", {}, rows),
  );
}

/** Tokens of a chat that the policy finds least likely. */
function unlikelyTable(tokens) {
  return el(
    "table",
    { class: "plain" },
    columnHeads(["least likely tokens", "probability"]),
    el(
      "tbody",
      {},
      tokens.map(({ token, probability }) =>
        el(
          "tr",
          {},
          el("th", { scope: "row" }, el("code", {}, JSON.stringify(token))),
          el("td", { class: "number" }, format(probability, ".3%")),
        ),
      ),
    ),
  );
}

function asked(run, card) {
  const turns = card.asked.map(({ role, text }) => [
    card.asked.length > 1 ? el("h3", {}, role) : null,
    el("div", { class: "text" }, text.replaceAll("<image>", "▣ ")),
  ]);
  const gold = card.gold
    ? [
        el("h3", {}, "Right answer"),
        el(
          "p",
          { class: "gold" },
          card.gold.map((each) => el("code", {}, each)),
        ),
      ]
    : null;
  return [
    el(
      "div",
      { class: "pictures" },
      card.images.map((image) => picture(run, image)),
    ),
    el("h3", {}, "Question"),
    turns,
    gold,
  ];
}

function answered(card, choice) {
  return card.said.map(({ title, text }) => [
    el("h3", {}, title),
    card.by_token ? tokenView(card.by_token, choice) : el("div", { class: "text" }, text),
  ]);
}

function facts(sample, card, columns) {
  const values = columns
    .filter(({ key }) => key !== "verdict")
    .map(({ key, label, form }) => [label, format(valueOf(sample, key), form)]);
  const more = Object.entries(card.facts || {}).map(([label, value]) => [
    label,
    value === "" || value === null ? NONE : String(value),
  ]);
  return el(
    "dl",
    { class: "values" },
    [...values, ...more].map(([label, value]) =>
      el("div", {}, el("dt", {}, label), el("dd", {}, value)),
    ),
  );
}

/** Buttons for samples beside this one; `open` shows one of them. */
function relatives(title, samples, current, open, labelOf) {
  if (!samples.length) return null;
  const shown = samples.slice(0, MOST_RELATIVES);
  const buttons = shown.map((sample) =>
    el(
      "button",
      {
        type: "button",
        class: "chip",
        "aria-current": sample.row === current.row ? "true" : null,
        click: () => open(sample),
      },
      sample.run.marked ? runMark(sample.run) : null,
      verdictBadge(valueOf(sample, "verdict"), true),
      labelOf(sample),
    ),
  );
  const more =
    samples.length > shown.length
      ? el("span", { class: "faint" }, `and ${counted(samples.length - shown.length, "other")}`)
      : null;
  return el("section", {}, el("h3", {}, title), el("div", { class: "chips" }, buttons, more));
}

/** The dialog that shows a sample among others that fit the same filters. */
class SampleView {
  constructor(dialog, gallery, choice) {
    this.dialog = dialog;
    this.gallery = gallery;
    this.choice = choice;
    dialog.addEventListener("keydown", (event) => this.key(event));
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  }

  /** Show `sample`; `among` are those that the keys go through. */
  async open(sample, among) {
    this.sample = sample;
    if (among) this.among = among;
    const card = await sample.run.card(sample.row).catch((error) => error);
    if (this.sample !== sample) return; // another one was asked for meanwhile
    if (card instanceof Error)
      this.dialog.replaceChildren(el("p", { class: "notice" }, card.message));
    else this.draw(card);
    if (!this.dialog.open) this.dialog.showModal();
  }

  redraw() {
    if (this.dialog.open) this.open(this.sample);
  }

  draw(card) {
    const { sample, gallery } = this;
    const { run } = sample;
    const name = valueOf(sample, "name");
    const when = ["step", "benchmark"].find((key) => run.places.has(key));
    const alike = samplesOf(gallery.samples, name);
    const together = (each) => each.run === run && valueOf(each, when) === valueOf(sample, when);
    const group = alike.filter(together);
    const at = this.among.indexOf(sample);
    const held = document.activeElement;
    this.dialog.replaceChildren(
      el(
        "div",
        { class: "dialoghead" },
        el(
          "h2",
          {},
          run.marked ? [runMark(run), `${run.label} `] : null,
          String(name),
          el("span", { class: "faint" }, ` ${when} ${valueOf(sample, when)}`),
        ),
        verdictBadge(valueOf(sample, "verdict")),
        el("span", { class: "score" }, scoreText(sample)),
        el("span", { class: "spacer" }),
        el(
          "span",
          { class: "faint" },
          at < 0
            ? ""
            : `${(at + 1).toLocaleString("en-US")} of ${this.among.length.toLocaleString("en-US")}`,
        ),
        el(
          "button",
          {
            type: "button",
            class: "quiet",
            id: "previous",
            "aria-label": "Previous sample (k)",
            disabled: at <= 0,
            click: () => this.step(-1),
          },
          "‹",
        ),
        el(
          "button",
          {
            type: "button",
            class: "quiet",
            id: "next",
            "aria-label": "Next sample (j)",
            disabled: at < 0 || at >= this.among.length - 1,
            click: () => this.step(1),
          },
          "›",
        ),
        el(
          "button",
          {
            type: "button",
            class: "quiet",
            id: "close",
            "aria-label": "Close (Esc)",
            click: () => this.dialog.close(),
          },
          "✕",
        ),
      ),
      el(
        "div",
        { class: "sides" },
        el("div", { class: "side" }, asked(run, card), facts(sample, card, gallery.columns)),
        el(
          "div",
          { class: "side" },
          answered(card, this.choice),
          card.parts ? [el("h3", {}, "Reward"), partsTable(card.parts)] : null,
          card.unlikely ? unlikelyTable(card.unlikely) : null,
          relatives(
            "All answers of this group",
            group.length > 1 ? group : [],
            sample,
            (each) => this.open(each),
            (each) => scoreText(each),
          ),
          relatives(
            "The same problem elsewhere",
            alike.filter((each) => !together(each)),
            sample,
            (each) => this.open(each),
            (each) => `${when} ${valueOf(each, when)}`,
          ),
        ),
      ),
    );
    this.focusAgain(held);
  }

  /** Give the focus to what stands for `held` now: keys reach a dialog that holds it. */
  focusAgain(held) {
    if (held.dataset.shade)
      this.dialog.querySelector(`[data-shade="${held.dataset.shade}"]`)?.focus();
    else if (held.id) this.dialog.querySelector(`#${held.id}`)?.focus();
    if (!this.dialog.contains(document.activeElement)) this.dialog.focus();
  }

  step(by) {
    const next = this.among[this.among.indexOf(this.sample) + by];
    if (next) this.open(next);
  }

  key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === "j" || event.key === "ArrowRight") this.step(1);
    else if (event.key === "k" || event.key === "ArrowLeft") this.step(-1);
    else if (event.key === "t") this.nextShade();
    else return;
    event.preventDefault();
  }

  nextShade() {
    const buttons = [...this.dialog.querySelectorAll("[data-shade]")];
    const at = buttons.findIndex((button) => button.getAttribute("aria-pressed") === "true");
    buttons[(at + 1) % buttons.length]?.click();
  }
}
