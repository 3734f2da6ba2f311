/**
 * The tables of a sweep: for each variant and test the mean and standard deviation over seeds, and the paired difference to the variant
 * before with its 95 % confidence interval (Student's t over the seeds that both have). The best of a column is marked only where its
 * paired difference to every other is clear of zero. A cell that is missing is said to be.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { writeToString } from 'fast-csv';
import { rareNote } from '../evaluate/table.js';
import { makeFolder, writeAtomic } from '../train/atomic.js';
import { read, readResult, type CellResult } from './results.js';
import { clear, estimate, pairedDifference, type Estimate } from './statistics.js';
import type { LoadedSweep } from './sweep.js';

/** A test and a version of its images. */
interface Column {
  readonly test: string;
  readonly version: string;
}

export interface Table {
  readonly figure: string;
  /** What must be known to read it. */
  readonly notes: readonly string[];
  readonly columns: readonly Column[];
  readonly rows: readonly {
    readonly label: string;
    readonly before: string | null;
    readonly cells: readonly {
      readonly value: Estimate | undefined;
      readonly difference: Estimate | undefined;
      readonly best: boolean;
    }[];
    /** Seeds that are missing. */
    readonly missing: readonly number[];
  }[];
}

type Values = ReadonlyMap<number, number>;

/** @param figure accuracy, auc, equal_error_rate or tar_at_far_F */
export function buildTable(
  sweep: LoadedSweep,
  results: ReadonlyMap<string, CellResult>,
  figure: string,
): Table {
  const columns: Column[] = [];
  for (const { tests } of results.values())
    for (const [test, versions] of Object.entries(tests))
      for (const version of Object.keys(versions))
        if (!columns.some((c) => c.test === test && c.version === version)) columns.push({ test, version });
  const valuesOf = (label: string, { test, version }: Column): Values =>
    new Map(
      sweep.cells.flatMap((cell): [number, number][] => {
        if (cell.variant.label !== label) return [];
        const value = results.get(cell.id)?.tests[test]?.[version]?.[figure];
        return value === undefined ? [] : [[cell.seed, value]];
      }),
    );
  const lower = figure === 'equal_error_rate' || figure === 'correlation';
  const best = columns.map((column) => {
    const all = sweep.variants.map(({ label }) => ({ label, values: valuesOf(label, column) }));
    return all.find(
      ({ label, values }) =>
        values.size > 1 &&
        all.every(({ label: other, values: others }) => {
          if (other === label) return true;
          const difference = pairedDifference(values, others);
          return difference !== undefined && clear(difference) && difference.mean > 0 !== lower;
        }),
    )?.label;
  });
  return {
    figure,
    notes: rateNotes(results, figure),
    columns,
    rows: sweep.variants.map(({ label, before }) => ({
      label,
      before,
      cells: columns.map((column, i) => {
        const values = valuesOf(label, column);
        return {
          value: values.size > 0 ? estimate([...values.values()]) : undefined,
          difference: before === null ? undefined : pairedDifference(values, valuesOf(before, column)),
          best: best[i] === label && sweep.variants.length > 1,
        };
      }),
      missing: sweep.cells
        .filter((cell) => cell.variant.label === label && !results.has(cell.id))
        .map(({ seed }) => seed),
    })),
  };
}

const rateFigure = 'tar_at_far_';

/** Of a rate: the tests whose impostor pairs are too few for it. */
function rateNotes(results: ReadonlyMap<string, CellResult>, figure: string): string[] {
  if (!figure.startsWith(rateFigure)) return [];
  const rate = Number(figure.slice(rateFigure.length));
  const notes = [...results.values()].flatMap(({ protocols }) =>
    Object.entries(protocols).flatMap(([test, { impostorPairs }]) =>
      typeof impostorPairs === 'number'
        ? rareNote([rate], impostorPairs).map((note) => `${test}: ${note}`)
        : [],
    ),
  );
  return [...new Set(notes)];
}

const percent = (value: number) => (100 * value).toFixed(2);
const name = ({ test, version }: Column) => `${test} ${version}`;
const signed = (value: number) => {
  const size = percent(Math.abs(value));
  return size === '0.00' ? size : (value < 0 ? '−' : '+') + size;
};
const once = ({ n }: Estimate) => n < 2;
const valueText = (e: Estimate | undefined) =>
  !e ? '–' : once(e) ? `${percent(e.mean)} (one seed)` : `${percent(e.mean)} ± ${percent(e.std)}`;
const differenceText = (e: Estimate | undefined) =>
  !e
    ? '–'
    : once(e)
      ? `${signed(e.mean)} (one seed)`
      : `${signed(e.mean)} [${signed(e.mean - e.margin)}, ${signed(e.mean + e.margin)}]`;

/** Without a result there is nothing to show. */
const hasColumns = ({ columns }: Table) => columns.length > 0;

function missingLines({ rows }: Table): string[] {
  const missing = rows.filter((row) => row.missing.length > 0);
  return missing.map((row) => `missing: ${row.label}, seed ${row.missing.join(', ')}`);
}

const listed = '- ';

/** The cells that the tables in a folder say are missing: `C, seed 1, 2`. */
export function missingCells(folder: string): string[] {
  const file = join(folder, 'table.md');
  const start = `${listed}missing: `;
  const lines = existsSync(file) ? read(file).split('\n') : [];
  return lines.filter((line) => line.startsWith(start)).map((line) => line.slice(start.length));
}

