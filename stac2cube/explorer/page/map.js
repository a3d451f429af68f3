// A map on a canvas: land, graticule, zones, footprints and an area; it is dragged, zoomed and drawn on.

import { bounds, degrees, graticuleStep, gridZones, metresPerUnit, project, ringsOf, unproject } from "./globe.js";

const COLOURS = ["sea", "land", "coast", "grid", "grid-text", "zone", "zone-text", "scene", "area", "card", "ink"];
const CLOSE = 12; // pixels within which a click meets a corner

export class WorldMap extends EventTarget {
  constructor(canvas) {
    super();
    this.canvas = canvas;
    this.pen = canvas.getContext("2d");
    this.centre = project([12, 30]);
    this.scale = 0; // pixels of the world's width
    this.tool = "";
    this.ring = []; // corners being drawn, [lon, lat]
    this.outlines = [];
    this.picked = [];
    this.area = null;
    this.tiles = null;
    new ResizeObserver(() => this.#resize()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#colour());
    this.#colour();
  }

  setLand({ rings }) {
    this.land = new Path2D();
    for (const ring of rings) {
      for (let at = 0; at < ring.length; at += 2) {
        const [x, y] = project([ring[at], ring[at + 1]]);
        if (at) this.land.lineTo(x, y);
        else this.land.moveTo(x, y);
      }
      this.land.closePath();
    }
    this.redraw();
  }

  setTool(tool) {
    this.tool = this.tool === tool ? "" : tool;
    this.ring = [];
    this.canvas.classList.toggle("drawing", this.tool !== "");
    this.dispatchEvent(new Event("tool"));
    this.redraw();
  }

  setArea(geometry) {
    this.area = geometry;
    this.redraw();
  }

  setOutlines(geometries) {
    this.outlines = geometries;
    this.redraw();
  }

  setPicked(parts) {
    this.picked = parts;
    this.redraw();
  }

  // Show a box of degrees; west > east crosses the antimeridian.
  show([west, south, east, north], room = 0.55) {
    const [left, bottom] = project([west, south]);
    const [right, top] = project([east < west ? east + 360 : east, north]);
    this.centre = [(left + right) / 2, (top + bottom) / 2];
    const scale = room * Math.min(this.width / (right - left), this.height / (bottom - top));
    this.#zoomTo(Math.min(scale, 3e6));
  }

  showGeometries(geometries, room) {
    if (geometries.length) this.show(bounds(geometries), room);
  }

  zoom(factor, at = [this.width / 2, this.height / 2]) {
    const before = this.unitAt(at);
    this.#zoomTo(this.scale * factor);
    const after = this.unitAt(at);
    this.#moveTo([this.centre[0] + before[0] - after[0], this.centre[1] + before[1] - after[1]]);
  }

  pan(dx, dy) {
    this.#moveTo([this.centre[0] + dx / this.scale, this.centre[1] + dy / this.scale]);
  }

  unitAt([px, py]) {
    return [
      this.centre[0] + (px - this.width / 2) / this.scale,
      this.centre[1] + (py - this.height / 2) / this.scale,
    ];
  }

  placeAt(pixel) {
    return unproject(this.unitAt(pixel));
  }

  pixelOf(place, turn = 0) {
    const [x, y] = project(place);
    return [
      (x + turn - this.centre[0]) * this.scale + this.width / 2,
      (y - this.centre[1]) * this.scale + this.height / 2,
    ];
  }

  // A corner, from a click or from the keyboard's crosshair.
  putCorner(pixel) {
    const place = this.placeAt(pixel);
    if (this.tool === "rectangle" && this.ring.length) {
      const [lon, lat] = this.ring[0];
      if (lon !== place[0] && lat !== place[1]) this.#finish([[lon, lat], [place[0], lat], place, [lon, place[1]]]);
      return;
    }
    const first = this.ring.length > 2 && this.pixelOf(this.ring[0]);
    if (first && Math.hypot(first[0] - pixel[0], first[1] - pixel[1]) < CLOSE) this.finishPolygon();
    else this.ring.push(place);
    this.dispatchEvent(new Event("tool"));
    this.redraw();
  }

  finishPolygon() {
    const apart = this.ring.filter((place, at) => !at || String(place) !== String(this.ring[at - 1]));
    if (this.tool === "polygon" && apart.length > 2) this.#finish(apart);
  }

  dropCorner() {
    this.ring.pop();
    this.dispatchEvent(new Event("tool"));
    this.redraw();
  }

  redraw() {
    this.waiting ??= requestAnimationFrame(() => {
      this.waiting = null;
      if (this.width && this.height) this.#draw();
    });
  }

  #finish(ring) {
    this.setTool("");
    this.dispatchEvent(new CustomEvent("drawn", { detail: ring }));
  }

