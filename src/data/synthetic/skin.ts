// The colour of the head, painted on the grid: texel (column position, row position) -> linear RGB. Skin with its blotches, freckles,
// moles and wrinkles, shade where light does not reach, brows, lips, beard; eyes are painted per image, because they move.
import { angleOf, bump, columnAt, columns, step, type Head } from './head.js';
import type { Colour, FaceIdentity } from './identity.js';
import { noise } from './noise.js';

/** The painted skin of one identity. `texels` is [height, width, 3]; texel column and row span the mesh's. */
export interface Skin {
  readonly width: number;
  readonly height: number;
  readonly texels: Float32Array;
}

/** The eyes of one image. Gaze is in iris radii, `lids` 1 for open and 0 for closed. */
export interface Gaze {
  readonly x: number;
  readonly y: number;
  readonly lids: number;
}

const scaled = (c: Colour, s: number): Colour => [c[0] * s, c[1] * s, c[2] * s];

function blend(texels: Float32Array, at: number, colour: Colour, amount: number): void {
  const a = Math.max(0, Math.min(1, amount));
  texels[at] = (texels[at] ?? 0) * (1 - a) + colour[0] * a;
  texels[at + 1] = (texels[at + 1] ?? 0) * (1 - a) + colour[1] * a;
  texels[at + 2] = (texels[at + 2] ?? 0) * (1 - a) + colour[2] * a;
}

/** Height of the brow's middle line at |x|. */
export const browLine = (face: FaceIdentity, side: number): number => {
  const t = (side - face.browGap) / face.browLength;
  return face.browHeight + face.browTilt * (side - 0.3) + face.browArch * (1 - (2 * t - 1.1) ** 2) * 0.8;
};

// How much light reaches a point of the face: below 1 in the folds.
function reach(face: FaceIdentity, x: number, y: number): number {
  const side = Math.abs(x);
  const { eyeX, noseTip, mouthY } = face;
  let shade = 1;
  shade -= 0.34 * bump(side - eyeX + 0.1, 0.16) * bump(y - 0.06, 0.075) * (0.5 + face.eyeDepth * 6);
  shade -= 0.3 * face.crease * bump(side - eyeX, 0.15) * bump(y - face.eyeHeight - 0.035, 0.014);
  shade -= (0.1 + 0.25 * face.wrinkles) * bump(side - eyeX + 0.03, 0.11) * bump(y + 0.1, 0.025);
  shade -=
    0.75 * bump(side - face.noseWidth * 0.42, 0.035) * bump(y - noseTip + 0.075 - face.noseLift, 0.024);
  shade -= 0.3 * bump(side, face.noseWidth) * bump(y - noseTip + 0.11, 0.035);
  shade -= 0.28 * bump(side - face.noseWidth * 1.13, 0.03) * bump(y - noseTip + 0.05, 0.06);
  const fold = face.noseWidth * 1.1 + 0.5 * (noseTip - y) * 0.55;
  shade -=
    (0.06 + 0.3 * face.wrinkles) *
    bump(side - fold, 0.03) *
    step(mouthY - 0.04, noseTip, y) *
    step(noseTip + 0.1, noseTip - 0.1, y);
  shade -= 0.22 * bump(side, 0.15) * bump(y - mouthY + face.lowerLip + 0.055, 0.03);
  shade -= 0.35 * bump(side - face.mouthWidth, 0.035) * bump(y - mouthY, 0.025);
  shade -= 0.45 * step(mouthY - 0.36 * face.lowerFace, mouthY - 0.5, y);
  shade -= 0.25 * face.cleft * 20 * bump(x, 0.018) * bump(y - mouthY + 0.27, 0.06);
  if (face.wrinkles > 0.2 && y > 0.28)
    shade -=
      0.22 *
      face.wrinkles *
      Math.max(0, Math.sin(y * 62 + noise(x * 3, face.identity))) ** 6 *
      step(0.6, 0.3, side);
  return Math.max(0.15, shade);
}

function paintLips(
  face: FaceIdentity,
  texels: Float32Array,
  at: number,
  x: number,
  y: number,
  lip: Colour,
): void {
  const t = Math.abs(x) / (face.mouthWidth * 1.02);
  if (t >= 1) return;
  const up = y - face.mouthY;
  const bow = 1 - face.cupid * bump(x, 0.035) * 0.45;
  const edge = up > 0 ? face.upperLip * (1 - t ** 1.6) * bow * 1.15 : face.lowerLip * (1 - t ** 2.2);
  const inside = 1 - Math.abs(up) / Math.max(edge, 1e-3);
  blend(texels, at, scaled(lip, up > 0 ? 0.8 : 1), step(-0.15, 0.2, inside) * 0.85);
}

