/**
 * The face mesh: 468 points in the picture's pixels, x to the right, y down, z away from the viewer in the same unit, in the order of
 * MediaPipe's Face Mesh. Its triangles and its neutral shape come from the canonical model in models/.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Point } from './similarity.js';

/** Points of the mesh. */
export const meshPoints = 468;

/** Where the models are kept: the package's models folder. */
export const modelsFolder = join(import.meta.dirname, '../../models');

/** The neutral face: positions [468, 3] (centimetres; x to the image's right, y up, z to the viewer) and triangles [n, 3]. */
export interface CanonicalFace {
  readonly positions: Float32Array;
  readonly triangles: Uint16Array;
  /** For each point, the one at the same place of the other half of the face; the middle's points are their own. */
  readonly mirror: Uint16Array;
}

let canonical: CanonicalFace | undefined;

/** Reads the neutral face, once. */
export function canonicalFace(): CanonicalFace {
  if (canonical) return canonical;
  const lines = readFileSync(join(modelsFolder, 'canonical_face_model.obj'), 'utf8').split('\n');
  const numbers = (tag: string): number[][] =>
    lines
      .filter((line) => line.startsWith(`${tag} `))
      .map((line) =>
        line
          .trim()
          .split(/\s+/)
          .slice(1)
          .map((field) => parseFloat(field)),
      );
  const positions = Float32Array.from(numbers('v').flat());
  const triangles = Uint16Array.from(numbers('f').flat(), (index) => index - 1);
  const mirror = Uint16Array.from({ length: meshPoints }, (_, i) => {
    let [nearest, best] = [i, Infinity];
    for (let j = 0; j < meshPoints; j++) {
      const [dx, dy, dz] = [0, 1, 2].map(
        (k) => (positions[j * 3 + k] ?? 0) - (k === 0 ? -1 : 1) * (positions[i * 3 + k] ?? 0),
      ) as [number, number, number];
      const distance = dx * dx + dy * dy + dz * dz;
      if (distance < best) [nearest, best] = [j, distance];
    }
    return nearest;
  });
  canonical = { positions, triangles, mirror };
  return canonical;
}

/** A mesh's own axes in the picture's frame (x right, y down, z away): unit vectors to the image's right, down and away from the
 *  viewer when the head looks straight ahead. */
export interface HeadFrame {
  readonly right: readonly number[];
  readonly down: readonly number[];
  readonly back: readonly number[];
}

// Points of the forehead's top and the chin: the vertical axis.
const [forehead, chin] = [10, 152];

const unit = (v: readonly number[]): number[] => {
  const length = Math.hypot(...v) || 1;
  return v.map((x) => x / length);
};
const cross = (
  [a = 0, b = 0, c = 0]: readonly number[],
  [x = 0, y = 0, z = 0]: readonly number[],
): number[] => [b * z - c * y, c * x - a * z, a * y - b * x];

/** The axes of a mesh: to the right along all pairs of mirrored points, down from forehead to chin. */
export function headFrame(mesh: ArrayLike<number>): HeadFrame {
  const { mirror, positions } = canonicalFace();
  const right = [0, 0, 0];
  for (let i = 0; i < meshPoints; i++) {
    const j = mirror[i] ?? i;
    if ((positions[i * 3] ?? 0) <= (positions[j * 3] ?? 0)) continue;
    for (let k = 0; k < 3; k++) right[k] = (right[k] ?? 0) + (mesh[i * 3 + k] ?? 0) - (mesh[j * 3 + k] ?? 0);
  }
  const x = unit(right);
  const vertical = [0, 1, 2].map((k) => (mesh[chin * 3 + k] ?? 0) - (mesh[forehead * 3 + k] ?? 0));
  const along = x.reduce((sum, value, k) => sum + value * (vertical[k] ?? 0), 0);
  const y = unit(vertical.map((value, k) => value - along * (x[k] ?? 0)));
  return { right: x, down: y, back: cross(x, y) };
}

/** Degrees by which the head is turned, positive to the image's right; pitch and roll do not change it. */
export function meshYaw(mesh: ArrayLike<number>): number {
  const { right } = headFrame(mesh);
  return (Math.asin(Math.max(-1, Math.min(1, right[2] ?? 0))) * 180) / Math.PI;
}

// The points whose mean is each of the five, image left first: lids, the nose's tip, around the mouth's corners. Chosen so that on
// crops that others aligned with the usual detectors of this field they lie on the template, to a pixel or two.
const fivePoints = [[158, 159, 145], [385, 386, 374], [4], [61, 43, 146], [291, 273, 375]];

/** The five points that crops are aligned by, [x, y] in pixels. */
export function meshFivePoints(mesh: ArrayLike<number>): Point[] {
  return fivePoints.map((list): Point => {
    const mean = (k: number): number =>
      list.reduce((sum, i) => sum + (mesh[i * 3 + k] ?? 0), 0) / list.length;
    return [mean(0), mean(1)];
  });
}
