/** The identities of a set: their order, and the columns of tables that tell them. */
import type { Archive } from './archive.js';

export const byName = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** Ascending: by value where all are whole numbers, so that 2 comes before 10, else as text. Every format has this order. */
export function sortIdentities(names: Iterable<string>): string[] {
  const all = [...names];
  const numeric = all.every((name) => /^-?\d+$/.test(name));
  // Numbers beyond 2^53, and 7 and 007, can have one value.
  return all.sort((a, b) => (numeric && (Number(a) - Number(b) || a.length - b.length)) || byName(a, b));
}

/** The identities of images, each called by the name in `given`, numbered from 0. */
export function numberIdentities(given: readonly string[]): Pick<Archive, 'labels' | 'names'> {
  const names = sortIdentities(new Set(given));
  const number = new Map(names.map((name, i) => [name, i]));
  return { labels: Int32Array.from(given, (name) => number.get(name) ?? 0), names };
}

/** Which of a table's columns has the first of the names in `known` that any has, in upper or lower case; -1 when none has one. */
export function columnOf(columns: readonly string[], known: readonly string[]): number {
  const lower = columns.map((name) => name.toLowerCase());
  return known.map((name) => lower.indexOf(name)).find((column) => column >= 0) ?? -1;
}
