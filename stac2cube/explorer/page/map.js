// The map: Leaflet with land, graticule, zones, footprints and an area, and two tools that draw an area.
/* global L */

import { degrees, graticuleStep, gridZones } from "./grid.js";

const COPIES = [-360, 0, 360]; // offsets in degrees of copies of shapes, so that nothing ends at the antimeridian
const CLOSE = 12; // largest distance in pixels of a click that closes the ring at the first corner
const CLICK = 8; // pixels that the pointer may move in a click
const MARGIN = 0.22; // fraction of the map left free on each side of an area
const LAYERS = ["land", "grid", "zone", "outline", "picked", "area", "drawn"];

export class WorldMap extends EventTarget {
  constructor(element) {
    super();
    this.element = element;
    this.tool = "";
    this.ring = []; // corners being drawn, [lon, lat]
    this.map = L.map(element, {
      center: [30, 12],
      zoom: 2,
      zoomSnap: 0,
      zoomAnimation: false,
      inertia: false,
      keyboard: false, // keys are handled below: they also set corners
      zoomControl: false,
      attributionControl: false,
      worldCopyJump: true,
      maxZoom: 17,
      maxBounds: [[-85.06, -Infinity], [85.06, Infinity]],
      maxBoundsViscosity: 1,
    });
    this.map.createPane("land").style.zIndex = 150; // below the tiles
    this.layers = Object.fromEntries(LAYERS.map((name) => [name, L.layerGroup().addTo(this.map)]));
    L.control.scale({ imperial: false }).addTo(this.map);
    new ResizeObserver(() => this.#resize()).observe(element);
    this.map.on("moveend", () => this.#drawLines());
    this.#resize();
    this.#handlePointer();
    this.#handleKeys();
  }

  setLand(geometry) {
    this.#draw("land", [geometry], { pane: "land" });
  }

  setTiles(address) {
    L.tileLayer(address, { maxNativeZoom: 19 }).addTo(this.map);
  }

  setTool(tool) {
    this.tool = this.tool === tool ? "" : tool;
    this.ring = [];
    this.element.classList.toggle("drawing", this.tool !== "");
    this.map.dragging[this.tool === "rectangle" ? "disable" : "enable"]();
    this.map.doubleClickZoom[this.tool ? "disable" : "enable"]();
    this.#drawRing();
    this.dispatchEvent(new Event("tool"));
  }

  setArea(geometry) {
    this.#draw("area", [geometry]);
  }

  setOutlines(geometries) {
    this.#draw("outline", geometries);
  }

  setPicked(parts) {
    this.#draw("picked", parts.map((part) => part.geometry));
    for (const { tile, geometry } of parts) {
      if (!geometry) continue;
      const content = Object.assign(document.createElement("span"), { textContent: tile });
      const options = { permanent: true, direction: "center", className: "tile", content };
      L.tooltip(L.geoJSON(geometry).getBounds().getCenter(), options).addTo(this.layers.picked);
    }
  }

  // Show a box of degrees; west > east crosses the antimeridian.
  show([west, south, east, north]) {
    const padding = this.map.getSize().multiplyBy(MARGIN);
    const box = [[south, west], [north, east < west ? east + 360 : east]];
    this.map.fitBounds(box, { padding, maxZoom: 14, animate: false });
  }

  zoom(levels) {
    this.map.setZoom(this.map.getZoom() + levels);
  }

  // A corner, from a click or from the middle of the map, where the keyboard sets it.
  putCorner({ lng, lat }) {
    const corner = [lng, lat];
    if (this.tool === "rectangle" && this.ring.length) {
      const [lon, first] = this.ring[0];
      if (lon !== lng && first !== lat) this.#finish([[lon, first], [lng, first], corner, [lon, lat]]);
      return;
    }
    const pixel = ([x, y]) => this.map.latLngToContainerPoint([y, x]);
    if (this.ring.length > 2 && pixel(this.ring[0]).distanceTo(pixel(corner)) < CLOSE) this.finishPolygon();
    else this.ring.push(corner);
    this.#drawRing();
    this.dispatchEvent(new Event("tool"));
  }

  finishPolygon() {
    const apart = this.ring.filter((corner, at) => !at || String(corner) !== String(this.ring[at - 1]));
    if (this.tool === "polygon" && apart.length > 2) this.#finish(apart);
  }

  dropCorner() {
    this.ring.pop();
    this.#drawRing();
    this.dispatchEvent(new Event("tool"));
  }

  #finish(ring) {
    this.setTool("");
    this.dispatchEvent(new CustomEvent("drawn", { detail: ring }));
  }

  #resize() {
    this.map.invalidateSize({ animate: false });
    const { x, y } = this.map.getSize();
    if (x && y) this.map.setMinZoom(Math.log2(Math.max(x, y) / 256)); // one world fills the map
  }

