import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { configFrom, configToYaml } from '../config/index.js';
import { train } from '../train/trainer.js';
import { renderSvg, ticks } from './figure.js';
import { ablationFigure } from './figures/ablation.js';
import { lossFigure, timeFigure } from './figures/training.js';
import { severityFigure } from './figures/severity.js';
import { histogramFigure, rocFigure } from './figures/verification.js';
import { resultTable, writeReport } from './index.js';
import type { RunReport } from './run.js';

const test = suite<{ folder: string; run: string }>('report');

test.before(async (context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'turl-report-'));
  context.run = join(context.folder, 'run <&">');
  await train(
    configFrom({
      work_dir: context.run,
      model: {
        name: 'iresnet-small',
        input_size: 32,
        embedding_size: 16,
        channels: [4, 4, 8, 8],
        blocks: [1, 1, 1, 1],
      },
      data: {
        source: 'synthetic',
        identities: 4,
        images_per_identity: 4,
        held_out_identities: 4,
        image_size: 34,
        workers: 0,
      },
      loss: { groups: 4, margin: 2, confidence: { initial: 4 } },
      train: { batch_size: 8, steps: 6, log_every: 2 },
      evaluate: { pair_count: 20, folds: 2, bootstrap: 20, degrade: [{ blur: 5 }] },
    }),
  );
});
test.after(({ folder }) => rmSync(folder, { recursive: true }));

