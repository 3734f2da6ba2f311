/**
 * Alignment by five points: the least-squares similarity between two sets of points (Umeyama, "Least-squares estimation of
 * transformation parameters between two point patterns", PAMI 1991; in the plane, without reflection, it has a closed form),
 * the template that face crops of this field are brought to, and the picture under a similarity.
 */

export type Point = readonly [x: number, y: number];

/** x' = a x - b y + c, y' = b x + a y + d: turn, scale and shift. */
export type Similarity = readonly [a: number, b: number, c: number, d: number];

/** The five points of aligned crops for a side of 112 pixels, in this order: the eyes (image left first), the nose's tip, the
 *  mouth's corners. InsightFace's template. */
export const alignedPoints: readonly Point[] = [
  [38.2946, 51.6963],
  [73.5318, 51.5014],
  [56.0252, 71.7366],
  [41.5493, 92.3655],
  [70.7299, 92.2041],
];

/** The template for a crop of `size` pixels: that of 112 with `size - 112` pixels more or fewer around it, half on each side. */
export function templateOf(size: number): Point[] {
  const margin = (size - 112) / 2;
  return alignedPoints.map(([x, y]): Point => [x + margin, y + margin]);
}

/** The similarity that brings `from` as near as can be to `to`, by the sum of squared distances. Both have the same length. */
export function fitSimilarity(from: readonly Point[], to: readonly Point[]): Similarity {
  const n = from.length;
  const mean = (points: readonly Point[], k: 0 | 1): number => points.reduce((sum, p) => sum + p[k], 0) / n;
  const [fx, fy, tx, ty] = [mean(from, 0), mean(from, 1), mean(to, 0), mean(to, 1)];
  let dot = 0;
  let cross = 0;
  let square = 0;
  from.forEach(([x, y], i) => {
    const [u, v] = to[i] ?? [0, 0];
    dot += (x - fx) * (u - tx) + (y - fy) * (v - ty);
    cross += (x - fx) * (v - ty) - (y - fy) * (u - tx);
    square += (x - fx) ** 2 + (y - fy) ** 2;
  });
  const a = dot / square;
  const b = cross / square;
  return [a, b, tx - a * fx + b * fy, ty - b * fx - a * fy];
}

/** What keeps five points from being those of a face in a photograph, or null: read from a file, they can be anything. */
export function pointsFault(
  points: readonly Point[],
  { width, height }: { readonly width: number; readonly height: number },
): string | null {
  // A face at the edge may have a point beyond it.
  const outside = points.find(
    ([x, y]) => x < -width / 2 || y < -height / 2 || x > 1.5 * width || y > 1.5 * height,
  );
  if (outside)
    return `a point lies outside of the photograph: ${outside.join(', ')} in ${width} x ${height} pixels`;
  // The share of the template that the similarity accounts for: all of it for a face seen from the front, more than half for a profile.
  const to = templateOf(112);
  const similarity = fitSimilarity(points, to);
  const spread = (places: readonly Point[]): number => {
    const mean = (k: 0 | 1): number => places.reduce((sum, p) => sum + p[k], 0) / places.length;
    const [x, y] = [mean(0), mean(1)];
    return places.reduce((sum, p) => sum + (p[0] - x) ** 2 + (p[1] - y) ** 2, 0);
  };
  const share = spread(points.map((p) => apply(similarity, p))) / spread(to);
  // Side of the crop in pixels of the photograph.
  const side = 112 / Math.hypot(similarity[0], similarity[1]);
  const fits = share >= 0.1 && side >= 4 && side <= 4 * Math.max(width, height);
  return fits ? null : "the five points are not those of a face: eyes, nose and mouth's corners, in pixels";
}

/** The point under the similarity. */
export function apply([a, b, c, d]: Similarity, [x, y]: Point): Point {
  return [a * x - b * y + c, b * x + a * y + d];
}

/** The similarity that undoes this one. */
export function invert([a, b, c, d]: Similarity): Similarity {
  const square = a * a + b * b;
  const [p, q] = [a / square, -b / square];
  return [p, q, -(p * c - q * d), -(q * c + p * d)];
}

/** An RGB picture: [height, width, 3]. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly pixels: Uint8Array;
}

/**
 * Writes to `out` [size, size, 3] the picture as seen through `from`, which takes a place in `out` to one in the picture (pixels;
 * the centre of the first pixel is at 0, 0). Bilinear; when the picture shrinks, a mean over as many samples as it takes for none to
 * be skipped. What lies beyond the picture is 0.
 */
export function warp(
  { width, height, pixels }: Picture,
  from: Similarity,
  size: number,
  out: Uint8Array | Float32Array,
): void {
  const [a, b, c, d] = from;
  const steps = Math.max(1, Math.ceil(Math.hypot(a, b) - 0.01));
  const share = 1 / (steps * steps);
  const rounding = out instanceof Uint8Array ? 0.5 : 0;
  for (let y = 0; y < size; y++)
    for (let x = 0; x < size; x++) {
      let red = 0;
      let green = 0;
      let blue = 0;
      for (let k = 0; k < steps * steps; k++) {
        const px = x + ((k % steps) + 0.5) / steps - 0.5;
        const py = y + (Math.floor(k / steps) + 0.5) / steps - 0.5;
        const u = a * px - b * py + c;
        const v = b * px + a * py + d;
        const left = Math.floor(u);
        const top = Math.floor(v);
        if (left < -1 || top < -1 || left >= width || top >= height) continue;
        for (let corner = 0; corner < 4; corner++) {
          const i = left + (corner & 1);
          const j = top + (corner >> 1);
          if (i < 0 || j < 0 || i >= width || j >= height) continue;
          const weight = (corner & 1 ? u - left : left + 1 - u) * (corner >> 1 ? v - top : top + 1 - v);
          const at = (j * width + i) * 3;
          red += weight * (pixels[at] ?? 0);
          green += weight * (pixels[at + 1] ?? 0);
          blue += weight * (pixels[at + 2] ?? 0);
        }
      }
      const to = (y * size + x) * 3;
      out[to] = red * share + rounding;
      out[to + 1] = green * share + rounding;
      out[to + 2] = blue * share + rounding;
    }
}
