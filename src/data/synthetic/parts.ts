// What a face is drawn from: grids of vertices with a texture each. The head deforms with the expression; hair, ears and neck do not.
import { angleOf, buildHead, columnAt, columns, step, type Head } from './head.js';
import type { FaceIdentity } from './identity.js';
import { noise } from './noise.js';
import { gridTriangles, type Texture } from './rasteriser.js';
import { paintSkin, type Skin } from './skin.js';

/** A grid mesh. `gloss` is the strength of its highlights. */
export interface Part {
  readonly rows: number;
  readonly columns: number;
  readonly positions: Float32Array;
  readonly triangles: Uint16Array;
  readonly texture: Texture;
  readonly gloss: number;
}

/** Everything of one identity that its images share. */
export interface FaceModel {
  readonly face: FaceIdentity;
  readonly head: Head;
  readonly skin: Skin;
  /** The head first; its texture is the skin with this image's eyes. */
  readonly parts: readonly [Part, ...Part[]];
  /** Grid places [row, column] of the five points: eyes (image left, right), nose tip, mouth corners (left, right). */
  readonly points: readonly (readonly [number, number])[];
}

const degrees = (radians: number): number => (radians * 180) / Math.PI;
const plain = (colour: readonly [number, number, number]): Texture => ({
  width: 1,
  height: 1,
  texels: Float32Array.from(colour),
});

// Height of the hair's edge at an angle from the front, in degrees: forehead, temple and sideburn, nape.
function hairEdge(face: FaceIdentity, angle: number): number {
  const away = Math.abs(angle);
  const style = face.hairStyle;
  const front =
    style === 'fringe'
      ? 0.34 + 0.06 * noise(angle * 0.15, face.identity) + face.hairPart * 0.0012 * angle
      : style === 'side'
        ? face.hairline - 0.12 + Math.sign(face.hairPart) * 0.0042 * angle
        : face.hairline -
          0.00006 * (away - 20 * face.age * face.masculine) ** 2 * (1 - face.age * face.masculine);
  const sideburn = style === 'long' ? -3 : style === 'curly' ? -0.15 : 0.02 - 0.25 * face.masculine;
  const nape = style === 'long' || style === 'curly' ? -3 : -0.6;
  const side = front + (sideburn - front) * step(face.hairSide - 12, face.hairSide + 14, away);
  return side + (nape - side) * step(95, 112, away);
}

// Also says how far inside the hair's edge each vertex is.
function buildHair(face: FaceIdentity, head: Head): { part: Part; inside: Float32Array } | undefined {
  if (face.hairStyle === 'bald') return undefined;
  const style = face.hairStyle;
  const long = style === 'long';
  const thickness =
    style === 'buzz' ? 0.018 : style === 'curly' ? 0.12 + face.hairThickness : face.hairThickness;
  const positions = new Float32Array(head.rows * columns * 3);
  const inside = new Float32Array(head.rows * columns);
  for (let row = 0; row < head.rows; row++)
    for (let column = 0; column < columns; column++) {
      const y = head.rowY[row] ?? 0;
      const angle = angleOf((column / (columns - 1)) * 2 - 1);
      const within = y - hairEdge(face, degrees(angle));
      const vertex = row * columns + column;
      inside[vertex] = within;
      // Hair that hangs keeps the skull's width from the ears down.
      const level = long ? Math.max(y, -0.05) : y;
      const fall = long ? Math.max(0, -0.05 - y) : 0;
      const c = Math.cos(angle);
      const bumps =
        style === 'curly' ? 0.06 * noise(angle * 5, y * 7 + face.identity) : 0.015 * noise(angle * 4, y * 2);
      const out =
        (thickness + bumps) * step(-0.03, 0.16, within) - 0.04 * step(0.02, -0.05, within) + 0.12 * fall;
      positions[vertex * 3] = (head.widthAt(level) + out) * Math.sin(angle);
      positions[vertex * 3 + 1] = y - 0.5 * fall + out * step(0.5, 1.1, y);
      positions[vertex * 3 + 2] =
        (c > 0 ? head.depthAt(level) : head.backAt(level)) * Math.sign(c) * Math.abs(c) ** 0.78 +
        out * c -
        0.25 * fall;
    }
  const width = 96;
  const height = 64;
  const texels = new Float32Array(width * height * 3);
  for (let j = 0; j < height; j++)
    for (let i = 0; i < width; i++) {
      const streak =
        style === 'curly' || style === 'buzz'
          ? noise(i * 0.9, j * 0.9 + face.identity)
          : noise(i * 0.9 + face.identity, j * 0.12 + i * 0.1 * face.hairPart);
      const shade = 0.9 + 0.45 * streak;
      for (let c = 0; c < 3; c++) {
        const hair = (face.hair[c] ?? 0) * shade;
        texels[(j * width + i) * 3 + c] =
          style === 'buzz' ? 0.55 * hair + 0.45 * (face.skin[c] ?? 0) * 0.6 : hair;
      }
    }
  const hairy = (row: number, column: number): boolean => (inside[row * columns + column] ?? 0) > -0.1;
  const part = {
    rows: head.rows,
    columns,
    positions,
    triangles: gridTriangles(
      head.rows,
      columns,
      (r, c) => hairy(r, c) || hairy(r + 1, c) || hairy(r, c + 1) || hairy(r + 1, c + 1),
    ),
    texture: { width, height, texels },
    gloss: style === 'buzz' ? 0.01 : 0.05,
  };
  return { part, inside };
}

