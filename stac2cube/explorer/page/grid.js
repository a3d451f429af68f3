// Lines on the map: the graticule, and the zones of UTM and MGRS.

// Spacing of lines in degrees, for a spacing in pixels.
export function graticuleStep(pixelsPerDegree) {
  const steps = [30, 20, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001];
  return steps.findLast((step) => step * pixelsPerDegree > 95) ?? 30;
}

export function degrees(value, signs, step) {
  const places = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9));
  const turned = signs === "EW" ? ((value + 540) % 360) - 180 : value;
  const sign = Math.abs(turned) < 1e-9 ? "" : turned > 0 ? signs[0] : signs[1];
  return `${Math.abs(turned).toFixed(places)}°${sign}`;
}

// Cells of the MGRS between two longitudes: [name, west, south, east, north]. Norway and Svalbard have their own.
export function* gridZones(west, east, south, north) {
  const rows = "CDEFGHJKLMNPQRSTUVWX";
  for (let row = 0; row < rows.length; row++) {
    const bottom = -80 + 8 * row;
    const top = row === 19 ? 84 : bottom + 8;
    if (top < south || bottom > north) continue;
    for (let column = Math.floor((west + 180) / 6) - 1; column <= Math.floor((east + 180) / 6) + 1; column++) {
      const zone = (((column % 60) + 60) % 60) + 1;
      let [left, right] = [column * 6 - 180, column * 6 - 174];
      if (rows[row] === "V" && zone === 31) right -= 3;
      if (rows[row] === "V" && zone === 32) left -= 3;
      if (rows[row] === "X" && [32, 34, 36].includes(zone)) continue;
      if (rows[row] === "X" && [31, 33, 35].includes(zone)) right += 3;
      if (rows[row] === "X" && [33, 35, 37].includes(zone)) left -= 3;
      if (right < west || left > east) continue;
      yield [`${zone}${rows[row]}`, left, bottom, right, top];
    }
  }
}