/** Every tag closes the one that is open: enough of XML for what ECharts writes. */
function assertWellFormed(svg: string): void {
  const open: string[] = [];
  for (const [, close, name, self] of svg.matchAll(/<(\/?)([a-zA-Z]+)(?:[^<>"]|"[^"]*")*?(\/?)>/g)) {
    if (close) assert.is(open.pop(), name);
    else if (!self) open.push(name ?? '');
  }
  assert.equal(open, []);
}

test('a run: one page without anything to fetch, each picture with its words and its numbers', async ({
  folder,
  run,
}) => {
  const out = join(folder, 'report');
  const { page, pictures } = await writeReport([run], out);
  const html = readFileSync(page, 'utf8');
  assert.not.match(html, /<script|<link|@import|src="(?!data:)|href="http|url\((?!#)/);
  assert.match(html, 'run &lt;&amp;&quot;&gt;');
  assert.match(html, 'blur=5');
  assert.match(html, 'FAR 0.001, 0.01: too few impostor pairs to reach it');
  for (const id of [
    'losses',
    'speed',
    'time',
    'run1-roc',
    'run1-scores',
    'run1-reject',
    'run1-correlation',
    'run1-confidence',
    'run1-severity',
  ])
    assert.ok(pictures.includes(id), id);
  assert.is(html.split('<figure').length - 1, pictures.length);
  assert.is(html.split('<desc>').length - 1, pictures.length);
  assert.is(html.split('data:image/png;base64').length - 1, 2 * 12);
  assert.not.match(html, /#01020[3-6]/); // the colours of the page, not their names
  for (const id of pictures) {
    const svg = readFileSync(join(out, 'pictures', `${id}.svg`), 'utf8');
    assertWellFormed(svg);
    assert.not.match(svg, /NaN|undefined|#01020[3-6]|var\(/);
    const { width = 0 } = await sharp(join(out, 'pictures', `${id}.png`)).metadata();
    assert.ok(width > 800, id);
  }
  // The same run gives the same bytes, whatever was drawn before.
  const again = join(folder, 'again');
  await writeReport([run], again);
  assert.ok(readFileSync(join(again, 'index.html')).equals(readFileSync(page)));
});

const cell = (label: string, seed: number, accuracy: number) => ({
  label,
  seed,
  experiments: [],
  asked: [],
  commit: null,
  machine: '',
  seconds: 1,
  tests: { lfw: { clean: { accuracy } } },
  protocols: {},
});

test('a sweep: means with intervals, one seed without, a missing version is said to be', async ({
  folder,
}) => {
  const cells = [
    cell('A', 1, 0.6),
    cell('A', 2, 0.7),
    { ...cell('B', 1, 0.8), tests: { lfw: { hard: { accuracy: 0.5 } } } },
  ];
  const { table } = ablationFigure('s', 'lfw', cells);
  // Of two values the interval is t (12.706) times half their difference.
  assert.equal(table.rows, [
    ['A', '65.00 ± 63.53', 'missing'],
    ['B', 'missing', '50.00 (one seed)'],
  ]);
  const sweep = join(folder, 'sweep');
  mkdirSync(join(sweep, 'cells'), { recursive: true });
  cells.forEach((one, i) => writeFileSync(join(sweep, 'cells', `${i}.json`), JSON.stringify(one)));
  const { pictures } = await writeReport([sweep], join(folder, 'swept'));
  assert.equal(pictures, ['sweep-ablation-lfw']);
  assert.equal(readdirSync(join(folder, 'swept/pictures')), [
    'sweep-ablation-lfw.png',
    'sweep-ablation-lfw.svg',
  ]);
  // Of two folders of one name each keeps its pictures; an arm without any cell is said to be missing.
  const other = join(folder, 'other/sweep');
  cpSync(sweep, other, { recursive: true });
  writeFileSync(join(other, 'table.md'), '# sweep\n\n**Not complete.**\n- missing: C<, seed 1, 2\n');
  writeFileSync(join(other, 'results.csv'), 'variant,seed,test\nB,1,lfw\nA,2,lfw\n');
  const both = await writeReport([sweep, other], join(folder, 'both'));
  assert.equal(both.pictures, ['sweep-ablation-lfw', 'sweep-2-ablation-lfw']);
  const html = readFileSync(both.page, 'utf8');
  assert.match(html, 'Sweep sweep-2');
  assert.match(html, '<p>Missing: C&lt;, seed 1, 2.</p>');
  assert.match(html, '<p>Left out, since results.csv does not have them: A, seed 1.</p>');
});

test('curves: a loss that never was is left out; the ROC’s numbers are those of its definition', () => {
  const log = [1, 2, 3].map((step) => ({
    step,
    values: { 'train/identification': 4 / step, 'train/adversarial': 0 },
  }));
  assert.equal(lossFigure([{ name: 'a', log }])?.table.rows, [['identification', '4.000', '1.333']]);
  assert.is(lossFigure([{ name: 'a', log: [] }]), undefined);
  const attributes = [
    { step: 1, values: { 'train/attributes': 2, 'train/adversarial': 3, 'train/discriminator': 4 } },
  ];
  assert.equal(
    lossFigure([{ name: 'a', log: attributes }])?.table.rows.map(([name]) => name),
    ['attributes told', 'identity hidden', 'identity’s adversary'],
  );
  const pairs = { scores: [3, 2, 1, 2.5, 0.5], genuine: [true, true, true, false, false] };
  const figure = rocFigure([{ name: 'x', pairs, reject: null }]);
  assert.equal(figure.table.rows, [['x', '33.33 %', '33.33 %', '33.33 %', '33.33 %']]);
  assert.match(renderSvg(figure, 'light'), '<title>ROC</title>');
  const [series] = figure.option['series'] as { step: string }[];
  assert.is(series?.step, 'end');
});

test('names that are long or many: a line for each in the legend, all on the axis, no two alike', () => {
  const arms = Array.from({ length: 9 }, (_, i) => `loss.lambda_cls=${i} loss.lambda_adv=0.5`);
  const versions = Array.from({ length: 9 }, (_, i) => `occlusion=0.${i + 1}`);
  const found = Object.fromEntries(versions.map((version) => [version, { accuracy: 0.5 }]));
  const figure = ablationFigure(
    's',
    'lfw',
    arms.map((arm) => ({ ...cell(arm, 1, 0), tests: { lfw: found } })),
  );
  const svg = renderSvg(figure, 'light');
  assertWellFormed(svg);
  assert.not.match(svg, /zr\d/);
  const places = (names: string[]) =>
    names.map((name) => {
      const [, transform] = new RegExp(`<text[^>]*transform="([^"]*)"[^>]*>${name}</text>`).exec(svg) ?? [];
      assert.ok(transform, name);
      return (transform.match(/-?[\d.]+/g) ?? []).map(Number).slice(-2);
    });
  const lines = places(arms).map(([, y = 0]) => y);
  assert.ok(lines.every((y, i) => i === 0 || y - (lines[i - 1] ?? 0) > 14));
  assert.is(new Set(places(versions).map(String)).size, 9);
  assert.match(svg, '<pattern');
  const log = [{ step: 1, values: { 'speed/images_per_second': 1, 'milliseconds/forward': 1 } }];
  const runs = [1, 2].map((i) => ({
    name: `${'a-long-name-'.repeat(6)}seed-${i}`,
    log,
    config: configFrom({}),
  }));
  const time = timeFigure(runs);
  if (!time) throw new Error('no picture');
  const shown = renderSvg(time, 'light');
  assert.ok(['seed-1', 'seed-2'].every((end) => shown.includes(`${end}</text>`)));
});

test('runs measured at different rates: each rate has its column', () => {
  const measured = (name: string, ...rates: [number, number][]) =>
    ({
      name,
      tested: {
        evaluation: {
          rows: [
            {
              version: 'clean',
              intervals: null,
              verification: {
                accuracy: { mean: 0.5, std: 0 },
                tarAtFar: rates.map(([far, tar]) => ({ far, tar })),
                auc: 0.5,
                equalErrorRate: 0.5,
              },
            },
          ],
        },
      },
    }) as unknown as RunReport;
  const { head, rows } = resultTable([
    measured('A', [0.1, 0.9], [0.01, 0.8]),
    measured('B', [0.01, 0.7], [0.001, 0.6]),
  ]);
  assert.equal(head.slice(4, 7), ['TAR % at FAR 0.1', 'TAR % at FAR 0.01', 'TAR % at FAR 0.001']);
  assert.equal(
    rows.map((row) => row.slice(4, 7)),
    [
      ['90.00', '80.00', ''],
      ['', '70.00', '60.00'],
    ],
  );
});

test('ticks: round steps, and the digits that they need', () => {
  const shown = (values: number[], least: number, most?: number) => {
    const { min, max, interval, axisLabel } = ticks(values, least, most);
    const count = Math.round((max - min) / interval);
    return Array.from({ length: count + 1 }, (_, i) => axisLabel.formatter(min + i * interval)).join(' ');
  };
  assert.is(shown([-0.78, -0.61], 0.01), '-0.80 -0.75 -0.70 -0.65 -0.60');
  assert.is(shown([75, 78.2], 1), '75 76 77 78 79');
  assert.is(shown([100, 100], 1, 100), '99.0 99.2 99.4 99.6 99.8 100.0');
  assert.is(shown([0.1, 0.7], 0.01), '0.1 0.2 0.3 0.4 0.5 0.6 0.7');
  assert.is(shown([0, 437], 5), '0 100 200 300 400 500');
  assert.is(shown([0, 12000], 5), '0 2,000 4,000 6,000 8,000 10,000 12,000');
  assert.is(shown([NaN, Infinity], 1), '0 0.2 0.4 0.6 0.8 1.0');
  assert.is(shown([0, 0], 1), '0 0.2 0.4 0.6 0.8 1.0');
  assert.is(shown([-9.210340365, -9.210340364], 0.01), '-9.216 -9.214 -9.212 -9.210 -9.208 -9.206 -9.204');
  // What ECharts writes of them, with values that are nearly constant or begin anywhere.
  const points = [0, 1, 2].map((severity) => ({
    severity,
    low: -9.2103403,
    median: -9.21034,
    high: -9.2103397,
  }));
  const figures = [
    severityFigure({ images: 1, blur: points, occlusion: points }),
    histogramFigure({ name: 'x', pairs: { scores: [-0.78, 0.44], genuine: [true, false] }, reject: null }),
    lossFigure([{ name: 'a', log: [{ step: 437, values: { 'train/identification': 1 } }] }]),
  ];
  const texts = figures.map((figure) =>
    Array.from(figure ? renderSvg(figure, 'light').matchAll(/>(-?[\d.]+)<\/text>/g) : [], ([, text]) => text),
  );
  assert.ok(texts[0]?.includes('-9.210'));
  assert.ok(texts[0]?.every((text) => (text?.length ?? 0) <= 6));
  assert.ok(texts[1]?.includes('-1.0') && !texts[1].includes('-0.78'));
  assert.ok(texts[2]?.includes('400') && !texts[2].includes('437'));
});

test('a run that cannot be shown leaves no folders', async ({ folder, run }) => {
  const bare = join(folder, 'bare');
  mkdirSync(bare);
  for (const name of ['config.yaml', 'metrics.jsonl']) copyFileSync(join(run, name), join(bare, name));
  try {
    await writeReport([bare], join(folder, 'none/within'));
    assert.unreachable();
  } catch (error) {
    assert.match(String(error), 'has no checkpoint yet');
  }
  assert.not.ok(existsSync(join(folder, 'none')));
});

test('a run that was moved is called by its folder', async ({ folder, run }) => {
  const moved = join(folder, 'moved');
  cpSync(run, moved, { recursive: true });
  assert.match(readFileSync((await writeReport([moved], join(folder, 'm'))).page, 'utf8'), '<h2>moved</h2>');
  rmSync(join(moved, 'metrics.jsonl'));
  mkdirSync(join(moved, 'metrics.jsonl'));
  try {
    await writeReport([moved], join(folder, 'm'));
    assert.unreachable();
  } catch (error) {
    assert.match(String(error), /UserError: cannot read .*metrics\.jsonl: it is a folder/);
  }
});

test('where the page cannot go is found out before anything is drawn', async ({ folder, run }) => {
  const out = join(folder, 'taken');
  mkdirSync(join(out, 'index.html'), { recursive: true });
  await writeReport([run], out).then(
    () => assert.unreachable(),
    (error: Error) => assert.match(error.message, /^cannot write .*index\.html: it is a folder$/),
  );
  assert.equal(readdirSync(out), ['index.html']);
});

test('what is neither a run nor a sweep is told, and what is not there', async ({ folder }) => {
  for (const [path, complaint] of [
    [folder, 'expected a run directory (metrics.jsonl) or the results of a sweep (cells/), found neither'],
    [join(folder, 'nope'), 'no such run or results of a sweep: '],
  ] as const)
    try {
      await writeReport([path], join(folder, 'x'));
      assert.unreachable();
    } catch (error) {
      assert.match(String(error), complaint);
    }
});

test('a run without a log or a test: no empty heading, and what would measure a model of attributes', async ({
  folder,
}) => {
  const page = async (name: string, changes: Record<string, unknown>) => {
    const bare = join(folder, name);
    mkdirSync(bare);
    writeFileSync(join(bare, 'config.yaml'), configToYaml(configFrom(changes)));
    writeFileSync(join(bare, 'metrics.jsonl'), '');
    return readFileSync((await writeReport([bare], join(folder, `${name}-page`))).page, 'utf8');
  };
  const html = await page('attributes', { stage: 'attributes', data: { source: 'photographs', path: 'x' } });
  assert.match(html, 'turl mine eval');
  assert.not.match(html, /nothing to test on|Training|Why confidences/);
});

test.run();
