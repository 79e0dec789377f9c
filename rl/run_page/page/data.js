// What the run has left, in scripts: a page from a disk may run those, and read no other file.

const runPage = {
  take(payload) {
    document.currentScript.payload = payload;
  },
};

/** What the script at `url` hands over. */
function load(url) {
  return new Promise((resolve, reject) => {
    const script = el("script", { src: url });
    script.onload = () => {
      script.remove();
      if (script.payload === undefined) reject(new Error(`${url} is not whole`));
      else resolve(script.payload);
    };
    script.onerror = () => reject(new Error(`${url} cannot be read`));
    document.head.append(script);
  });
}

const MOST_PARTS_HELD = 64;

/** One run: its figures by step, and a row for each of its samples. */
class Run {
  constructor(base, number, manifest) {
    this.base = base;
    this.number = number;
    this.about = manifest;
    this.name = manifest.name;
    this.figures = [];
    this.rows = [];
    this.places = new Map(manifest.columns.map((column, place) => [column.key, place]));
    this.parts = new Map();
  }

  static async open(base, number) {
    const run = new Run(base, number, await load(`${base}report/run.js`));
    const [figures, rows] = await Promise.all([
      run.all("figures", run.about.figures),
      run.all("rows", run.about.rows),
    ]);
    run.figures = figures;
    run.rows = rows;
    return run;
  }

  part(name, number) {
    return load(`${this.base}report/${name}_${String(number).padStart(4, "0")}.js`);
  }

  async all(name, count) {
    const parts = Array.from({ length: count }, (_, number) => this.part(name, number));
    return (await Promise.all(parts)).flat();
  }

  /** A value of the sample in `row`. */
  value(row, key) {
    const place = this.places.get(key);
    return place === undefined ? null : row[place];
  }

  /** What is shown of the sample in `row`. */
  async card(row) {
    const [number, place] = row.slice(-2);
    let part = this.parts.get(number);
    if (part === undefined) part = this.part("cards", number);
    this.parts.delete(number); // and back in, as the one used last
    this.parts.set(number, part);
    if (this.parts.size > MOST_PARTS_HELD) this.parts.delete(this.parts.keys().next().value);
    return (await part)[place];
  }

  /** Points [step, value] of a figure, of the steps or of the evaluations. */
  points(metric, evaluated) {
    const lines = evaluated ? this.about.evaluations : this.figures;
    const points = [];
    for (const line of lines) {
      const value = line[metric];
      if (typeof value === "number") points.push([line.step, value]);
    }
    return points;
  }

  /** The place of an image, or null for one that lies outside the run's folder. */
  source(image) {
    const inside = /^[\w-]+(\/[\w-]+)*\.\w+$/.test(image.src || "");
    return inside ? this.base + image.src : null;
  }
}

/** Every sample of all runs: {run, row}. */
function allSamples(runs) {
  return runs.flatMap((run) => run.rows.map((row) => ({ run, row })));
}

const valueOf = (sample, key) => sample.run.value(sample.row, key);

/** Samples of one problem, in the runs' order, by step. */
function samplesOf(samples, name) {
  return samples.filter((sample) => valueOf(sample, "name") === name);
}