// The band of texels between the lips: teeth above, dark below; closed lips hide all of it but a dark line.
function paintMouth(face: FaceIdentity, texels: Float32Array, at: number, x: number, part: number): void {
  const inside = step(1, 0.93, Math.abs(x) / face.mouthWidth);
  const teeth = part > 0.2 && part < 0.62 && Math.abs(x) < face.mouthWidth * 0.78;
  blend(texels, at, teeth ? [0.5, 0.47, 0.42] : [0.045, 0.012, 0.012], inside);
}

function beardAmount(face: FaceIdentity, x: number, y: number): number {
  const side = Math.abs(x);
  const { mouthY, noseTip } = face;
  const lipSide = step(face.mouthWidth * 1.35, face.mouthWidth * 1.1, side);
  const moustache = step(mouthY + 0.025, mouthY + 0.06, y) * step(noseTip - 0.1, noseTip - 0.15, y) * lipSide;
  const chin = step(mouthY - face.lowerLip - 0.03, mouthY - face.lowerLip - 0.09, y) * step(0.3, 0.2, side);
  const around = bump(side - face.mouthWidth * 1.2, 0.06) * step(noseTip - 0.1, mouthY - 0.05, y);
  const cheek = step(0, 0.2, side * 0.9 - 0.22 - (y - mouthY) * 0.55) * step(-0.1, -0.3, y);
  const under = step(mouthY - 0.12, mouthY - 0.22, y);
  switch (face.beard) {
    case 'stubble':
      return 0.45 * Math.max(moustache, chin, cheek, under);
    case 'moustache':
      return moustache;
    case 'goatee':
      return Math.max(moustache, chin, around);
    case 'full':
      return Math.max(moustache, chin, around, cheek, under);
    default:
      return 0;
  }
}

/** Paints the skin of a head at `width` x `height` texels. */
export function paintSkin(face: FaceIdentity, head: Head, width: number, height: number): Skin {
  const texels = new Float32Array(width * height * 3);
  const lip: Colour = [
    face.skin[0] * (1 - 0.12 * face.lipRed) + 0.04 * face.lipRed,
    face.skin[1] * (0.75 - 0.4 * face.lipRed),
    face.skin[2] * (0.8 - 0.3 * face.lipRed),
  ];
  const brown: Colour = [face.skin[0] * 0.35, face.skin[1] * 0.25, face.skin[2] * 0.2];
  const offset = (face.identity % 4096) * 7.31;
  const sines = Float32Array.from({ length: width }, (_, i) => Math.sin(angleOf((i / (width - 1)) * 2 - 1)));
  const front = Float32Array.from({ length: width }, (_, i) => Math.cos(angleOf((i / (width - 1)) * 2 - 1)));
  for (let j = 0; j < height; j++) {
    const rowAt = (j / (height - 1)) * (head.rows - 1);
    const row = Math.min(head.rows - 2, Math.floor(rowAt));
    const part = rowAt - row;
    const y = (head.rowY[row] ?? 0) * (1 - part) + (head.rowY[row + 1] ?? 0) * part;
    const half = (head.rowWidth[row] ?? 0) * (1 - part) + (head.rowWidth[row + 1] ?? 0) * part;
    for (let i = 0; i < width; i++) {
      const at = (j * width + i) * 3;
      const x = half * (sines[i] ?? 0);
      const isFront = (front[i] ?? 0) > -0.2;
      const spots = isFront
        ? 1 + face.blotches * (noise(x * 5 + offset, y * 5) + 0.6 * noise(x * 14, y * 14 + offset))
        : 1;
      const light = spots * ((front[i] ?? 0) > 0.1 ? reach(face, x, y) : 1);
      const flush =
        0.1 * bump(Math.abs(x) - 0.38, 0.17) * bump(y + 0.32, 0.17) +
        0.1 * bump(x, 0.12) * bump(y - face.noseTip, 0.1);
      texels[at] = face.skin[0] * light;
      texels[at + 1] = face.skin[1] * light * (1 - flush) * (light < 1 ? 0.92 + 0.08 * light : 1);
      texels[at + 2] = face.skin[2] * light * (1 - flush);
      if (!isFront) continue;
      if (face.freckles > 0 && Math.abs(y + 0.2) < 0.3)
        blend(
          texels,
          at,
          brown,
          face.freckles * step(0.45, 0.75, noise(x * 34 + offset, y * 34)) * bump(y + 0.2, 0.2) * 0.6,
        );
      if (row === head.mouthRow) paintMouth(face, texels, at, x, part);
      else if (Math.abs(y - face.mouthY) < 0.16) paintLips(face, texels, at, x, y, lip);
      const side = Math.abs(x);
      const t = (side - face.browGap) / face.browLength;
      if (t > -0.1 && t < 1.1 && Math.abs(y - face.browHeight) < 0.2) {
        const thick = face.browThickness * (1.15 - 0.65 * Math.max(0, t));
        const away = Math.abs(y - browLine(face, side)) / thick;
        const hairs = 0.8 + 0.3 * noise(x * 55 + y * 40, y * 25);
        blend(
          texels,
          at,
          scaled(face.hair, 0.8),
          step(1.35, 0.6, away) * step(-0.08, 0.08, t) * step(1.08, 0.8, t) * face.browDensity * hairs,
        );
      }
      if (face.beard !== 'none' && y < -0.1)
        blend(
          texels,
          at,
          face.hair,
          beardAmount(face, x, y) * face.beardDensity * (0.8 + 0.35 * noise(x * 45, y * 30)),
        );
      for (const mole of face.moles)
        if (Math.abs(mole.x - x) < 0.06 && Math.abs(mole.y - y) < 0.06)
          blend(texels, at, brown, step(1.3, 0.7, Math.hypot(mole.x - x, mole.y - y) / mole.radius));
    }
  }
  return { width, height, texels };
}

