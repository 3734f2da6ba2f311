/**
 * What is behind a head that is turned away from where it was in the photograph: the photograph itself where it shows no head, and
 * elsewhere a smooth continuation of that, by pulling colours up a pyramid of means and pushing them back down where none is known
 * (Gortler et al., "The lumigraph", SIGGRAPH 1996).
 */

/** Cells along a side of the finest level: a power of two. */
const cells = 32;
const tau = 2 * Math.PI;
const bins = 64;

/** For pictures of one size; keeps its buffers. */
export class Background {
  /** From fine to coarse: side, and for each cell its mean colour and how far it is known (0 to 1): [side, side, 4]. */
  readonly #levels: { readonly side: number; readonly values: Float32Array }[] = [];
  /** How far each cell of the finest level is known from the photograph. */
  readonly #known = new Float32Array(cells * cells);
  readonly #radius = new Float32Array(bins);
  /** The photograph that was given last. */
  #photograph: Uint8Array = new Uint8Array(0);

  constructor(readonly size: number) {
    for (let side = cells; side >= 1; side /= 2)
      this.#levels.push({ side, values: new Float32Array(side * side * 4) });
  }

  /** Works out the background of `photograph` [size, size, 3], in which the head lies within the points `outline` of `points` [n, 3]. */
  fill(photograph: Uint8Array, points: Float32Array, outline: Uint16Array): void {
    this.#photograph = photograph;
    const centre = this.#measure(points, outline);
    this.#gather(photograph, centre);
    for (let level = 1; level < this.#levels.length; level++) this.#pull(level);
    for (let level = this.#levels.length - 2; level >= 0; level--) this.#push(level);
  }

  /** The outline's distance from its middle, by angle. */
  #measure(points: Float32Array, outline: Uint16Array): readonly [number, number] {
    let [cx, cy] = [0, 0];
    for (const i of outline) {
      cx += (points[i * 3] ?? 0) / outline.length;
      cy += (points[i * 3 + 1] ?? 0) / outline.length;
    }
    const radius = this.#radius.fill(0);
    const place = (i: number): [bin: number, distance: number] => {
      const [x, y] = [(points[i * 3] ?? 0) - cx, (points[i * 3 + 1] ?? 0) - cy];
      return [((Math.atan2(y, x) + tau) / tau) * bins, Math.hypot(x, y)];
    };
    outline.forEach((point, n) => {
      const [from, near] = place(point);
      const [to, far] = place(outline[(n + 1) % outline.length] ?? 0);
      const sweep = ((((to - from) % bins) + 1.5 * bins) % bins) - bins / 2;
      const steps = Math.max(1, Math.ceil(2 * Math.abs(sweep)));
      for (let k = 0; k < steps; k++) {
        const bin = (Math.floor(from + (sweep * k) / steps) + 2 * bins) % bins;
        radius[bin] = Math.max(radius[bin] ?? 0, near + ((far - near) * k) / steps);
      }
    });
    return [cx, cy];
  }

  /** Means of the finest level, known where the head is not; the picture's rim counts a little, so that something always does. */
  #gather(photograph: Uint8Array, [cx, cy]: readonly [number, number]): void {
    const { size } = this;
    const values = this.#levels[0]?.values.fill(0) ?? new Float32Array(0);
    const step = size / cells;
    for (let row = 0; row < cells; row++)
      for (let column = 0; column < cells; column++) {
        const [x, y] = [(column + 0.5) * step - 0.5, (row + 0.5) * step - 0.5];
        const [dx, dy] = [x - cx, y - cy];
        const bin = Math.floor(((Math.atan2(dy, dx) + tau) / tau) * bins) % bins;
        const beyond = Math.hypot(dx, dy) / ((this.#radius[bin] ?? 1) + 1e-6);
        const cell = row * cells + column;
        this.#known[cell] = Math.max(0, Math.min(1, (beyond - 1) / 0.15));
        const rim = row === 0 || column === 0 || row === cells - 1 || column === cells - 1;
        const weight = Math.max(this.#known[cell] ?? 0, rim ? 0.02 : 0);
        if (weight === 0) continue;
        const [left, right] = [
          Math.floor(column * step),
          Math.max(Math.floor(column * step) + 1, Math.floor((column + 1) * step)),
        ];
        const [top, bottom] = [
          Math.floor(row * step),
          Math.max(Math.floor(row * step) + 1, Math.floor((row + 1) * step)),
        ];
        const share = weight / ((right - left) * (bottom - top));
        for (let j = top; j < bottom; j++)
          for (let i = left; i < right; i++)
            for (let k = 0; k < 3; k++) {
              const at = cell * 4 + k;
              values[at] = (values[at] as number) + share * (photograph[(j * size + i) * 3 + k] as number);
            }
        values[cell * 4 + 3] = weight;
      }
  }

  // Colours are kept multiplied by how far they are known. A coarse cell is known as far as its four cells together, at most wholly.
  #pull(level: number): void {
    const fine = this.#levels[level - 1];
    const coarse = this.#levels[level];
    if (!fine || !coarse) return;
    for (let row = 0; row < coarse.side; row++)
      for (let column = 0; column < coarse.side; column++) {
        const to = (row * coarse.side + column) * 4;
        const at = (2 * row * fine.side + 2 * column) * 4;
        const sums = [0, 1, 2, 3].map((k) =>
          [0, 4, fine.side * 4, fine.side * 4 + 4].reduce(
            (sum, o) => sum + (fine.values[at + o + k] as number),
            0,
          ),
        );
        const scale = 1 / Math.max(1, sums[3] ?? 0);
        sums.forEach((sum, k) => (coarse.values[to + k] = sum * scale));
      }
  }

  // What is not known of a fine cell comes from the coarse level, bilinear. The coarsest one is known by definition.
  #push(level: number): void {
    const fine = this.#levels[level];
    const coarse = this.#levels[level + 1];
    if (!fine || !coarse) return;
    if (coarse.side === 1) {
      const known = Math.max(1e-6, coarse.values[3] as number);
      for (let k = 0; k < 4; k++) coarse.values[k] = (coarse.values[k] as number) / known;
    }
    for (let row = 0; row < fine.side; row++)
      for (let column = 0; column < fine.side; column++) {
        const at = (row * fine.side + column) * 4;
        const missing = 1 - (fine.values[at + 3] as number);
        if (missing <= 0) continue;
        for (let k = 0; k < 4; k++)
          fine.values[at + k] =
            (fine.values[at + k] as number) +
            missing * bilinear(coarse.values, coarse.side, row / 2 - 0.25, column / 2 - 0.25, k);
      }
  }

  /** Mixes the background into out [size, size, 3] where `cover` [size, size] is below 1. */
  putBehind(out: Uint8Array, cover: Float32Array): void {
    const { size } = this;
    const finest = this.#levels[0]?.values ?? new Float32Array(0);
    const photograph = this.#photograph;
    const step = cells / size;
    for (let y = 0; y < size; y++)
      for (let x = 0; x < size; x++) {
        const pixel = y * size + x;
        const covered = cover[pixel] as number;
        if (covered >= 1) continue;
        const row = (y + 0.5) * step - 0.5;
        const column = (x + 0.5) * step - 0.5;
        const top = Math.max(0, Math.min(cells - 2, Math.floor(row)));
        const left = Math.max(0, Math.min(cells - 2, Math.floor(column)));
        const v = Math.max(0, Math.min(1, row - top));
        const u = Math.max(0, Math.min(1, column - left));
        const at = top * cells + left;
        const [a, b, c, d] = [(1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v];
        const known =
          a * (this.#known[at] as number) +
          b * (this.#known[at + 1] as number) +
          c * (this.#known[at + cells] as number) +
          d * (this.#known[at + cells + 1] as number);
        for (let k = 0; k < 3; k++) {
          const o = at * 4 + k;
          const smooth =
            a * (finest[o] as number) +
            b * (finest[o + 4] as number) +
            c * (finest[o + cells * 4] as number) +
            d * (finest[o + cells * 4 + 4] as number);
          const behind = known * (photograph[pixel * 3 + k] as number) + (1 - known) * smooth;
          out[pixel * 3 + k] = covered * (out[pixel * 3 + k] as number) + (1 - covered) * behind + 0.5;
        }
      }
  }
}

function bilinear(values: Float32Array, side: number, row: number, column: number, k: number): number {
  const clamp = (i: number): number => Math.max(0, Math.min(side - 1, i));
  const top = Math.floor(row);
  const left = Math.floor(column);
  const [v, u] = [row - top, column - left];
  const value = (j: number, i: number): number => values[(clamp(j) * side + clamp(i)) * 4 + k] as number;
  return (
    (1 - v) * ((1 - u) * value(top, left) + u * value(top, left + 1)) +
    v * ((1 - u) * value(top + 1, left) + u * value(top + 1, left + 1))
  );
}
