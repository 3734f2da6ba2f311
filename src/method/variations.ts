/**
 * The augmentable variations (§3) in the order of their labels û: which of them an experiment uses, and the targets of
 * a batch, those of mined variations (§3.4) after them. Their images are made by the data layer; a variation that is never applied has nothing to teach and gets no label.
 */

/** The M variations; the keys of `augment` in an experiment. */
export const variations = ['blur', 'occlusion', 'pose'] as const;
/** The name of an augmentable variation. */
export type Variation = (typeof variations)[number];

/** The variations applied with a probability above 0. */
export function activeVariations(
  augment: Readonly<Record<Variation, { readonly probability: number }>>,
): Variation[] {
  return variations.filter((name) => augment[name].probability > 0);
}

/**
 * û of the active and the mined variations, [B, V], from flags of all M augmentable ones, [B, M], and soft labels of the T mined
 * ones, [B, T]: 1 where a variation was applied, 0 where not; a negative flag or NaN says that it is not known.
 */
export function variationTargets(
  applied: ArrayLike<number>,
  active: readonly Variation[],
  soft: ArrayLike<number> = [],
): Float32Array {
  const samples = applied.length / variations.length;
  const mined = soft.length / samples;
  const columns = active.map((name) => variations.indexOf(name));
  const targets = new Float32Array(samples * columns.length + soft.length);
  for (let row = 0, i = 0; row < samples; row++) {
    for (const column of columns) targets[i++] = applied[row * variations.length + column] as number;
    for (let t = 0; t < mined; t++) targets[i++] = soft[row * mined + t] as number;
  }
  return targets;
}
