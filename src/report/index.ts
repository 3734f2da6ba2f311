/** Reports: runs and sweeps as one page of pictures, and the pictures by themselves as SVG and PNG. */
import { existsSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import sharp from 'sharp';
import { allResults } from '../ablate/results.js';
import { missingCells } from '../ablate/tables.js';
import { UserError } from '../tensor/errors.js';
import { leftOutNote, rareNote } from '../evaluate/table.js';
import { checkWritable, makeFolder, missingFolders, removeEmpty, writeAtomic } from '../train/atomic.js';
import { plainName, renderSvg, type Figure } from './figure.js';
import { ablationFigure } from './figures/ablation.js';
import { confidenceFigure, correlationFigure } from './figures/embedding.js';
import { severityFigure } from './figures/severity.js';
import { toyFigure } from './figures/toy-picture.js';
import { lossFigure, speedFigure, timeFigure } from './figures/training.js';
import { histogramFigure, rejectFigure, rocFigure } from './figures/verification.js';
import { renderPage, type Block } from './page.js';
import { collectRun, type RunReport } from './run.js';

export interface ReportResult {
  readonly page: string;
  /** Names of the pictures, each there as .svg and .png. */
  readonly pictures: readonly string[];
}

const figureBlocks = (...figures: (Figure | undefined)[]): Block[] =>
  figures.flatMap((figure) => (figure ? [{ kind: 'figure', figure }] : []));

const withPrefix = (prefix: string, figure: Figure | undefined): Figure | undefined =>
  figure && { ...figure, id: `${prefix}-${figure.id}` };

const percent = (share: number) => (100 * share).toFixed(2);

/** Runs may be measured at different rates: each has its column. */
export function resultTable(runs: readonly Pick<RunReport, 'name' | 'tested'>[]) {
  const rates = [
    ...new Set(
      runs.flatMap(({ tested }) =>
        (tested?.evaluation.rows ?? []).flatMap(({ verification }) =>
          verification.tarAtFar.map(({ far }) => far),
        ),
      ),
    ),
  ];
  const rows = runs.flatMap(({ name, tested }) =>
    (tested?.evaluation.rows ?? []).map(({ version, verification: v, intervals }) => [
      name,
      version,
      `${percent(v.accuracy.mean)} ± ${percent(v.accuracy.std)}`,
      intervals ? `${percent(intervals.accuracy.low)} to ${percent(intervals.accuracy.high)}` : '',
      ...rates.map((rate) => {
        const found = v.tarAtFar.find(({ far }) => far === rate);
        return found ? percent(found.tar) : '';
      }),
      percent(v.auc),
      percent(v.equalErrorRate),
    ]),
  );
  return {
    kind: 'table',
    head: [
      'run',
      'images',
      'accuracy %',
      '95 % interval',
      ...rates.map((rate) => `TAR % at FAR ${rate}`),
      'AUC %',
      'EER %',
    ],
    rows,
  } satisfies Block;
}

/** The names, with a number behind those that are there already. */
function distinct(names: readonly string[]): string[] {
  const taken = new Set<string>();
  for (const name of names) {
    let one = name;
    for (let i = 2; taken.has(one); i++) one = `${name}-${i}`;
    taken.add(one);
  }
  return [...taken];
}

function runBlocks(run: RunReport, index: number): Block[] {
  const { tested, name } = run;
  const id = `run${index + 1}`;
  const blocks: Block[] = [{ kind: 'heading', text: name }];
  if (run.config.purpose) blocks.push({ kind: 'paragraph', text: run.config.purpose });
  if (!tested)
    return [
      ...blocks,
      {
        kind: 'paragraph',
        text:
          run.config.stage === 'attributes'
            ? 'A model of attributes: turl mine eval says how well it tells them, and how well it hides the identity.'
            : 'There is nothing to test on: no pairs file and no held-out identities.',
      },
      { kind: 'details', title: 'the experiment', text: run.yaml },
    ];
  const { protocol, rows } = tested.evaluation;
  const { tarAtFar = [], impostorPairs = 0 } = rows[0]?.verification ?? {};
  const rates = tarAtFar.map(({ far }) => far);
  const [clean] = tested.versions;
  blocks.push(
    {
      kind: 'paragraph',
      text:
        `Measured on ${protocol.data} (${protocol.pairs}), ${protocol.folds} folds; score: ${protocol.score}; ${protocol.crop}; ` +
        `mirror images: ${protocol.flip ? 'yes' : 'no'}; pairs left out because an image could not be used: ${protocol.failures}.` +
        [...rareNote(rates, impostorPairs), ...leftOutNote(tested.evaluation)]
          .map((note) => ` ${note}.`)
          .join('') +
        ' Turned faces are in the table only: not every face can be turned, so the pictures would compare other pairs.',
    },
    ...figureBlocks(
      withPrefix(id, rocFigure(tested.versions)),
      withPrefix(id, clean && histogramFigure(clean)),
      withPrefix(id, rejectFigure(tested.versions)),
      withPrefix(id, tested.correlation && correlationFigure(tested.correlation)),
      withPrefix(id, confidenceFigure(tested.confidences)),
      withPrefix(id, tested.severity && severityFigure(tested.severity)),
    ),
  );
  if (tested.faces)
    for (const [title, list] of [
      ['Test images that the network is surest of', tested.faces.most],
      ['and those it is least sure of', tested.faces.least],
    ] as const)
      blocks.push({
        kind: 'images',
        title: `${title} (below: mean log confidence)`,
        images: list.map(({ name: image, quality, png }) => ({
          name: image,
          caption: quality.toFixed(2),
          png,
        })),
      });
  blocks.push({ kind: 'details', title: 'the experiment', text: run.yaml });
  return blocks;
}

/** Whether the folder is a run, or the results of a sweep. */
function kindOf(path: string): 'run' | 'sweep' {
  if (!existsSync(path)) throw new UserError(`no such run or results of a sweep: ${path}`);
  if (existsSync(join(path, 'metrics.jsonl'))) return 'run';
  if (existsSync(join(path, 'cells'))) return 'sweep';
  throw new UserError(
    `${path}: expected a run directory (metrics.jsonl) or the results of a sweep (cells/), found neither`,
  );
}

/** @throws UserError when a path is neither a run nor a sweep, or the folder cannot be written */
export async function writeReport(paths: readonly string[], out: string): Promise<ReportResult> {
  const kinds = paths.map(kindOf);
  const pictures = join(out, 'pictures');
  const made = missingFolders(pictures);
  makeFolder(pictures, `the folder ${out}`);
  return fillReport(paths, kinds, out).finally(() => removeEmpty(made));
}

async function fillReport(
  paths: readonly string[],
  kinds: readonly ReturnType<typeof kindOf>[],
  out: string,
): Promise<ReportResult> {
  const page = join(out, 'index.html');
  checkWritable(page);
  const runs: RunReport[] = [];
  const names = distinct(paths.map((path) => basename(resolve(path))));
  for (const [i, path] of paths.entries())
    if (kinds[i] === 'run') runs.push(await collectRun(path, names[i] ?? path));
  const blocks: Block[] = [];
  if (runs.some(({ tested }) => tested)) blocks.push(resultTable(runs));
  const training = figureBlocks(lossFigure(runs), speedFigure(runs), timeFigure(runs));
  if (training.length > 0) blocks.push({ kind: 'heading', text: 'Training' }, ...training);
  for (const [i, path] of paths.entries()) {
    if (kinds[i] !== 'sweep') continue;
    const { cells, apart } = allResults(path);
    const name = names[i] ?? path;
    const missing = missingCells(path);
    const tests = [...new Set(cells.flatMap((cell) => Object.keys(cell.tests)))];
    blocks.push(
      { kind: 'heading', text: `Sweep ${name}` },
      ...(cells.length + apart.length === 0
        ? [{ kind: 'paragraph', text: 'No cell is done yet.' } as const]
        : figureBlocks(
            ...tests.map((test) => withPrefix(plainName(name), ablationFigure(name, test, cells))),
          )),
      ...(missing.length > 0
        ? [{ kind: 'paragraph', text: `Missing: ${missing.join('; ')}.` } as const]
        : []),
      ...(apart.length > 0
        ? [
            {
              kind: 'paragraph',
              text: `Left out, since results.csv does not have them: ${apart.map(({ label, seed }) => `${label}, seed ${seed}`).join('; ')}.`,
            } as const,
          ]
        : []),
    );
  }
  runs.forEach((run, i) => blocks.push(...runBlocks(run, i)));
  if (runs.some(({ config }) => config.stage !== 'attributes'))
    blocks.push({ kind: 'heading', text: 'Why confidences' }, ...figureBlocks(toyFigure()));
  const found = blocks.flatMap((block) => (block.kind === 'figure' ? [block] : []));
  distinct(found.map(({ figure }) => figure.id)).forEach((id, i) => {
    const block = found[i];
    if (block) block.figure = { ...block.figure, id };
  });
  const figures = found.map(({ figure }) => figure);
  for (const figure of figures) {
    const svg = renderSvg(figure, 'light');
    writeAtomic(join(out, 'pictures', `${figure.id}.svg`), svg);
    writeAtomic(
      join(out, 'pictures', `${figure.id}.png`),
      await sharp(Buffer.from(svg), { density: 192 }).png().toBuffer(),
    );
  }
  writeAtomic(
    page,
    renderPage(
      names.length > 3 ? `${names.slice(0, 2).join(', ')} and ${names.length - 2} more` : names.join(', '),
      `A report of turl on ${paths.length === 1 ? 'one run or sweep' : `${paths.length} runs and sweeps`}.`,
      blocks,
    ),
  );
  return { page, pictures: figures.map(({ id }) => id) };
}
