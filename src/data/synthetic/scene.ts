// What changes from image to image of one identity: expression, head pose, light, camera and background. All of it is drawn from
// (seed, identity, image), and none of it depends on who the face is.
import { Draws, purposes } from '../../tensor/philox.js';
import type { Colour } from './identity.js';
import type { Gaze } from './skin.js';

/** The conditions of one image. Angles in degrees; positive yaw turns the nose to the image's right, positive pitch down. */
export type Scene = ReturnType<typeof drawScene>;

/** How much images of one identity differ; 1 is the usual amount, 0 leaves frontal, neutral faces in one light. */
export interface Variety {
  readonly expression: number;
  readonly pose: number;
  readonly light: number;
  readonly camera: number;
}

export const usualVariety: Variety = { expression: 1, pose: 1, light: 1, camera: 1 };

/** Draws the conditions of image `image` of identity `identity`. */
export function drawScene(seed: number, identity: number, image: number, variety: Variety) {
  const draws = new Draws(seed, purposes.faceImage, identity, image);
  const around = (deviation: number, limit: number): number =>
    Math.max(-limit, Math.min(limit, draws.normal(0, deviation)));
  const colour = (): Colour => {
    const grey = draws.uniform() ** 2;
    return [grey * draws.uniform(0.5, 1.4), grey * draws.uniform(0.5, 1.4), grey * draws.uniform(0.5, 1.4)];
  };
  const { expression, pose, light, camera } = variety;
  const gaze: Gaze = {
    x: around(0.35, 0.8),
    y: around(0.2, 0.4),
    lids: 1 - expression * 0.45 * draws.uniform() ** 3,
  };
  const warm = around(0.14 * light, 0.28);
  const green = around(0.04 * light, 0.08);
  const azimuth = (around(38 * light, 75) * Math.PI) / 180;
  const elevation = ((22 + around(18 * light, 40)) * Math.PI) / 180;
  const share = 0.5 + light * draws.uniform(-0.25, 0.25);
  return {
    smile: expression * Math.max(-0.35, Math.min(1.2, draws.normal(0.3, 0.5))),
    open: expression * Math.max(0, draws.normal(0, 0.45)),
    brows: expression * around(0.5, 1),
    gaze,
    yaw: pose * around(10, 20),
    pitch: pose * around(6, 13),
    roll: pose * around(3, 7),
    /** Distance of the camera in head units (10 cm): near cameras widen the nose. */
    distance: 6.5 + camera * draws.uniform(-2, 6),
    shiftX: camera * around(0.012, 0.03),
    shiftY: camera * around(0.012, 0.03),
    zoom: 1 + camera * around(0.025, 0.06),
    whiteBalance: [1 + warm, 1 + green, 1 - warm] as Colour,
    towards: [
      Math.sin(azimuth) * Math.cos(elevation),
      Math.sin(elevation),
      Math.cos(azimuth) * Math.cos(elevation),
    ] as Colour,
    ambient: share,
    direct: 1.25 * (1.15 - share),
    exposure: 2 ** (light * around(0.3, 0.6)),
    gloss: draws.uniform(0.4, 1.5),
    backgrounds: [colour(), colour(), colour()] as readonly [Colour, Colour, Colour],
    pattern: draws.uniform(0, 1000),
    patternScale: draws.uniform(0.02, 0.1),
    grain: camera * draws.uniform(0.5, 2.5),
    grainSeed: draws.word(),
  };
}
