// Results as a table: for the terminal, as CSV and as Markdown.
import Table from 'cli-table3';
import { writeToString } from 'fast-csv';
import type { Results } from './results.js';

export interface Rows {
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

/** Three significant digits, never as a power of ten. */
export const digits = (value: number): string =>
  value >= 1000 ? value.toFixed(0) : value === 0 ? '0' : String(Number(value.toPrecision(3)));

const percent = (share: number) => `${(100 * share).toFixed(0)} %`;

/** In words: what the shares are shares of. */
export function ceilingsText({ ceilings: { copy, multiplyAdd, matrix } }: Results): string {
  const rates = [
    `copy ${digits(copy / 1e9)} GB/s`,
    `multiply-add ${digits(multiplyAdd / 1e9)} GFLOP/s`,
    matrix === null
      ? 'no matrix instructions'
      : `matrix instructions ${digits(matrix / 1e9)} GFLOP/s in bfloat16`,
  ];
  return rates.join(', ');
}

/** Where and with what it was measured, in a sentence or two. */
export function factsText({ device, machine, turl, commit, date, clocks, node, system }: Results): string {
  const [before, after] = clocks;
  return (
    `${device.description}${device.name === 'cpu' ? '' : ` beside ${machine.cpu}`}; ${machine.cores} cores; ` +
    `clocks ${before === after ? before : `${before} before and ${after} after`}; ` +
    `turl ${turl}, commit ${(commit ?? 'unknown').replace(/^(.{12})[0-9a-f]*/, '$1')}, Node ${node}, ${system}; ${date}.`
  );
}

/** Every column; the tenth and ninetieth percentile are left to files. */
export function resultRows({ results }: Results, columns: 'all' | 'shown' = 'shown'): Rows {
  const all = columns === 'all';
  const head = [
    ...['kernel', 'shape', 'ms', '95 %', ...(all ? ['10 to 90 %'] : []), 'cold ms', 'runs'],
    ...['GFLOP/s', 'GB/s', 'bound', 'share', 'error'],
  ];
  const rowOf = (r: Results['results'][number]): string[] => {
    if ('skipped' in r) return [r.kernel, r.shape, `skipped: ${r.skipped}`, ...head.slice(3).map(() => '')];
    return [
      ...[r.kernel, r.shape, digits(r.warm.median), `${digits(r.warm.low)} to ${digits(r.warm.high)}`],
      ...(all ? [r.quantiles.map(digits).join(' to ')] : []),
      ...[digits(r.cold), String(r.times.length), digits(r.gflops), digits(r.gbytes)],
      ...[r.bound, percent(r.share), r.error.toExponential(0)],
    ];
  };
  return { head, rows: results.map(rowOf) };
}

export function textTable({ head, rows }: Rows): string {
  const table = new Table({ head: [...head], style: { head: [], border: [], compact: true } });
  for (const row of rows) {
    const filled = row.findLastIndex((cell) => cell !== '') + 1;
    table.push(
      filled === head.length
        ? [...row]
        : [
            ...row.slice(0, filled - 1),
            { content: row[filled - 1] ?? '', colSpan: head.length - filled + 1 },
          ],
    );
  }
  return table.toString();
}

export const csvTable = async ({ head, rows }: Rows): Promise<string> =>
  `${await writeToString([head, ...rows].map((row) => [...row]))}\n`;

export function markdownTable({ head, rows }: Rows): string {
  const line = (cells: readonly string[]) => `| ${cells.map((c) => c.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line), ''].join('\n');
}

/** Table and facts, to be pasted somewhere. */
export const markdownOf = (results: Results): string =>
  `${factsText(results)} Ceilings: ${ceilingsText(results)}.\n\n${markdownTable(resultRows(results))}`;
