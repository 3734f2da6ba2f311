// Who a generated face is: everything that stays the same over the images of one identity. Lengths are in units of about 10 cm
// with the origin between the eyes, x to the image's right, y up, z towards the camera; colours are linear RGB in [0, 1].
import { Draws, purposes } from '../../tensor/philox.js';

export type Colour = readonly [number, number, number];

/** A round dark spot on the skin at neutral face coordinates. */
export interface Mole {
  readonly x: number;
  readonly y: number;
  readonly radius: number;
}

export const hairStyles = ['bald', 'buzz', 'short', 'fringe', 'side', 'long', 'curly'] as const;
export const beardStyles = ['none', 'stubble', 'moustache', 'goatee', 'full'] as const;

/** The coefficients of one identity; drawn by drawIdentity. */
export type FaceIdentity = ReturnType<typeof drawIdentity>;

const mix = (a: Colour, b: Colour, t: number): Colour => [
  a[0] + (b[0] - a[0]) * t,
  a[1] + (b[1] - a[1]) * t,
  a[2] + (b[2] - a[2]) * t,
];

// From the lightest to the darkest skin, evenly spaced in what the eye sees.
const skins: readonly Colour[] = [
  [0.72, 0.5, 0.4],
  [0.58, 0.36, 0.25],
  [0.4, 0.23, 0.14],
  [0.22, 0.115, 0.07],
  [0.11, 0.055, 0.035],
];
const hairs: readonly Colour[] = [
  [0.012, 0.01, 0.01],
  [0.03, 0.017, 0.01],
  [0.08, 0.04, 0.02],
  [0.22, 0.08, 0.03],
  [0.42, 0.28, 0.13],
  [0.4, 0.39, 0.38],
];
const irises: readonly Colour[] = [
  [0.04, 0.02, 0.01],
  [0.12, 0.06, 0.02],
  [0.12, 0.15, 0.06],
  [0.12, 0.22, 0.33],
  [0.2, 0.25, 0.28],
];

function along(list: readonly Colour[], position: number): Colour {
  const i = Math.min(list.length - 2, Math.floor(position));
  return mix(list[i] ?? [0, 0, 0], list[i + 1] ?? [0, 0, 0], Math.min(1, position - i));
}

/** Draws identity number `identity` of the population `seed`. Another number of identities or images changes nothing. */
export function drawIdentity(seed: number, identity: number) {
  const draws = new Draws(seed, purposes.faceIdentity, 0, identity);
  // Normal, cut at two deviations, so that no face falls apart.
  const about = (mean: number, deviation: number): number =>
    mean + deviation * Math.max(-2, Math.min(2, draws.normal()));
  const pick = <T>(list: readonly T[], fallback: T): T => list[draws.int(list.length)] ?? fallback;

  const masculine = draws.uniform();
  const age = draws.uniform() ** 1.3;
  const tone = draws.uniform(0, skins.length - 1);
  const redness = about(1, 0.05);
  const [r, g, b] = along(skins, tone);
  const skin: Colour = [r * redness, g, b / redness];
  const grey = age > 0.75 ? draws.uniform(0, 1) : 0;
  const dark = tone > 2 || draws.chance(0.35);
  const hair = mix(
    along(hairs, dark ? draws.uniform(0, 2) : draws.uniform(1, 4)),
    hairs[5] ?? [0, 0, 0],
    grey,
  );
  const iris = along(irises, tone > 2 ? draws.uniform(0, 1) : draws.uniform(0, 3.99));
  const moles: Mole[] = [];
  for (let n = draws.int(4); n > 0; n--)
    moles.push({
      x: draws.uniform(-0.55, 0.55),
      y: draws.uniform(-1, 0.5),
      radius: draws.uniform(0.012, 0.03),
    });

  return {
    identity,
    seed,
    masculine,
    age,
    skin,
    hair,
    iris,
    moles,
    freckles: tone < 2 && draws.chance(0.35) ? draws.uniform(0.3, 1) : 0,
    blotches: draws.uniform(0.04, 0.14),
    wrinkles: age * draws.uniform(0.4, 1),
    // Skull and outline: factors on the mean head.
    headWidth: about(1, 0.045),
    foreheadWidth: about(1, 0.04),
    cheekWidth: about(1, 0.05),
    jawWidth: about(0.94 + 0.1 * masculine, 0.08),
    chinWidth: about(0.92 + 0.16 * masculine, 0.16),
    foreheadSlope: about(0, 0.05),
    lowerFace: about(1, 0.055),
    cheekbones: about(0.05, 0.025),
    hollows: about(0.03, 0.03),
    chin: about(0.09, 0.04),
    chinHeight: about(0.17, 0.03),
    cleft: draws.chance(0.2) ? draws.uniform(0.015, 0.04) : 0,
    // Eyes and brows.
    eyeX: about(0.32, 0.018),
    eyeWidth: about(0.155, 0.016),
    eyeHeight: about(0.062, 0.013),
    eyeTilt: about(0.06, 0.1),
    eyeDepth: about(0.08, 0.025),
    irisRadius: about(0.06, 0.004),
    crease: draws.uniform(),
    browRidge: about(0.03 + 0.04 * masculine, 0.015),
    browHeight: about(0.185, 0.028),
    browThickness: about(0.03 + 0.015 * masculine, 0.012),
    browTilt: about(0.02, 0.08),
    browArch: about(0.035, 0.02),
    browGap: about(0.13, 0.035),
    browLength: about(0.33, 0.035),
    browDensity: about(0.75, 0.15),
    // Nose.
    noseTip: about(-0.44, 0.04),
    noseHeight: about(0.3, 0.05),
    noseBridge: about(0.085, 0.03),
    noseHump: about(0, 0.028),
    noseWidth: about(0.155 + 0.012 * tone, 0.02),
    noseBulb: about(0.1, 0.018),
    noseLift: about(0, 0.025),
    // Mouth.
    mouthY: about(-0.74, 0.03),
    mouthWidth: about(0.265, 0.03),
    upperLip: about(0.05 + 0.006 * tone, 0.016),
    lowerLip: about(0.07 + 0.006 * tone, 0.018),
    cupid: about(0.5, 0.25),
    lipFullness: about(0.05, 0.015),
    lipRed: draws.uniform(0.15, 0.7),
    // Ears, hair and beard.
    earSize: about(1, 0.13),
    earAngle: draws.uniform(0.15, 0.6),
    hairStyle: pick(masculine > 0.5 ? hairStyles : hairStyles.slice(2), 'short'),
    hairline: about(0.64 + 0.08 * age * masculine, 0.06),
    hairThickness: draws.uniform(0.06, 0.16),
    hairPart: draws.uniform(-1, 1),
    hairSide: about(68, 6),
    beard: masculine > 0.55 ? pick(beardStyles, 'none') : 'none',
    beardDensity: draws.uniform(0.4, 0.9),
  };
}