export function markdown(sweep: LoadedSweep, tables: readonly Table[]): string {
  // A bar in a name would begin a cell.
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  const parts = tables.filter(hasColumns).flatMap((table) => {
    const head = [line(['', ...table.columns.map(name)]), line(['---', ...table.columns.map(() => '---:')])];
    const differences = table.rows.filter((row) => row.before !== null);
    return [
      `## ${table.figure}, %`,
      '',
      ...table.notes.flatMap((note) => [`${note}.`, '']),
      'Mean ± standard deviation over seeds; bold where the difference to every other row is clear of the noise.',
      '',
      ...head,
      ...table.rows.map((row) =>
        line([
          row.label,
          ...row.cells.map(({ value, best }) => (best ? `**${valueText(value)}**` : valueText(value))),
        ]),
      ),
      '',
      ...(differences.length > 0
        ? [
            'Difference to the row named, over the same seeds, with its 95 % confidence interval; bold where it leaves out zero, as one in twenty does by chance.',
            '',
            ...head,
            ...differences.map((row) =>
              line([
                `${row.label} against ${row.before}`,
                ...row.cells.map(({ difference: d }) =>
                  d && clear(d) ? `**${differenceText(d)}**` : differenceText(d),
                ),
              ]),
            ),
            '',
          ]
        : []),
    ];
  });
  const [first] = tables;
  const missing = first ? missingLines(first) : [];
  return [
    `# ${sweep.name}`,
    '',
    ...(sweep.purpose ? [sweep.purpose, ''] : []),
    `Seeds ${sweep.seeds.join(', ')}. Made by \`turl ablate\`; \`cells/\` has every figure and how it was measured.`,
    '',
    ...(missing.length > 0 ? ['**Not complete.**', ...missing.map((text) => listed + text), ''] : []),
    ...parts,
  ].join('\n');
}

const latexNames: Readonly<Record<string, string>> = {
  '^': '\\textasciicircum{}',
  '~': '\\textasciitilde{}',
  '\\': '\\textbackslash{}',
};

export function latex(tables: readonly Table[]): string {
  const escape = (text: string) => text.replace(/[&%$#_{}^~\\]/g, (c) => latexNames[c] ?? `\\${c}`);
  const cell = (e: Estimate | undefined) =>
    !e ? '--' : once(e) ? percent(e.mean) : `${percent(e.mean)} $\\pm$ ${percent(e.std)}`;
  return tables
    .filter(hasColumns)
    .map((table) =>
      [
        `% ${table.figure}, per cent: mean and standard deviation over seeds`,
        `\\begin{tabular}{l${'r'.repeat(table.columns.length)}}`,
        '\\toprule',
        `${['', ...table.columns.map((c) => escape(name(c)))].join(' & ')} \\\\`,
        '\\midrule',
        ...table.rows.map(
          (row) =>
            `${[
              escape(row.label),
              ...row.cells.map(({ value, best }) => (best ? `\\textbf{${cell(value)}}` : cell(value))),
            ].join(' & ')} \\\\`,
        ),
        '\\bottomrule',
        '\\end{tabular}',
        ...missingLines(table).map((text) => `% ${text}`),
        '',
      ].join('\n'),
    )
    .join('\n');
}

/** All results of the sweep's cells, by the cells' names. */
export function readResults(folder: string, sweep: LoadedSweep): Map<string, CellResult> {
  return new Map(
    sweep.cells.flatMap((cell) => {
      const result = readResult(folder, cell, sweep.tests);
      return result ? [[cell.id, result] as const] : [];
    }),
  );
}

/** Writes results.csv, table.md and table.tex of what there is, if anything. Returns the table of accuracies in words. */
export async function writeTables(folder: string, sweep: LoadedSweep): Promise<string> {
  const results = readResults(folder, sweep);
  const known = new Set(
    [...results.values()].flatMap(({ tests }) =>
      Object.values(tests).flatMap((v) => Object.values(v).flatMap(Object.keys)),
    ),
  );
  const figures = ['accuracy', ...[...known].filter((figure) => figure.startsWith(rateFigure)), 'auc'];
  const tables = figures.map((figure) => buildTable(sweep, results, figure));
  const rows = sweep.cells.flatMap((cell) =>
    Object.entries(results.get(cell.id)?.tests ?? {}).flatMap(([test, versions]) =>
      Object.entries(versions).map(([version, found]) => ({
        variant: cell.variant.label,
        seed: cell.seed,
        test,
        version,
        ...found,
      })),
    ),
  );
  const shown = markdown(sweep, tables.slice(0, 1));
  if (results.size === 0) return shown;
  makeFolder(folder);
  writeAtomic(
    join(folder, 'results.csv'),
    // Not every cell has every figure.
    await writeToString(rows, {
      headers: [...new Set(rows.flatMap(Object.keys))],
      includeEndRowDelimiter: true,
    }),
  );
  const text = markdown(sweep, tables);
  writeAtomic(join(folder, 'table.md'), `${text.trimEnd()}\n`);
  writeAtomic(join(folder, 'table.tex'), latex(tables));
  return shown;
}
