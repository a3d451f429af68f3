// One block per year (or half-year on narrow screens), one column per week, one square per day: coloured by the clearest scene of the day.

const CELL = 13;
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const LEGEND = { clear: "up to 10 % cloud", fair: "up to 30 %", mixed: "up to 60 %", cloudy: "more", unknown: "not said" };

const cloudOf = (scenes) => Math.min(...scenes.map((scene) => scene.cloud ?? Infinity));

function shade(cloud) {
  if (!Number.isFinite(cloud)) return "unknown";
  return cloud <= 10 ? "clear" : cloud <= 30 ? "fair" : cloud <= 60 ? "mixed" : "cloudy";
}

export class Calendar {
  constructor(place, onPick) {
    this.place = place;
    this.onPick = onPick;
    place.addEventListener("click", (event) => this.#pick(event.target.closest(".scene")));
    place.addEventListener("keydown", (event) => this.#key(event));
  }

  // Show scenes; `within` tells which of them are below the cloud limit.
  show(scenes, within) {
    this.days = new Map();
    for (const scene of scenes) this.days.set(scene.day, [...(this.days.get(scene.day) ?? []), scene]);
    const years = [...new Set([...this.days.keys()].map((day) => day.slice(0, 4)))].sort();
    const halves = matchMedia("(max-width: 600px)").matches ? [[0, 6], [6, 12]] : [[0, 12]];
    const blocks = years.flatMap((year) => halves.map(([first, end]) => this.#block(Number(year), first, end)));
    this.place.replaceChildren(legend(scenes), ...blocks);
    this.limit(within);
    const first = this.place.querySelector(".scene");
    if (first) first.tabIndex = 0;
  }

  limit(within) {
    for (const cell of this.place.querySelectorAll(".scene")) {
      cell.classList.toggle("beyond", !this.days.get(cell.dataset.day).some(within));
    }
  }

  // Months from first up to, not including, end.
  #block(year, first, end) {
    const begin = Date.UTC(year, first, 1);
    const offset = (new Date(begin).getUTCDay() + 6) % 7; // weeks begin on Monday
    const cells = [];
    const months = [];
    for (let time = begin; time < Date.UTC(year, end, 1); time += 864e5) {
      const day = new Date(time);
      const place = Math.round((time - begin) / 864e5) + offset;
      const [x, y] = [Math.floor(place / 7) * CELL, (place % 7) * CELL + 11];
      if (day.getUTCDate() === 1) {
        months.push(`<text x="${x + (y > 11 ? CELL : 0)}" y="7">${MONTHS[day.getUTCMonth()]}</text>`);
      }
      const text = day.toISOString().slice(0, 10);
      const scenes = this.days.get(text);
      const box = `x="${x}" y="${y}" width="${CELL - 2}" height="${CELL - 2}" rx="2"`;
      cells.push(scenes ? sceneCell(text, scenes, box) : `<rect class="cell" ${box}/>`);
    }
    const block = document.createElement("div");
    block.className = "year";
    const wide = Math.ceil(((end - first) * 30.5 + 7) / 7) * CELL;
    block.innerHTML =
      `<span>${first ? "" : year}</span><svg viewBox="0 0 ${wide} ${7 * CELL + 11}" role="group" ` +
      `aria-label="${MONTHS[first]} to ${MONTHS[end - 1]} ${year}">${months.join("")}${cells.join("")}</svg>`;
    return block;
  }

  #pick(cell) {
    if (!cell) return;
    for (const other of this.place.querySelectorAll(".scene")) {
      other.tabIndex = other === cell ? 0 : -1;
      other.setAttribute("aria-pressed", other === cell);
    }
    cell.focus({ preventScroll: true });
    this.onPick(this.days.get(cell.dataset.day));
  }

  #key(event) {
    const cells = [...this.place.querySelectorAll(".scene")];
    const here = cells.indexOf(event.target);
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Enter: 0, " ": 0 }[event.key];
    if (here < 0 || step === undefined) return;
    event.preventDefault();
    this.#pick(cells[Math.max(0, Math.min(cells.length - 1, here + step))]);
  }
}

function sceneCell(day, scenes, box) {
  const cloud = cloudOf(scenes);
  const said = `${day}: ${Number.isFinite(cloud) ? `${Math.round(cloud)} % cloud` : "cloud not said"}`;
  const kinds = ["scene", shade(cloud), scenes.some((scene) => scene.problem) ? "problem" : ""].join(" ");
  return (
    `<rect class="${kinds}" ${box} data-day="${day}" role="button" tabindex="-1" aria-pressed="false" ` +
    `aria-label="${said}"><title>${said}</title></rect>`
  );
}

function legend(scenes) {
  const there = new Set(scenes.map((scene) => shade(scene.cloud ?? Infinity)));
  const line = document.createElement("p");
  line.className = "legend";
  line.innerHTML = Object.entries(LEGEND)
    .filter(([name]) => there.has(name))
    .map(([name, said]) => `<span><i class="i-${name}"></i>${said}</span>`)
    .join("");
  return line;
}
