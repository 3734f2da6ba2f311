// The known name that an unknown one was probably meant to be.
import { distance } from 'fastest-levenshtein';

/** The nearest of `known` when no more than a third of the letters (at least 2) differ, else undefined. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  return known
    .map((candidate) => ({
      candidate,
      different: distance(name.toLowerCase(), candidate.toLowerCase()),
      longer: Math.abs(candidate.length - name.length),
      length: Math.max(name.length, candidate.length),
    }))
    .filter(
      ({ different, length }) => different <= Math.max(2, Math.floor(name.length / 3)) && different < length,
    )
    .sort((a, b) => a.different - b.different || a.longer - b.longer)[0]?.candidate;
}