  #colour() {
    const style = getComputedStyle(document.documentElement);
    this.colours = Object.fromEntries(COLOURS.map((name) => [name, style.getPropertyValue(`--${name}`)]));
    this.redraw();
  }

  #resize() {
    const { clientWidth, clientHeight } = this.canvas;
    const ratio = devicePixelRatio || 1;
    this.canvas.width = clientWidth * ratio;
    this.canvas.height = clientHeight * ratio;
    [this.width, this.height, this.ratio] = [clientWidth, clientHeight, ratio];
    this.#zoomTo(this.scale || 1.25 * Math.max(clientWidth, clientHeight));
  }

  #zoomTo(scale) {
    this.scale = Math.max(Math.max(this.width, this.height), Math.min(scale, 3e7));
    this.#moveTo(this.centre);
  }

  #moveTo([x, y]) {
    const half = this.height / 2 / this.scale;
    this.centre = [((x % 1) + 1) % 1, Math.max(half, Math.min(1 - half, y))];
    this.redraw();
  }

  #draw() {
    const { pen, width, height, colours } = this;
    pen.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    pen.fillStyle = colours.sea;
    pen.fillRect(0, 0, width, height);
    const [left] = this.unitAt([0, 0]);
    const [right] = this.unitAt([width, 0]);
    this.turns = [];
    for (let turn = Math.floor(left); turn <= Math.floor(right); turn++) this.turns.push(turn);
    this.#drawLand();
    this.tiles?.draw(this);
    this.#drawGrid();
    if (this.scale > 2500) this.#drawZones();
    this.#drawShapes(this.outlines, { stroke: colours.scene, alpha: 0.35 });
    this.#drawShapes(this.picked.map((part) => part.geometry), { stroke: colours.scene, fill: 0.12, width: 2 });
    for (const part of this.picked) this.#label(part.tile, part.geometry);
    if (this.area) this.#drawShapes([this.area], { stroke: colours.area, fill: 0.22, width: 2.2 });
    this.#drawRing();
    this.#drawScale();
  }

  #drawLand() {
    if (!this.land) return;
    const { pen, scale, ratio } = this;
    for (const turn of this.turns) {
      const x = (turn - this.centre[0]) * scale + this.width / 2;
      const y = -this.centre[1] * scale + this.height / 2;
      pen.setTransform(scale * ratio, 0, 0, scale * ratio, x * ratio, y * ratio);
      pen.fillStyle = this.colours.land;
      pen.fill(this.land, "evenodd");
      pen.strokeStyle = this.colours.coast;
      pen.lineWidth = 0.8 / scale;
      pen.stroke(this.land);
    }
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  #drawGrid() {
    const { pen, width, height } = this;
    const step = graticuleStep(this.scale / 360);
    const [west, north] = this.placeAt([0, 0]);
    const [east, south] = this.placeAt([width, height]);
    pen.strokeStyle = this.colours.grid;
    pen.fillStyle = this.colours["grid-text"];
    pen.font = "11px system-ui, sans-serif";
    pen.lineWidth = 1;
    pen.beginPath();
    for (let lon = Math.ceil(west / step) * step; lon <= east; lon += step) {
      const x = Math.round(this.pixelOf([lon, 0])[0]) + 0.5;
      pen.moveTo(x, 0);
      pen.lineTo(x, height);
      pen.fillText(degrees(lon, "EW", step), x + 4, height - 8);
    }
    for (let lat = Math.ceil(south / step) * step; lat <= north; lat += step) {
      const y = Math.round(this.pixelOf([0, lat])[1]) + 0.5;
      pen.moveTo(0, y);
      pen.lineTo(width, y);
      if (y > 70 && y < height - 24) pen.fillText(degrees(lat, "NS", step), 8, y - 4);
    }
    pen.stroke();
  }

  #drawZones() {
    const { pen } = this;
    const [west, north] = this.placeAt([0, 0]);
    const [east, south] = this.placeAt([this.width, this.height]);
    pen.strokeStyle = this.colours.zone;
    pen.lineWidth = 1.5;
    pen.fillStyle = this.colours["zone-text"];
    pen.font = "600 12px system-ui, sans-serif";
    for (const [name, left, bottom, right, top] of gridZones(west, east, south, north)) {
      const [x0, y0] = this.pixelOf([left, top]);
      const [x1, y1] = this.pixelOf([right, bottom]);
      pen.strokeRect(x0, y0, x1 - x0, y1 - y0);
      const [shownRight, shownBottom] = [Math.min(x1, this.width), Math.min(y1, this.height - 44)];
      if (shownRight - Math.max(x0, 0) < 60 || shownBottom - Math.max(y0, 60) < 30) continue;
      pen.fillText(name, shownRight - 32, shownBottom - 8);
    }
  }

  #drawShapes(geometries, { stroke, fill = 0, width = 1, alpha = 1 }) {
    const { pen } = this;
    pen.strokeStyle = pen.fillStyle = stroke;
    pen.lineWidth = width;
    for (const geometry of geometries) {
      for (const rings of ringsOf(geometry)) {
        for (const turn of this.turns) {
          pen.beginPath();
          for (const ring of rings) {
            ring.forEach((place, at) => pen[at ? "lineTo" : "moveTo"](...this.pixelOf(place, turn)));
            pen.closePath();
          }
          pen.globalAlpha = fill;
          if (fill) pen.fill("evenodd");
          pen.globalAlpha = alpha;
          pen.stroke();
        }
      }
    }
    pen.globalAlpha = 1;
  }

  #label(text, geometry) {
    const [west, south, east, north] = bounds([geometry]);
    const { pen } = this;
    pen.font = "600 12px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.lineWidth = 3;
    pen.strokeStyle = this.colours.card;
    pen.fillStyle = this.colours.scene;
    for (const turn of this.turns) {
      const [x, y] = this.pixelOf([(west + east) / 2, (south + north) / 2], turn);
      pen.strokeText(text, x, y);
      pen.fillText(text, x, y);
    }
    pen.textAlign = "start";
  }

  #drawRing() {
    if (!this.tool) return;
    const { pen, pointer } = this;
    pen.strokeStyle = pen.fillStyle = this.colours.area;
    pen.lineWidth = 2;
    const corners = this.ring.map((place) => this.pixelOf(place));
    const next = pointer ?? [this.width / 2, this.height / 2];
    pen.beginPath();
    if (this.tool === "rectangle" && corners.length) {
      const [x, y] = corners[0];
      pen.rect(x, y, next[0] - x, next[1] - y);
    } else {
      corners.forEach(([x, y], at) => (at ? pen.lineTo(x, y) : pen.moveTo(x, y)));
      if (corners.length) pen.lineTo(...next);
    }
    pen.globalAlpha = 0.15;
    pen.fill();
    pen.globalAlpha = 1;
    pen.stroke();
    for (const [x, y] of corners) pen.fillRect(x - 3.5, y - 3.5, 7, 7);
    if (!pointer) {
      // The keyboard puts corners in the middle.
      pen.beginPath();
      pen.moveTo(next[0] - 10, next[1]);
      pen.lineTo(next[0] + 10, next[1]);
      pen.moveTo(next[0], next[1] - 10);
      pen.lineTo(next[0], next[1] + 10);
      pen.stroke();
    }
  }

  #drawScale() {
    const { pen } = this;
    const [, lat] = unproject(this.centre);
    const perPixel = metresPerUnit(lat) / this.scale;
    const most = 110 * perPixel;
    const ten = 10 ** Math.floor(Math.log10(most));
    const metres = [5, 2, 1].map((part) => part * ten).find((length) => length <= most);
    const [x, y, length] = [12, this.height - 28, metres / perPixel];
    pen.strokeStyle = pen.fillStyle = this.colours.ink;
    pen.globalAlpha = 0.7;
    pen.lineWidth = 1.5;
    pen.beginPath();
    pen.moveTo(x, y - 5);
    pen.lineTo(x, y);
    pen.lineTo(x + length, y);
    pen.lineTo(x + length, y - 5);
    pen.stroke();
    pen.font = "11px system-ui, sans-serif";
    pen.fillText(metres < 1000 ? `${metres} m` : `${metres / 1000} km`, x + 5, y - 5);
    pen.globalAlpha = 1;
  }
}
