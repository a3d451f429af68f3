// Mouse, fingers and keys on the map.

export function handle(map) {
  const { canvas } = map;
  const down = new Map(); // pointers that touch, by id
  let moved = 0;
  const at = (event) => [event.offsetX, event.offsetY];
  const spread = () => {
    const [a, b] = [...down.values()];
    return [Math.hypot(a[0] - b[0], a[1] - b[1]), [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2]];
  };

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    down.set(event.pointerId, at(event));
    moved = 0;
    if (map.tool === "rectangle" && down.size === 1 && !map.ring.length) map.putCorner(at(event));
    else if (down.size === 2 && map.tool === "rectangle") map.dropCorner();
  });

  canvas.addEventListener("pointermove", (event) => {
    map.pointer = at(event);
    const before = down.get(event.pointerId);
    if (before) {
      const [dx, dy] = [before[0] - event.offsetX, before[1] - event.offsetY];
      moved += Math.hypot(dx, dy);
      if (down.size === 2) {
        const [wide] = spread();
        down.set(event.pointerId, at(event));
        const [wider, middle] = spread();
        map.zoom(wider / wide, middle);
      } else if (map.tool !== "rectangle" && moved > 4) {
        canvas.classList.add("dragging");
        map.pan(dx, dy);
      }
      down.set(event.pointerId, at(event));
    }
    if (map.tool) map.redraw();
  });

  const up = (event) => {
    const alone = down.size === 1 && event.type === "pointerup";
    down.delete(event.pointerId);
    canvas.classList.remove("dragging");
    if (!alone) return;
    // A rectangle is dragged, or its corners are clicked one by one.
    if (map.tool === "rectangle" && map.ring.length && (moved > 8 || map.begun)) map.putCorner(at(event));
    else if (map.tool === "polygon" && moved <= 8) map.putCorner(at(event));
    map.begun = map.tool === "rectangle" && map.ring.length > 0;
  };
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("pointerleave", () => {
    map.pointer = null;
    map.redraw();
  });

  canvas.addEventListener("dblclick", (event) => {
    if (map.tool === "polygon") map.finishPolygon();
    else if (!map.tool) map.zoom(2, at(event));
  });

  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const lines = event.deltaMode === 1 ? 18 : 1;
      map.zoom(2 ** ((-event.deltaY * lines) / (event.ctrlKey ? 90 : 280)), at(event));
    },
    { passive: false },
  );

  const keys = {
    ArrowLeft: () => map.pan(-80, 0),
    ArrowRight: () => map.pan(80, 0),
    ArrowUp: () => map.pan(0, -80),
    ArrowDown: () => map.pan(0, 80),
    "+": () => map.zoom(1.6),
    "=": () => map.zoom(1.6),
    "-": () => map.zoom(1 / 1.6),
    r: () => map.setTool("rectangle"),
    p: () => map.setTool("polygon"),
    Escape: () => map.tool && map.setTool(map.tool),
    Backspace: () => map.dropCorner(),
    Enter: () => map.finishPolygon(),
    " ": () => map.tool && map.putCorner([map.width / 2, map.height / 2]),
  };
  canvas.addEventListener("keydown", (event) => {
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    map.pointer = null; // the crosshair takes over
    keys[event.key]();
  });
}
