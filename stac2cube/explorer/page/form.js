// The form beside the map: fill it, read it, and show search results.

const $ = (id) => document.getElementById(id);

export function fill(choices) {
  const { missions, first } = choices;
  $("mission").replaceChildren(...missions.map(({ name, title }) => new Option(title, name, false, name === first.mission)));
  const year = new Date().getUTCFullYear();
  const usual = { [year - 1]: `${year - 1}`, [`${year - 3} to ${year - 1}`]: `${year - 3}/${year - 1}` };
  usual["summers of five years"] = `${year - 5}/${year - 1} 06-01/08-31`;
  usual["since January"] = `${year}-01/..`;
  $("times").replaceChildren(...Object.entries(usual).map(([said, time]) => button(said, { value: time })));
  $("time").value = `${year - 1}`;
  showMission(choices);
}

export function showMission(choices) {
  const mission = missionOf(choices);
  const carrying = Object.entries(choices.catalogs).filter(
    ([name]) => mission.catalogs.includes(name) || name === choices.first.catalog,
  );
  const before = $("catalog").value || choices.first.catalog;
  $("catalog").replaceChildren(
    new Option("chosen by itself", "auto"),
    ...carrying.map(([name, title]) => new Option(title, name, false, name === before)),
  );
  $("when").hidden = mission.static;
  $("bands").replaceChildren(
    ...mission.bands.map(([name, common, gsd]) =>
      check(name, mission.default_bands.includes(name), `${common}, ${gsd} m`),
    ),
  );
  const kept = new Set(marked("products"));
  $("products").replaceChildren(
    ...mission.products.map(([name, title]) => check(name, kept.size ? kept.has(name) : name === "report", "", title)),
  );
  $("resolution").value = "";
  sayBands(choices);
}

export function sayBands(choices) {
  const mission = missionOf(choices);
  const bands = marked("bands");
  const usual = bands.length === mission.default_bands.length && bands.every((name) => mission.default_bands.includes(name));
  $("bands-said").textContent = usual ? "as usual" : `${bands.length} of ${mission.bands.length}`;
}

export function chosen() {
  return {
    mission: $("mission").value,
    catalog: $("catalog").value,
    time: $("when").hidden ? "" : $("time").value,
    bands: marked("bands"),
    resolution: $("resolution").value,
    max_cloud_cover: $("cloud").value === "100" ? null : $("cloud").value,
    products: marked("products"),
    name: $("name").value.trim(),
  };
}

export function writtenArea() {
  return { text: $("area-text").value, edge: $("edge-label").hidden ? null : $("edge").value };
}

// Two numbers are a point, which needs the edge of a square.
export function pointOrBox() {
  $("edge-label").hidden = !/^\s*[-+\d.]+[\s,;]+[-+\d.]+\s*$/.test($("area-text").value);
}

export function showArea({ name, km2, crs, bounds }) {
  const size = km2 >= 100 ? Math.round(km2).toLocaleString("en") : km2.toPrecision(3);
  const zone = crs ? ` · UTM ${crs.slice(-2)}${crs.startsWith("EPSG:326") ? "N" : "S"}` : "";
  $("area-facts").replaceChildren(node(["b", `${size} km²`]), zone, name === "area" ? "" : ` · ${name}`);
  $("area-text").value = bounds.map((degree) => degree.toFixed(4)).join(", ");
  $("edge-label").hidden = true;
}

export function showSummary({ scenes, grid, catalog }, kept) {
  const sum = (what) => kept.reduce((total, scene) => total + scene[what], 0);
  const facts = [
    [kept.length, kept.length === scenes.length ? "scenes" : `of ${scenes.length} scenes`],
    [bytes(sum("write")), "on disk, about"],
    [bytes(sum("read")), "to read, about"],
  ];
  const broken = kept.filter((scene) => scene.problem).length;
  if (broken) facts.push([broken, "with a problem, see their days"]);
  const all = document.createElement("div");
  all.className = "all";
  const days = kept.length ? `${kept[0].day} to ${kept.at(-1).day}` : "none within the limit";
  const pixels = `${grid.columns} × ${grid.rows} pixels of ${grid.resolution} m, ${grid.layers.length} layers, ${grid.crs}`;
  all.textContent = `${days} · ${pixels} · from ${catalog.name.split("/").at(-1)} (${catalog.why})`;
  $("summary").replaceChildren(
    ...facts.map(([number, said]) => {
      const part = document.createElement("div");
      part.append(node(["b", String(number)]), ` ${said}`);
      return part;
    }),
    all,
  );
}

export function showScenes(scenes, place) {
  const lines = scenes.map((scene) => {
    const cloud = scene.cloud === null ? "cloud not said" : `${scene.cloud.toFixed(0)} % cloud`;
    const tiles = [...new Set(scene.parts.map((part) => part.tile))].join(" ");
    return [
      node(["b", scene.time.replace("T", " ").replace("Z", " UTC")]),
      ` · ${cloud} · ${scene.platform}, orbit ${scene.orbit} · ${tiles}${scene.problem ? ` · ${scene.problem}` : ""}`,
    ];
  });
  place.replaceChildren(...lines.flatMap((line, at) => (at ? [document.createElement("br"), ...line] : line)));
}

export function showWritten({ path, command }) {
  const copy = button("Copy", { className: "quiet" });
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(command);
      copy.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(line); // no permission: select it, to be copied manually
      copy.textContent = "Marked";
    }
  });
  const line = node(["pre", command]);
  line.id = "command";
  const row = document.createElement("div");
  row.className = "row";
  row.append(line, copy);
  const where = node(["p", ""]);
  where.className = "facts";
  where.append("Written: ", node(["b", path]), ". Now run:");
  const cluster = node(["p", `On a cluster: stac2cube submit ${command.replace("stac2cube run ", "")} --site NAME`]);
  cluster.className = "facts";
  $("written").replaceChildren(where, row, cluster);
  cluster.scrollIntoView({ block: "nearest" });
}

export function askToReplace(names, onYes) {
  const said = node(["p", `${names.join(", ")} ${names.length > 1 ? "are" : "is"} there already.`]);
  said.className = "facts";
  const yes = button("Replace", { className: "quiet" });
  yes.addEventListener("click", onYes);
  $("written").replaceChildren(said, yes);
  yes.focus();
}

function missionOf({ missions }) {
  return missions.find(({ name }) => name === $("mission").value);
}

function marked(group) {
  return [...$(group).querySelectorAll(":checked")].map((box) => box.value);
}

function check(value, on, title, said = value) {
  const label = document.createElement("label");
  const box = Object.assign(document.createElement("input"), { type: "checkbox", value, checked: on });
  label.title = title;
  label.append(box, Object.assign(document.createElement("span"), { textContent: said }));
  return label;
}

function button(said, more) {
  return Object.assign(document.createElement("button"), { type: "button", textContent: said, ...more });
}

function node(part) {
  if (typeof part === "string") return document.createTextNode(part);
  return Object.assign(document.createElement(part[0]), { textContent: part[1] });
}

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (count >= 1024 && at < units.length - 1) [count, at] = [count / 1024, at + 1];
  return `${at ? count.toFixed(1) : count} ${units[at]}`;
}
