/** Where two experiments differ. */
import { isDeepStrictEqual } from 'node:util';
import { describeValue, isTree } from './layers.js';

/** A key of an experiment that is kept in a file or folder and is another now. */
export interface Difference {
  place: string;
  /** What was expected there, and what was found. */
  text: string;
}

/** The first key of `kept` that is another in `now`. */
export function firstDifference(
  kept: Readonly<Record<string, unknown>>,
  now: Readonly<Record<string, unknown>>,
  place: string,
  path: readonly string[] = [],
): Difference | undefined {
  for (const key of new Set([...Object.keys(kept), ...Object.keys(now)])) {
    const value = kept[key];
    if (isDeepStrictEqual(value, now[key])) continue;
    const at = [...path, key];
    if (isTree(value) && isTree(now[key])) {
      const within = firstDifference(value, now[key], place, at);
      if (within) return within;
      continue;
    }
    const [expected, found] = [describeValue(value), describeValue(now[key])];
    return { place, text: `expected ${at.join('.')} to be ${expected}, as in ${place}, found ${found}` };
  }
  return undefined;
}
