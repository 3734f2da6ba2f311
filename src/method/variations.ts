/**
 * The augmentable variations (METHOD.md §1) in the order of their labels û: which of them an experiment uses, and the targets of
 * a batch. Their images are made by the data layer; a variation that is never applied has nothing to teach and gets no label.
 */

/** The M variations; the keys of `augment` in an experiment. */
export const variations = ['blur', 'occlusion', 'pose'] as const;
export type Variation = (typeof variations)[number];

/** The variations applied with a probability above 0. */
export function activeVariations(
  augment: Readonly<Record<Variation, { readonly probability: number }>>,
): Variation[] {
  return variations.filter((name) => augment[name].probability > 0);
}

/**
 * û of the active variations, [B, V], from flags of all M, [B, M]: 1 where a variation was applied, 0 where not; a negative flag
 * or NaN says that it is not known.
 */
export function variationTargets(applied: ArrayLike<number>, active: readonly Variation[]): Float32Array {
  const samples = applied.length / variations.length;
  const columns = active.map((name) => variations.indexOf(name));
  return Float32Array.from(
    { length: samples * active.length },
    (_, i) =>
      applied[
        Math.floor(i / active.length) * variations.length + (columns[i % active.length] as number)
      ] as number,
  );
}
