// The head as a grid of rows (top to bottom) and columns (round the head): a skull of superelliptic sections whose half width and
// depth follow splines over the height, with features displaced along z at the front. Also the expressions, as displacements.
import type { FaceIdentity } from './identity.js';

export const columns = 45;

/** A grid mesh of one identity. Positions [rows, columns, 3]; `open` and `smile` and `brows` are added with their weights. */
export interface Head {
  readonly rows: number;
  readonly positions: Float32Array;
  readonly open: Float32Array;
  readonly smile: Float32Array;
  readonly brows: Float32Array;
  /** Height of each row on the neutral face, and half width of the head there. */
  readonly rowY: Float32Array;
  readonly rowWidth: Float32Array;
  /** The row whose band down to the next row is the mouth's inside. */
  readonly mouthRow: number;
  readonly widthAt: (y: number) => number;
  readonly depthAt: (y: number) => number;
  readonly backAt: (y: number) => number;
}

/** Angle round the head of column position u in [-1, 1]: 0 is the front, positive the image's right; denser at the front. */
export const angleOf = (u: number): number => Math.PI * (0.5 * u + 0.5 * u * u * u);

export function bump(distance: number, width: number): number {
  const t = distance / width;
  // Beyond four widths nothing is left; most points are far from most features.
  return t > 4 || t < -4 ? 0 : Math.exp(-t * t);
}
export const step = (from: number, to: number, x: number): number => {
  const t = Math.max(0, Math.min(1, (x - from) / (to - from)));
  return t * t * (3 - 2 * t);
};

/** Monotone cubic interpolation through (x descending, y) knots. */
export function spline(knots: readonly (readonly [number, number])[]): (x: number) => number {
  const x = knots.map((k) => k[0]);
  const y = knots.map((k) => k[1]);
  const at = (list: readonly number[], i: number): number => list[i] ?? 0;
  const slope = x.slice(1).map((_, i) => (at(y, i + 1) - at(y, i)) / (at(x, i + 1) - at(x, i)));
  const tangent = x.map((_, i) => {
    if (i === 0) return at(slope, 0);
    if (i === x.length - 1) return at(slope, i - 1);
    const a = at(slope, i - 1);
    const b = at(slope, i);
    return a * b <= 0 ? 0 : (2 * a * b) / (a + b);
  });
  return (value) => {
    let i = 0;
    while (i < x.length - 2 && value < at(x, i + 1)) i++;
    const h = at(x, i + 1) - at(x, i);
    const t = Math.max(0, Math.min(1, (value - at(x, i)) / h));
    const u = 1 - t;
    return (
      at(y, i) * (1 + 2 * t) * u * u +
      at(y, i + 1) * t * t * (3 - 2 * t) +
      h * t * u * (at(tangent, i) * u - at(tangent, i + 1) * t)
    );
  };
}

function rowHeights(face: FaceIdentity): { heights: number[]; mouthRow: number } {
  const { mouthY } = face;
  const chin = mouthY - 0.4 * face.lowerFace;
  // [from, rows to the next]: rows are close where the features are.
  const stretches: [number, number][] = [
    [1.2, 2],
    [1.12, 2],
    [0.92, 3],
    [0.62, 5],
    [0.3, 8],
    [0, 5],
    [-0.2, 9],
    [-0.55, 4],
    [mouthY + 0.07, 3],
    [mouthY + 0.007, 1],
    [mouthY - 0.007, 4],
    [mouthY - 0.1, 6],
    [chin, 3],
    [chin - 0.1, 2],
    [chin - 0.09, 0],
  ];
  const heights: number[] = [];
  let mouthRow = 0;
  stretches.forEach(([from, count], s) => {
    const to = stretches[s + 1]?.[0] ?? from;
    if (count === 1) mouthRow = heights.length;
    for (let i = 0; i < Math.max(1, count); i++) heights.push(from + ((to - from) * i) / Math.max(1, count));
  });
  return { heights, mouthRow };
}

/** How far the face stands out of the skull at (x, y), at the front. */
function relief(face: FaceIdentity, x: number, y: number): number {
  const side = Math.abs(x);
  const { noseTip, mouthY, eyeX } = face;
  // Nose: a ridge from the root to the tip, then the base falls back; two wings.
  const along = Math.max(0, Math.min(1, (0.06 - y) / (0.06 - noseTip)));
  const under = step(noseTip - 0.13, noseTip - 0.01 + face.noseLift, y);
  const height =
    (face.noseBridge * (1 - along) + face.noseHeight * along ** 1.3) * step(0.22, 0, y) +
    face.noseHump * bump(along - 0.45, 0.22);
  const width = 0.07 + (face.noseBulb - 0.05) * along;
  let z = height * under * bump(side, width * 1.25);
  z += 0.13 * bump(side - face.noseWidth * 0.82, 0.06) * bump(y - noseTip + 0.045, 0.065);
  // Eyes: sockets, and the ball under the lids.
  z -= face.eyeDepth * bump(side - eyeX + 0.02, 0.2) * bump(y - 0.02, 0.12);
  z += 0.055 * bump(side - eyeX, 0.12) * bump(y, 0.075);
  z += face.browRidge * bump(side - 0.27, 0.22) * bump(y - face.browHeight + 0.01, 0.07);
  // Cheeks.
  z += face.cheekbones * bump(side - 0.43, 0.16) * bump(y + 0.24, 0.16);
  z -= face.hollows * bump(side - 0.42, 0.14) * bump(y + 0.62, 0.2);
  // Lips, the furrow between them, the groove above.
  const mouth = face.mouthWidth;
  const lips = bump(side, mouth * 0.95);
  z += face.lipFullness * lips * bump(y - mouthY - face.upperLip * 0.6, 0.055);
  z += (face.lipFullness + 0.01) * lips * bump(y - mouthY + face.lowerLip * 0.6, 0.06);
  z -= 0.035 * lips * bump(y - mouthY, 0.014);
  z += 0.045 * bump(side, mouth * 1.4) * bump(y - mouthY, 0.2);
  z -= 0.03 * bump(side, 0.16) * bump(y - mouthY + face.lowerLip + 0.08, 0.05);
  z -= 0.012 * bump(side, 0.03) * step(mouthY, mouthY + 0.06, y) * step(noseTip - 0.08, noseTip - 0.14, y);
  // Chin.
  const chinY = mouthY - 0.1 - face.chinHeight * face.lowerFace;
  z += face.chin * bump(side, 0.17 * face.chinWidth) * bump(y - chinY, 0.1);
  z -= face.cleft * bump(side, 0.03) * bump(y - chinY, 0.08);
  return z;
}