// An ear: a flat ellipsoid that leans forward from the side of the head.
function buildEar(face: FaceIdentity, head: Head, side: number): Part {
  const rows = 7;
  const around = 9;
  const positions = new Float32Array(rows * around * 3);
  const lean = face.earAngle;
  for (let r = 0; r < rows; r++)
    for (let k = 0; k < around; k++) {
      const polar = (Math.PI * r) / (rows - 1);
      const turn = (2 * Math.PI * k) / (around - 1);
      const depth = 0.16 * face.earSize * Math.sin(polar) * Math.cos(turn) * (0.75 + 0.25 * Math.cos(polar));
      const thick = 0.05 * Math.sin(polar) * Math.sin(turn);
      const at = (r * around + k) * 3;
      const outward = thick - depth * Math.sin(lean) + 0.05 * lean;
      positions[at] = side * (head.widthAt(-0.1) * 0.985 + outward);
      positions[at + 1] = -0.09 + 0.27 * face.earSize * Math.cos(polar);
      positions[at + 2] = -0.02 + depth * Math.cos(lean);
    }
  const triangles = gridTriangles(rows, around, () => true);
  // Mirrored, the other ear is inside out; turning its triangles' order turns it back.
  if (side < 0) triangles.reverse();
  const [r, g, b] = face.skin;
  return {
    rows,
    columns: around,
    positions,
    triangles,
    texture: plain([r * 0.85, g * 0.68, b * 0.65]),
    gloss: 0.01,
  };
}

function buildNeck(face: FaceIdentity, head: Head): Part {
  const rows = 3;
  const around = 17;
  const positions = new Float32Array(rows * around * 3);
  const radius = 0.4 * head.widthAt(-0.74) + 0.2 + 0.05 * face.masculine;
  for (let r = 0; r < rows; r++)
    for (let k = 0; k < around; k++) {
      const angle = Math.PI * ((2 * k) / (around - 1) - 1);
      const at = (r * around + k) * 3;
      positions[at] = radius * (1 + 0.12 * r) * Math.sin(angle);
      positions[at + 1] = -0.7 - 0.55 * r;
      positions[at + 2] = -0.12 + radius * Math.cos(angle);
    }
  const [r, g, b] = face.skin;
  return {
    rows,
    columns: around,
    positions,
    triangles: gridTriangles(rows, around, () => true),
    texture: plain([r * 0.6, g * 0.56, b * 0.55]),
    gloss: 0,
  };
}

/** Builds the model of one identity, its skin painted finely enough for pictures of `side` pixels. */
export function buildModel(face: FaceIdentity, side: number): FaceModel {
  const head = buildHead(face);
  const detail = Math.max(1, Math.min(2.5, side / 112));
  const skin = paintSkin(face, head, Math.round(128 * detail), Math.round(150 * detail));
  const rowAt = (y: number): number => {
    let row = 0;
    while (row < head.rows - 2 && (head.rowY[row + 1] ?? 0) > y) row++;
    const from = head.rowY[row] ?? 0;
    return row + (from - y) / (from - (head.rowY[row + 1] ?? 0));
  };
  const place = (x: number, y: number): readonly [number, number] => [rowAt(y), columnAt(x, head.widthAt(y))];
  const hair = buildHair(face, head);
  // The skin well under the hair is never seen.
  const seen = (vertex: number): boolean => !hair || (hair.inside[vertex] ?? 0) < 0.2;
  const body: Part = {
    rows: head.rows,
    columns,
    positions: head.positions,
    triangles: gridTriangles(head.rows, columns, (row, column) =>
      [0, 1, columns, columns + 1].some((corner) => seen(row * columns + column + corner)),
    ),
    texture: { ...skin, texels: skin.texels.slice() },
    gloss: 0.035,
  };
  return {
    face,
    head,
    skin,
    parts: [
      body,
      ...(hair ? [hair.part] : []),
      buildEar(face, head, 1),
      buildEar(face, head, -1),
      buildNeck(face, head),
    ],
    points: [
      place(-face.eyeX, 0),
      place(face.eyeX, 0),
      place(0, face.noseTip),
      place(-face.mouthWidth, face.mouthY),
      place(face.mouthWidth, face.mouthY),
    ],
  };
}
