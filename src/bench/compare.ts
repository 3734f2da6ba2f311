// Which of two measurements is faster, case by case: ratios of times with 95 % intervals, from files or from runs in turns.
import { execFile } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { UserError } from '../tensor/errors.js';
import { Draws, purposes } from '../tensor/philox.js';
import { fewest, medianInterval, quantile } from './median.js';
import { parseResults, readResults, type Measured, type Measurements } from './results.js';
import { digits, type Rows } from './table.js';

export type Verdict = 'faster' | 'slower' | 'same' | 'undecided';

/** Time of B divided by that of A, with the ends of its 95 % interval. */
export interface Ratio {
  readonly median: number;
  readonly low: number;
  readonly high: number;
}

export interface Comparison {
  readonly a: Measurements;
  readonly b: Measurements;
  readonly cases: readonly { readonly name: string; readonly ratio: Ratio; readonly verdict: Verdict }[];
  /** Names of cases that only one of the two has. */
  readonly alone: readonly string[];
}

/** Less than this is no difference that anybody would act on. */
const negligible = 0.03;

/** Same: the whole interval is within 3 % of 1. Faster or slower: it leaves 1 out. */
export function verdictOf({ low, high }: Ratio): Verdict {
  if (low > 1 - negligible && high < 1 + negligible) return 'same';
  if (high < 1) return 'faster';
  return low > 1 ? 'slower' : 'undecided';
}

/** The ratio of two medians, its interval from 2,000 resamples of the runs on both sides. */
export function bootstrapRatio(a: readonly number[], b: readonly number[]): Ratio {
  const draws = new Draws(1, purposes.resample, 0, 0);
  const resampled = (values: readonly number[]) =>
    quantile(
      values.map(() => values[draws.int(values.length)] ?? NaN),
      0.5,
    );
  const ratios = Array.from({ length: 2000 }, () => resampled(b) / resampled(a));
  const median = quantile(b, 0.5) / quantile(a, 0.5);
  return { median, low: quantile(ratios, 0.025), high: quantile(ratios, 0.975) };
}

/** Pairs of cases by name, and the names without a partner. */
function paired(a: readonly Measured[], b: readonly Measured[]) {
  const others = new Map(b.map((one) => [one.name, one]));
  const pairs = a.flatMap((one) => {
    const other = others.get(one.name);
    return other ? [{ name: one.name, a: one, b: other }] : [];
  });
  const both = new Set(pairs.map(({ name }) => name));
  const alone = [...a, ...b].flatMap(({ name }) => (both.has(name) ? [] : [name]));
  return { pairs, alone };
}

/** Two measurements that were not made in turns: what else the machine did is in the ratio too. */
export function compareMeasurements(a: Measurements, b: Measurements): Comparison {
  const { pairs, alone } = paired(a.cases, b.cases);
  const cases = pairs.map(({ name, ...of }) => {
    const known = Math.min(of.a.times.length, of.b.times.length) >= fewest;
    const ratio = known
      ? bootstrapRatio(of.a.times, of.b.times)
      : { median: of.b.median / of.a.median, low: 0, high: Infinity };
    return { name, ratio, verdict: verdictOf(ratio) };
  });
  return { a, b, cases, alone };
}

/** Rounds of A and B in turns: each round's ratio compares neighbours, so that the machine's other work disturbs both alike. */
export function compareRounds(rounds: readonly (readonly [Measurements, Measurements])[]): Comparison {
  const [first] = rounds;
  if (!first) throw new Error('there are no rounds to compare');
  const { pairs, alone } = paired(first[0].cases, first[1].cases);
  const medianOf = (measured: Measurements, name: string) =>
    measured.cases.find((one) => one.name === name)?.median ?? NaN;
  const cases = pairs.map(({ name }) => {
    const ratios = rounds.map(([a, b]) => medianOf(b, name) / medianOf(a, name));
    const ratio = medianInterval(ratios) ?? { median: quantile(ratios, 0.5), low: 0, high: Infinity };
    return { name, ratio, verdict: verdictOf(ratio) };
  });
  return { a: first[0], b: first[1], cases, alone };
}

const run = promisify(execFile);

/** turl bench of the checkout in `folder`, in a process of its own. */
async function benchOf(folder: string, args: readonly string[]): Promise<Measurements> {
  const program = join(folder, 'bin/turl.js');
  try {
    const { stdout } = await run(process.execPath, [program, 'bench', ...args, '--json'], {
      maxBuffer: 1 << 28,
    });
    return parseResults(folder, stdout);
  } catch (error) {
    if (error instanceof UserError) throw error;
    const said = error instanceof Error && 'stderr' in error ? String(error.stderr).trim() : String(error);
    throw new UserError(`${folder}: turl bench failed: ${said.split('\n').at(0) ?? ''}`);
  }
}

/** Whether the path is a file of results or a checkout. */
export function kindOf(path: string): 'file' | 'checkout' {
  if (!existsSync(path))
    throw new UserError(`${path}: expected a file of results or a checkout, found nothing`);
  if (!statSync(path).isDirectory()) return 'file';
  if (existsSync(join(path, 'bin/turl.js')) && existsSync(join(path, 'dist'))) return 'checkout';
  throw new UserError(
    `${path}: expected a checkout that is built (bin/turl.js, dist/), found another folder`,
  );
}

/**
 * Compares B with A: two files of results, or two checkouts, which run in turns (A B A B ...) `rounds` times.
 * @param args what `turl bench` is given there; `tell` hears of each round
 */
export async function compare(
  a: string,
  b: string,
  { rounds, args, tell }: { rounds: number; args: readonly string[]; tell: (round: number) => void },
): Promise<Comparison> {
  const [kind, other] = [kindOf(a), kindOf(b)];
  if (kind !== other)
    throw new UserError(`bench compare: expected two files or two checkouts, got a ${kind} and a ${other}`);
  if (kind === 'file') {
    const comparison = compareMeasurements(readResults(a), readResults(b));
    if (comparison.cases.length === 0)
      throw new UserError(`bench compare: expected cases that both files have, found none in ${a} and ${b}`);
    return comparison;
  }
  const measured: [Measurements, Measurements][] = [];
  for (let round = 0; round < rounds; round++) {
    tell(round);
    measured.push([await benchOf(a, args), await benchOf(b, args)]);
  }
  return compareRounds(measured);
}

export const comparisonRows = ({ cases }: Comparison): Rows => ({
  head: ['case', 'time of B / A', '95 %', 'B is'],
  rows: cases.map(({ name, ratio, verdict }) => [
    name,
    digits(ratio.median),
    Number.isFinite(ratio.high) ? `${digits(ratio.low)} to ${digits(ratio.high)}` : 'too few runs',
    verdict,
  ]),
});

/** How many cases came out which way. */
export function comparisonSummary({ a, b, cases, alone }: Comparison): string {
  const verdicts: readonly Verdict[] = ['faster', 'slower', 'same', 'undecided'];
  const counts = verdicts.map((v) => `${cases.filter(({ verdict }) => verdict === v).length} ${v}`);
  const rest = alone.length > 0 ? `; ${alone.length} cases are in one of them only` : '';
  const devices =
    a.description === b.description ? a.description : `A on ${a.description}, B on ${b.description}`;
  return `A ${a.commit}, B ${b.commit}, ${devices}: of ${cases.length} cases B is ${counts.join(', ')}${rest}`;
}