  #draw(name, geometries, options = {}) {
    this.layers[name].clearLayers();
    for (const geometry of geometries) {
      for (const turn of geometry ? COPIES : []) {
        const coordsToLatLng = ([lon, lat]) => L.latLng(lat, lon + turn);
        L.geoJSON(geometry, { ...options, className: name, interactive: false, coordsToLatLng }).addTo(this.layers[name]);
      }
    }
  }

  #drawLines() {
    const view = this.map.getBounds();
    const [west, south, east, north] = [view.getWest(), view.getSouth(), view.getEast(), view.getNorth()];
    const { grid, zone } = this.layers;
    grid.clearLayers();
    zone.clearLayers();
    const size = this.map.getSize();
    const step = graticuleStep(size.x / (east - west));
    for (let lon = Math.ceil(west / step) * step; lon <= east; lon += step) {
      this.#line(grid, "grid", [[south, lon], [north, lon]]);
      this.#label(grid, "grid-label below", degrees(lon, "EW", step), [south, lon]);
    }
    for (let lat = Math.ceil(south / step) * step; lat <= north; lat += step) {
      this.#line(grid, "grid", [[lat, west], [lat, east]]);
      const { y } = this.map.latLngToContainerPoint([lat, west]);
      if (y > 70 && y < size.y - 60) this.#label(grid, "grid-label", degrees(lat, "NS", step), [lat, west]);
    }
    if (east - west > 140) return; // the zones would be too dense
    for (const [name, left, bottom, right, top] of gridZones(west, east, south, north)) {
      this.#line(zone, "zone", [[bottom, left], [bottom, right], [top, right], [top, left], [bottom, left]]);
      const [x, y] = [Math.min(right, east), Math.max(bottom, south)];
      const seen = this.map.latLngToContainerPoint([Math.min(top, north), Math.max(left, west)]);
      const corner = this.map.latLngToContainerPoint([y, x]);
      if (corner.x - seen.x > 60 && corner.y - seen.y > 90) this.#label(zone, "zone-label", name, [y, x]);
    }
  }

  #line(layer, className, corners) {
    L.polyline(corners, { className, interactive: false, noClip: true }).addTo(layer);
  }

  #label(layer, className, text, place) {
    const icon = L.divIcon({ className, html: text, iconSize: null });
    L.marker(place, { icon, interactive: false, keyboard: false }).addTo(layer);
  }

  #drawRing() {
    const { drawn } = this.layers;
    drawn.clearLayers();
    this.element.classList.toggle("crosshair", this.tool !== "" && !this.pointer);
    if (!this.tool || !this.ring.length) return;
    const corners = this.ring.map(([lon, lat]) => [lat, lon]);
    const next = this.pointer ?? this.map.getCenter();
    const options = { className: "drawn", interactive: false };
    if (this.tool === "rectangle") L.rectangle([corners[0], next], options).addTo(drawn);
    else L.polygon([...corners, next], options).addTo(drawn);
    for (const corner of corners) L.circleMarker(corner, { ...options, radius: 4 }).addTo(drawn);
  }

  #handlePointer() {
    const at = (event) => this.map.mouseEventToLatLng(event);
    let down = null;
    let first = false; // whether this press set the first corner of a rectangle
    this.element.addEventListener("pointerdown", (event) => {
      if (!this.tool || !event.isPrimary) return;
      down = [event.clientX, event.clientY];
      first = this.tool === "rectangle" && !this.ring.length;
      this.pointer = at(event);
      if (first) this.putCorner(this.pointer);
    });
    this.element.addEventListener("pointermove", (event) => {
      if (!event.isPrimary) return;
      this.pointer = at(event);
      if (this.tool) this.#drawRing();
    });
    this.element.addEventListener("pointerup", (event) => {
      if (!this.tool || !event.isPrimary || !down) return;
      const moved = Math.hypot(event.clientX - down[0], event.clientY - down[1]) > CLICK;
      down = null;
      // A rectangle is dragged, or its corners are clicked one by one.
      if (this.tool === "rectangle" ? moved || !first : !moved) this.putCorner(at(event));
    });
    this.element.addEventListener("pointerleave", () => {
      this.pointer = null;
      if (this.tool) this.#drawRing();
    });
    this.element.addEventListener("dblclick", () => this.finishPolygon());
  }

  #handleKeys() {
    const pan = (x, y) => this.map.panBy([x, y], { animate: false });
    const keys = {
      ArrowLeft: () => pan(-80, 0),
      ArrowRight: () => pan(80, 0),
      ArrowUp: () => pan(0, -80),
      ArrowDown: () => pan(0, 80),
      "+": () => this.zoom(0.7),
      "=": () => this.zoom(0.7),
      "-": () => this.zoom(-0.7),
      r: () => this.setTool("rectangle"),
      p: () => this.setTool("polygon"),
      Escape: () => this.tool && this.setTool(this.tool),
      Backspace: () => this.dropCorner(),
      Enter: () => this.finishPolygon(),
      " ": () => this.tool && this.putCorner(this.map.getCenter()),
    };
    this.element.addEventListener("keydown", (event) => {
      if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      this.pointer = null; // the crosshair takes over
      keys[event.key]();
      if (this.tool) this.#drawRing();
    });
  }
}
