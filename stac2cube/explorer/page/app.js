// The page: choices, search results, and the recipe.

import { ask, asBase64, land } from "./ask.js";
import { Calendar } from "./calendar.js";
import { WorldMap } from "./map.js";
import * as form from "./form.js";

const $ = (id) => document.getElementById(id);
const map = new WorldMap($("map"));
const calendar = new Calendar($("calendar"), pick);
const state = { area: null, found: null, searches: 0, previews: 0 };

begin();

async function begin() {
  try {
    state.choices = await ask("choices");
  } catch (error) {
    problem(error);
    return;
  }
  form.fill(state.choices);
  const { tiles } = state.choices.first;
  if (tiles) map.setTiles(tiles);
  $("credit").textContent = tiles ? `Tiles: ${new URL(tiles).host}` : "Land: coarse outline, for orientation only";
  map.setLand(await land());
}

async function setArea(said) {
  try {
    const area = await ask("area", said);
    state.area = area;
    forget();
    map.setArea(area.geometry);
    map.show(area.bounds);
    $("zoom-area").disabled = false;
    form.showArea(area);
    if (area.name !== "area") $("name").value = area.name;
    problem(null);
    preview();
  } catch (error) {
    problem(error);
  }
}

function draft() {
  return { ...form.chosen(), area: state.area?.id ?? null };
}

async function search(event) {
  event?.preventDefault();
  const number = ++state.searches;
  $("search").classList.add("busy");
  $("search").disabled = true;
  problem(null);
  try {
    const found = await ask("search", draft());
    if (number !== state.searches) return; // a newer search was started meanwhile
    state.found = found;
    $("found").hidden = false;
    calendar.show(found.scenes, within);
    map.setOutlines(outlines(found.scenes));
    summarize();
  } catch (error) {
    if (number !== state.searches) return;
    forget();
    problem(error);
  } finally {
    if (number === state.searches) {
      $("search").classList.remove("busy");
      $("search").disabled = false;
    }
  }
}

// One footprint per tile and orbit: they hardly differ between dates, and ten years would be thousands.
function outlines(scenes) {
  const different = new Map();
  for (const { orbit, parts } of scenes) for (const part of parts) different.set(`${part.tile} ${orbit}`, part.geometry);
  return [...different.values()];
}

function within(scene) {
  return scene.cloud === null || scene.cloud <= Number($("cloud").value);
}

function summarize() {
  if (!state.found) return;
  calendar.limit(within);
  form.showSummary(state.found, state.found.scenes.filter(within));
}

function forget() {
  state.found = null;
  $("found").hidden = true;
  map.setOutlines([]);
  map.setPicked([]);
  $("calendar").replaceChildren();
  $("summary").replaceChildren();
  $("picked").replaceChildren();
}

function pick(scenes) {
  map.setPicked(scenes.flatMap((scene) => scene.parts));
  form.showScenes(scenes, $("picked"));
}

async function preview() {
  const number = ++state.previews;
  $("written").replaceChildren();
  if (!state.area) return;
  try {
    const { recipe } = await ask("preview", draft());
    if (number === state.previews) $("recipe").textContent = recipe;
  } catch (error) {
    if (number === state.previews) $("recipe").textContent = `# ${error.message}`;
  }
}

async function write(replace) {
  problem(null);
  try {
    const done = await ask("write", { ...draft(), replace });
    if (done.exists) form.askToReplace(done.exists, () => write(true));
    else {
      $("recipe").textContent = done.recipe;
      form.showWritten(done);
    }
  } catch (error) {
    problem(error);
  }
}

function problem(error) {
  $("problem").hidden = !error;
  $("problem").textContent = error?.message ?? "";
  if (error) $("problem").scrollIntoView({ block: "nearest" });
}

function hint() {
  const said = {
    rectangle: "Drag a rectangle, or set two corners. Esc ends.",
    polygon: map.ring.length > 2 ? "Double-click, Enter or the first corner closes it." : "Set corner by corner. Esc ends.",
  };
  $("hint").textContent = said[map.tool] ?? "";
  for (const tool of ["rectangle", "polygon"]) $(tool).setAttribute("aria-pressed", map.tool === tool);
}

map.addEventListener("tool", hint);
map.addEventListener("drawn", (event) => setArea({ ring: event.detail }));
for (const tool of ["rectangle", "polygon"]) {
  $(tool).addEventListener("click", () => {
    map.setTool(tool);
    $("map").focus({ preventScroll: true });
  });
}
$("open").addEventListener("click", () => $("files").click());
$("files").addEventListener("change", async () => {
  const files = [...$("files").files];
  const sent = await Promise.all(files.map(async (file) => ({ name: file.name, data: await asBase64(file) })));
  $("files").value = "";
  if (sent.length) setArea({ files: sent });
});
$("map").addEventListener("dragover", (event) => event.preventDefault());
$("map").addEventListener("drop", async (event) => {
  event.preventDefault();
  const files = [...event.dataTransfer.files];
  const sent = await Promise.all(files.map(async (file) => ({ name: file.name, data: await asBase64(file) })));
  if (sent.length) setArea({ files: sent });
});
$("zoom-in").addEventListener("click", () => map.zoom(0.85));
$("zoom-out").addEventListener("click", () => map.zoom(-0.85));
$("zoom-area").addEventListener("click", () => map.show(state.area.bounds));
$("area-set").addEventListener("click", () => setArea(form.writtenArea()));
$("area-text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault();
  setArea(form.writtenArea());
});
$("area-text").addEventListener("input", form.pointOrBox);
$("form").addEventListener("submit", search);
$("form").addEventListener("change", (event) => {
  if (["mission", "catalog", "time"].includes(event.target.id)) forget();
  if (event.target.id === "mission") form.showMission(state.choices);
  form.sayBands(state.choices);
  // Other bands or pixels change the size of the cube, not the scenes found.
  if (state.found && event.target.closest("#bands, #resolution")) search();
  preview();
});
$("times").addEventListener("click", (event) => {
  if (!event.target.value) return;
  $("time").value = event.target.value;
  $("time").dispatchEvent(new Event("change", { bubbles: true }));
});
$("cloud").addEventListener("input", () => {
  $("cloud-said").textContent = `${$("cloud").value} %`;
  summarize();
});
$("write").addEventListener("click", () => write(false));