/** Builds the neutral head and its expressions. */
export function buildHead(face: FaceIdentity): Head {
  const { heights, mouthRow } = rowHeights(face);
  const { headWidth, cheekWidth, jawWidth, mouthY } = face;
  const chin = mouthY - 0.4 * face.lowerFace;
  const widthAt = spline([
    [1.2, 0],
    [1.12, 0.36 * headWidth],
    [0.95, 0.59 * headWidth],
    [0.66, 0.71 * headWidth * face.foreheadWidth],
    [0.36, 0.74 * headWidth * face.foreheadWidth],
    [0.12, 0.73 * headWidth],
    [-0.2, 0.7 * headWidth * cheekWidth],
    [-0.45, 0.665 * headWidth * cheekWidth ** 0.6 * jawWidth ** 0.4],
    [mouthY, 0.585 * headWidth * jawWidth],
    [mouthY - 0.2, 0.46 * headWidth * jawWidth * face.chinWidth ** 0.5],
    [chin, 0.3 * face.chinWidth],
    [chin - 0.1, 0],
  ]);
  const depthAt = spline([
    [1.2, 0],
    [1.12, 0.36],
    [0.95, 0.62 - face.foreheadSlope],
    [0.66, 0.82 - face.foreheadSlope],
    [0.36, 0.91],
    [0.12, 0.93],
    [-0.2, 0.88],
    [-0.45, 0.87],
    [mouthY, 0.85],
    [mouthY - 0.2, 0.81],
    [chin, 0.69],
    [chin - 0.1, 0.1],
  ]);
  const backAt = spline([
    [1.2, 0],
    [1.12, 0.4],
    [0.95, 0.7],
    [0.36, 0.98],
    [-0.2, 0.92],
    [mouthY, 0.6],
    [chin, 0.35],
    [chin - 0.1, 0],
  ]);
  const rows = heights.length;
  const positions = new Float32Array(rows * columns * 3);
  const open = new Float32Array(positions.length);
  const smile = new Float32Array(positions.length);
  const brows = new Float32Array(positions.length);
  const rowWidth = new Float32Array(rows);
  heights.forEach((y, row) => {
    const width = widthAt(y);
    rowWidth[row] = width;
    for (let column = 0; column < columns; column++) {
      const angle = angleOf((column / (columns - 1)) * 2 - 1);
      const c = Math.cos(angle);
      const x = width * Math.sin(angle);
      const front = step(0.05, 0.4, c);
      const at = (row * columns + column) * 3;
      positions[at] = x;
      positions[at + 1] = y;
      positions[at + 2] =
        (c > 0 ? depthAt(y) : backAt(y)) * Math.sign(c) * Math.abs(c) ** 0.78 + front * relief(face, x, y);
      // Jaw down: everything below the lips' meeting, least at the jaw's hinge; the upper lip rises a little.
      const below = row > mouthRow ? 1 : 0;
      const lips = bump(x, face.mouthWidth * 0.85);
      const jaw = front * below * (0.45 * bump(x, 0.6) + 0.55 * lips);
      open[at + 1] = -0.17 * jaw + 0.03 * (1 - below) * lips * bump(y - mouthY, 0.09) * front;
      open[at + 2] = -0.04 * jaw;
      const corner = bump(Math.abs(x) - face.mouthWidth, 0.13) * bump(y - mouthY, 0.14) * front;
      const apple = bump(Math.abs(x) - 0.4, 0.15) * bump(y + 0.38, 0.16) * front;
      smile[at] = Math.sign(x) * 0.07 * corner;
      smile[at + 1] = 0.075 * corner + 0.04 * apple - 0.012 * lips * bump(y - mouthY, 0.06) * front;
      smile[at + 2] = -0.045 * corner + 0.05 * apple;
      brows[at + 1] = 0.06 * front * bump(y - face.browHeight, 0.09) * bump(Math.abs(x) - 0.3, 0.25);
    }
  });
  return {
    rows,
    positions,
    open,
    smile,
    brows,
    rowY: Float32Array.from(heights),
    rowWidth,
    mouthRow,
    widthAt,
    depthAt,
    backAt,
  };
}

/** Column position in [0, columns - 1] of the face point x where the head's half width is `width`. */
export function columnAt(x: number, width: number): number {
  const angle = Math.asin(Math.max(-1, Math.min(1, x / width)));
  // Newton on pi (u + u^3) / 2 = angle.
  let u = angle / Math.PI;
  for (let i = 0; i < 6; i++) u -= (angleOf(u) - angle) / (Math.PI * (0.5 + 1.5 * u * u));
  return ((u + 1) / 2) * (columns - 1);
}
