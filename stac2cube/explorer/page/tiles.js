// Map tiles from elsewhere, for those who gave their address.

const SIZE = 256;
const KEPT = 300;

export class Tiles {
  constructor(address) {
    this.address = address;
    this.known = new Map();
  }

  draw(map) {
    const level = Math.max(0, Math.min(19, Math.round(Math.log2(map.scale / SIZE))));
    const many = 2 ** level;
    const [left, top] = map.unitAt([0, 0]);
    const [right, bottom] = map.unitAt([map.width, map.height]);
    for (let y = Math.max(0, Math.floor(top * many)); y <= Math.min(many - 1, Math.floor(bottom * many)); y++) {
      for (let x = Math.floor(left * many); x <= Math.floor(right * many); x++) {
        const picture = this.#picture(level, ((x % many) + many) % many, y, map);
        if (!picture.complete || !picture.naturalWidth) continue;
        const px = (x / many - map.centre[0]) * map.scale + map.width / 2;
        const py = (y / many - map.centre[1]) * map.scale + map.height / 2;
        map.pen.drawImage(picture, px, py, map.scale / many + 0.5, map.scale / many + 0.5);
      }
    }
  }

  #picture(z, x, y, map) {
    const address = this.address.replace("{z}", z).replace("{x}", x).replace("{y}", y);
    if (!this.known.has(address)) {
      const picture = new Image();
      picture.onload = () => map.redraw();
      picture.src = address;
      this.known.set(address, picture);
      if (this.known.size > KEPT) this.known.delete(this.known.keys().next().value);
    }
    return this.known.get(address);
  }
}