/** Paints both eyes over a copy of the skin held in `texels`; everything outside the eyes' boxes must be the skin already. */
export function paintEyes(
  face: FaceIdentity,
  head: Head,
  skin: Skin,
  texels: Float32Array,
  gaze: Gaze,
): void {
  const reachX = face.eyeWidth * 1.25;
  const reachY = face.eyeHeight * 1.9;
  const white: Colour = [0.62, 0.58, 0.55];
  const lash: Colour = [0.02, 0.012, 0.01];
  const lid: Colour = scaled(face.skin, 0.72);
  const rowScale = (skin.height - 1) / (head.rows - 1);
  for (let row = 0; row < head.rows - 1; row++) {
    if ((head.rowY[row] ?? 0) < -reachY || (head.rowY[row + 1] ?? 0) > reachY) continue;
    for (let j = Math.ceil(row * rowScale); j < (row + 1) * rowScale; j++) {
      const part = j / rowScale - row;
      const y = (head.rowY[row] ?? 0) * (1 - part) + (head.rowY[row + 1] ?? 0) * part;
      const half = (head.rowWidth[row] ?? 0) * (1 - part) + (head.rowWidth[row + 1] ?? 0) * part;
      for (const sign of [-1, 1]) {
        const scale = (skin.width - 1) / (columns - 1);
        const ends = [face.eyeX - reachX, face.eyeX + reachX].map((x) => columnAt(sign * x, half) * scale);
        for (let i = Math.ceil(Math.min(...ends)); i <= Math.max(...ends); i++) {
          const at = (j * skin.width + i) * 3;
          for (let c = 0; c < 3; c++) texels[at + c] = skin.texels[at + c] ?? 0;
          const x = half * Math.sin(angleOf((i / (skin.width - 1)) * 2 - 1));
          // Eye coordinates: ex outward in eye widths, ey up.
          const outward = sign * x - face.eyeX;
          const ex = outward / face.eyeWidth;
          const ey = y - face.eyeTilt * outward;
          const arch = 1 - Math.abs(ex) ** 2.2;
          const upper = face.eyeHeight * arch * (1.9 * gaze.lids - 0.85);
          const lower = -face.eyeHeight * 0.85 * arch;
          if (Math.abs(ex) < 1) {
            if (ey < upper && ey > lower) {
              const iris = Math.hypot(
                outward - sign * gaze.x * face.irisRadius,
                ey - gaze.y * face.irisRadius,
              );
              const shade = 0.55 + 0.45 * step(0, 0.03, upper - ey);
              const ball = 0.75 + 0.25 * arch;
              if (iris > face.irisRadius) blend(texels, at, scaled(white, shade * ball), 1);
              else if (iris > 0.45 * face.irisRadius)
                blend(texels, at, scaled(face.iris, shade * (iris > 0.85 * face.irisRadius ? 0.5 : 1)), 1);
              else blend(texels, at, [0.005, 0.005, 0.005], 1);
            } else if (ey >= upper && ey < face.eyeHeight * arch * 1.05) blend(texels, at, lid, 0.8);
          }
          const rim = Math.abs(ex) < 1.08 ? bump(ey - upper, 0.014) : 0;
          blend(texels, at, lash, rim * 0.85);
          if (Math.abs(ex) < 1) blend(texels, at, lid, 0.5 * bump(ey - lower, 0.012));
        }
      }
    }
  }
}
