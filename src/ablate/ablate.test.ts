import { spawn, spawnSync } from 'node:child_process';
import {
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
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { softLabelCount } from '../config/index.js';
import { UniversalLoss } from '../method/universal-loss.js';
import { activeVariations } from '../method/variations.js';
import { Initialiser } from '../nn/initialise.js';
import { scope } from '../tensor/scope.js';
import { RunDirectory } from '../train/run-directory.js';
import { lockRunDirectory } from '../train/run-lock.js';
import { clear, estimate, pairedDifference, studentCumulative, studentQuantile } from './statistics.js';
import { slurmScript } from './slurm.js';
import { refuseUntested } from './run.js';
import { loadSweep, type Cell } from './sweep.js';
import { buildTable, latex, markdown, missingCells, writeTables } from './tables.js';
import { allResults, experimentsOf, readResult, writeResult, type CellResult } from './results.js';

const test = suite<{ folder: string }>('ablate');
test.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'turl-ablate-'));
  writeFileSync(
    join(context.folder, 'base.yaml'),
    `model: { name: iresnet-small, input_size: 32, embedding_size: 16, channels: [4, 4, 8, 8], blocks: [1, 1, 1, 1] }
data: { source: synthetic, identities: 4, images_per_identity: 4, held_out_identities: 4, image_size: 34, workers: 0 }
loss: { groups: 4, margin: 2, confidence: { initial: 4 } }
train: { batch_size: 4, steps: 6, checkpoint_every: 2, log_every: 2 }
evaluate: { pair_count: 20, folds: 2, degrade: [{ blur: 5 }] }
`,
  );
});
test.after.each(({ folder }) => rmSync(folder, { recursive: true }));

const put = (folder: string, text: string): string => {
  const file = join(folder, 'sweep.yaml');
  writeFileSync(file, text);
  return file;
};

// Quantiles from printed tables of Student's distribution, to the digits that they give.
test('Student: quantiles and their inverse', () => {
  for (const [degrees, t] of [
    [1, 12.7062047364],
    [2, 4.30265272991],
    [4, 2.7764451052],
    [10, 2.22813885196],
    [100, 1.98397151845],
  ] as const)
    assert.ok(Math.abs(studentQuantile(0.975, degrees) - t) < 1e-9 * t, String(degrees));
  assert.is(studentCumulative(0, 7), 0.5);
  assert.ok(Math.abs(studentCumulative(1, 1) - 0.75) < 1e-14); // Cauchy: 1/2 + atan(t)/pi
});

test('mean, deviation, paired difference', () => {
  const { n, mean, std, margin } = estimate([1, 2, 4]);
  assert.equal([n, mean], [3, 7 / 3]);
  assert.ok(Math.abs(std - Math.sqrt(7 / 3)) < 1e-15);
  assert.ok(Math.abs(margin - (4.30265272991 * std) / Math.sqrt(3)) < 1e-9);
  assert.ok(Number.isNaN(estimate([5]).margin));
  const a = new Map([[1, 5], [2, 7], [9, 0]]); // prettier-ignore
  const b = new Map([[2, 4], [1, 4]]); // prettier-ignore
  assert.equal(pairedDifference(a, b)?.n, 2);
  assert.is(pairedDifference(a, b)?.mean, 2);
  assert.is(pairedDifference(a, new Map()), undefined);
  // Equal differences do not show that there is no noise, whether or not rounding tells them apart.
  assert.not.ok(clear(estimate([0.02, 0.02])));
  assert.not.ok(clear(estimate([0.62 - 0.6, 0.72 - 0.7])));
  assert.ok(clear(estimate([0.02, 0.0201])));
});

test('a sweep: arms add up, the grid is everywhere, what is wrong is named', ({ folder }) => {
  const sweep = loadSweep(
    put(
      folder,
      `base: base.yaml
set: { loss.margin: 1 }
arms:
  - { name: A, set: { train.batch_size: 8 } }
  - { name: +B, set: { loss.margin: 3 } }
  - { name: C, from: A, set: { loss.groups: 2 } }
grid: { loss.lambda_cls: [0, 2] }
seeds: [4, 5]
`,
    ),
  );
  assert.is(sweep.cells.length, 12);
  const of = (label: string) => sweep.cells.find(({ variant }) => variant.label === label)?.config;
  assert.equal(
    ['A loss.lambda_cls=0', '+B loss.lambda_cls=2', 'C loss.lambda_cls=2'].map((label) => {
      const { loss, train } = of(label) ?? { loss: undefined, train: undefined };
      return [loss?.margin, loss?.groups, loss?.lambda_cls, train?.batch_size];
    }),
    [
      [1, 4, 0, 8],
      [3, 4, 2, 8],
      [1, 2, 2, 8],
    ],
  );
  assert.equal(
    sweep.variants.map(({ before }) => before),
    [
      null,
      'A loss.lambda_cls=0',
      'A loss.lambda_cls=0',
      'A loss.lambda_cls=2',
      'A loss.lambda_cls=0',
      'A loss.lambda_cls=2',
    ],
  );
  for (const [text, pattern] of [
    ['base: base.yaml\nseed: [1]\n', /sweep\.yaml:2: seed: unknown key, did you mean "seeds"/],
    [
      'base: base.yaml\nset: { loss.margn: 1 }\n',
      /sweep\.yaml:2: loss\.margn: unknown key, did you mean "margin"/,
    ],
    [
      'base: base.yaml\narms:\n  - { name: A, set: { loss.margn: 1 } }\n',
      /sweep\.yaml:3: arm A: loss\.margn: unknown key, did you mean "margin"/,
    ],
    [
      'base: base.yaml\ngrid:\n  loss.margn: [1]\n',
      /sweep\.yaml:3: loss\.margn: unknown key, did you mean "margin"/,
    ],
    [
      'base: base.yaml\narms: [{ name: 日本 }]\n',
      /sweep\.yaml:2: arms\.0\.name: expected a letter from A to Z or a digit/,
    ],
    [
      'base: base.yaml\narms: [{ name: 日本 A }, { name: 中国 A }]\n',
      /expected arms and values that differ in letters .*, found two cells A-seed1/,
    ],
    ['base: base.yaml\narms: [{ name: A }, { name: A }]\n', /arms of different names, found A twice/],
    [
      'base: base.yaml\narms: [{ name: A, from: Z }]\n',
      /arm A: expected from to name an earlier arm, found Z/,
    ],
    [
      'base: base.yaml\narms: [{ name: A, start: B }, { name: B }]\n',
      /arm A: expected start to name an earlier arm, found B/,
    ],
    ['base: no.yaml\n', /no such file: .*no\.yaml/],
    ['base: base.yaml\nseeds: [1, 2, 1]\n', /sweep\.yaml:2: seeds: expected different seeds, found 1 twice/],
    ['base: base.yaml\ngrid: { loss.margin: [2, 2] }\n', /found two cells loss\.margin-2-seed1/],
    ['base: base.yaml\ntests: [{ name: a }, { name: a }]\n', /tests of different names, found a twice/],
    [
      'base: base.yaml\ntests:\n  - { name: a, set: { evaluate.flp: true } }\n',
      /sweep\.yaml:3: test a: evaluate\.flp: unknown key, did you mean "flip"/,
    ],
    [
      'base: base.yaml\ntests:\n  - { name: a, set: { model.embedding_size: 32 } }\n',
      /sweep\.yaml:3: test a: expected keys of evaluate and data, .* found model\.embedding_size/,
    ],
    ['base: base.yaml\ntests: [{ name: held-out }]\n', /expected another name than that .*got "held-out"/],
    ['base: base.yaml\nname: ../../evil\n', /name: expected a plain name, without slashes, got/],
    ['base: base.yaml\nname: ..\n', /name: expected a plain name/],
    [
      'base: base.yaml\nset: { seed: 3 }\n',
      /sweep\.yaml:2: expected the seeds of a sweep in its list seeds, found seed/,
    ],
    ['base: base.yaml\ngrid: { seed: [3, 4] }\n', /expected the seeds of a sweep in its list seeds/],
  ] as const)
    assert.throws(() => loadSweep(put(folder, text)), pattern);
  assert.throws(
    () => loadSweep(put(folder, 'base: base.yaml\n'), ['seed=3']),
    /--set seed=3: expected the seeds of a sweep in its list seeds/,
  );
});

test('the sweeps that come with turl load, say what they are for, and each of their losses can be built', () => {
  const root = join(import.meta.dirname, '../../experiments/ablation');
  const files = readdirSync(root).filter((name) => name.endsWith('.yaml'));
  assert.ok(files.length >= 8);
  for (const file of files) {
    const sweep = loadSweep(join(root, file));
    assert.ok(sweep.purpose.length > 10 && sweep.seeds.length >= 3, file);
    for (const { config } of sweep.cells)
      scope(() => {
        const variations = activeVariations(config.augment).length + softLabelCount(config);
        const sizes = {
          identities: 2,
          embeddingSize: config.model.embedding_size,
          featureSize: 1,
          variations,
        };
        void new UniversalLoss(new Initialiser(config.seed), sizes, config.loss);
      });
  }
  const { cells } = loadSweep(join(root, 'paper.yaml'));
  const arm = (name: string) => cells.find(({ variant }) => variant.arm === name)?.config;
  assert.equal([arm('Baseline')?.loss.type, arm('Baseline')?.train.epochs], ['cosface', 18]);
  assert.equal([arm('+PA')?.stage, arm('+PA')?.from], ['uncertainty', 'DE-seed1']);
  assert.equal(
    [arm('+PA')?.evaluate.score, arm('+PA')?.evaluate.fusion, arm('+DE')?.evaluate.fusion],
    ['uncertainty', 'precision', 'mean'],
  );
  assert.equal([arm('+DE')?.loss.lambda_adv, arm('+DE')?.loss.groups, arm('+DE')?.train.epochs], [2, 16, 27]);
});

test('+ME and +DE of the sweeps for a CPU change of the loss what they say, and nothing else', () => {
  for (const file of ['quick', 'small']) {
    const { cells } = loadSweep(join(import.meta.dirname, `../../experiments/ablation/${file}.yaml`));
    const loss = (name: string) => cells.find(({ variant }) => variant.arm === name)?.config.loss;
    assert.equal({ ...loss('+ME'), groups: 1 }, loss('+CI'), file);
    assert.equal({ ...loss('+DE'), lambda_cls: 0, lambda_adv: 0 }, loss('+ME'), file);
  }
});

test('a result counts while the experiments that it depends on are the same', ({ folder }) => {
  const text = `base: base.yaml
set: { data.source: photographs, data.path: /a/faces, data.sampling: { identities: 2, images: 2 } }
arms: [{ name: A, set: { loss.margin: 3 } }, { name: B, start: A, set: { stage: uncertainty, loss.margin: 1 } }]
seeds: [1]
`;
  const file = put(folder, text);
  const b = (...changes: string[]) => {
    const { cells, tests } = loadSweep(file, changes);
    const cell = cells[1];
    if (!cell) throw new Error('no second cell');
    return { cell, tests };
  };
  const { cell, tests } = b();
  assert.is(cell.config.from, 'A-seed1');
  const kept: CellResult = {
    label: 'B',
    seed: 1,
    experiments: experimentsOf(cell),
    asked: [],
    commit: null,
    machine: '',
    seconds: 1,
    tests: {},
    protocols: {},
  };
  writeResult(folder, cell, kept);
  const counts = (...changes: string[]) => readResult(folder, b(...changes).cell, tests) !== undefined;
  assert.ok(counts());
  assert.ok(counts('data.path=/b/faces', 'data.workers=7', 'device=emulated'));
  assert.not.ok(counts('data.path=/a/others'));
  assert.not.ok(counts('train.steps=7'));
  assert.is(readResult(folder, cell, [{ name: 'more', set: {} }]), undefined);
  // A key that came after the result has its default; one that is no more makes it another experiment.
  const without = kept.experiments.map((one) =>
    Object.fromEntries(Object.entries(one).filter(([key]) => key !== 'precision')),
  );
  writeResult(folder, cell, { ...kept, experiments: without });
  assert.ok(counts());
  assert.not.ok(counts('precision=bfloat16'));
  writeResult(folder, cell, { ...kept, experiments: kept.experiments.map((one) => ({ ...one, gone: 1 })) });
  assert.not.ok(counts());
  // So does a change of the run that it starts from.
  const [own, start] = kept.experiments;
  writeResult(folder, cell, { ...kept, experiments: [own ?? {}, { ...start, seed: 3 }] });
  assert.not.ok(counts());
});

/** What a cell found on clean pairs. */
const resultOf = (
  { variant, seed }: Pick<Cell, 'variant' | 'seed'>,
  clean: Record<string, number>,
): CellResult => ({
  label: variant.label,
  seed,
  experiments: [],
  asked: [],
  commit: null,
  machine: '',
  seconds: 1,
  protocols: {},
  tests: { lfw: { clean } },
});

test('results.csv has the figures that any cell has; a report keeps its order', async ({ folder }) => {
  const text =
    'base: base.yaml\narms: [{ name: "Z, a|b" }, { name: A, set: { loss.groups: 2 } }]\nseeds: [9, 10]\n';
  const sweep = loadSweep(put(folder, text));
  sweep.cells.forEach((cell, i) => {
    const found = resultOf(cell, i % 2 === 0 ? { accuracy: 0.5 } : { accuracy: 0.6, correlation: 0.1 });
    writeResult(folder, cell, { ...found, experiments: experimentsOf(cell) });
  });
  await writeTables(folder, sweep);
  assert.is(
    readFileSync(join(folder, 'results.csv'), 'utf8'),
    'variant,seed,test,version,accuracy,correlation\n' +
      '"Z, a|b",9,lfw,clean,0.5,\nA,9,lfw,clean,0.6,0.1\n"Z, a|b",10,lfw,clean,0.5,\nA,10,lfw,clean,0.6,0.1\n',
  );
  // What the sweep has no more is not shown with the rest.
  const [first] = sweep.cells;
  if (!first) throw new Error('no cell');
  for (const [id, label, seed] of [
    ['gone', 'Gone', 1],
    ['A-seed2', 'A', 2],
  ] as const)
    writeResult(folder, { ...first, id }, { ...resultOf(first, { accuracy: 0.9 }), label, seed });
  const { cells, apart } = allResults(folder);
  assert.equal(
    [cells, apart].map((some) => some.map(({ label, seed }) => `${label} ${seed}`)),
    [
      ['Z, a|b 9', 'A 9', 'Z, a|b 10', 'A 10'],
      ['A 2', 'Gone 1'],
    ],
  );
  mkdirSync(join(folder, 'cells/x.json'));
  assert.throws(() => allResults(folder), /^cannot read .*x\.json: it is a folder$/);
});

test('tables: bold only where it is clear, missing cells are said to be', ({ folder }) => {
  const sweep = loadSweep(
    put(folder, 'base: base.yaml\narms: [{ name: A }, { name: B_1 }, { name: C }]\nseeds: [1, 2, 3]\n'),
  );
  const values: Record<string, number[]> = { A: [0.5, 0.6, 0.7], B_1: [0.61, 0.71, 0.8], C: [0.4, 0.9] };
  const results = new Map(
    sweep.cells.flatMap(({ id, variant, seed }): [string, CellResult][] => {
      const accuracy = values[variant.label]?.[seed - 1];
      return accuracy === undefined ? [] : [[id, resultOf({ variant, seed }, { accuracy })]];
    }),
  );
  const table = buildTable(sweep, results, 'accuracy');
  assert.equal(
    table.rows.map(({ missing }) => missing),
    [[], [], [3]],
  );
  assert.equal(
    table.rows.map(({ cells }) => cells[0]?.best),
    [false, false, false],
  ); // B is clear of A, not of C
  const text = markdown(sweep, [table]);
  assert.match(text, '- missing: C, seed 3');
  assert.match(text, '| A | 60.00 ± 10.00 |');
  assert.match(text, /\| B_1 against A \| \*\*\+10\.67 \[\+9\.23, \+12\.10\]\*\* \|/);
  assert.match(latex([table]), 'B\\_1 & 70.67 $\\pm$');
  assert.match(latex([table]), '% missing: C, seed 3');
  writeFileSync(join(folder, 'table.md'), text);
  assert.equal(missingCells(folder), ['C, seed 3']);
  const odd = loadSweep(put(folder, 'base: base.yaml\narms: [{ name: "a^2~b\\\\c" }]\nseeds: [1]\n'));
  const one = new Map(odd.cells.map((cell) => [cell.id, resultOf(cell, { accuracy: 0.5 })]));
  assert.match(
    latex([buildTable(odd, one, 'accuracy')]),
    'a\\textasciicircum{}2\\textasciitilde{}b\\textbackslash{}c & 50.00',
  );
  const two = loadSweep(
    put(folder, 'base: base.yaml\narms: [{ name: A }, { name: B_1 }]\nseeds: [1, 2, 3]\n'),
  );
  assert.equal(
    buildTable(two, results, 'accuracy').rows.map(({ cells }) => cells[0]?.best),
    [false, true],
  );
});

test('tables: a rate that the impostor pairs are too few for is said to be', ({ folder }) => {
  const sweep = loadSweep(put(folder, 'base: base.yaml\nseeds: [1, 2]\n'));
  const protocols = { lfw: { impostorPairs: 300 } };
  const figures = { 'tar_at_far_0.001': 0.5, 'tar_at_far_0.01': 0.6 };
  const results = new Map(sweep.cells.map((cell) => [cell.id, { ...resultOf(cell, figures), protocols }]));
  const text = (figure: string) => markdown(sweep, [buildTable(sweep, results, figure)]);
  assert.match(
    text('tar_at_far_0.001'),
    '\n\nlfw: FAR 0.001: too few impostor pairs to reach it; no false accept is allowed there.\n\n',
  );
  assert.not.match(text('tar_at_far_0.01'), 'too few');
});

test('tables: a bar in a name, nothing that rounds to less than zero, no columns without results', ({
  folder,
}) => {
  const sweep = loadSweep(
    put(folder, 'base: base.yaml\narms: [{ name: A|x }, { name: B|x }]\nseeds: [1, 2]\n'),
  );
  const results = new Map(
    sweep.cells.map(({ id, variant, seed }, i): [string, CellResult] => [
      id,
      resultOf({ variant, seed }, { accuracy: 0.5, auc: [0.50001, 0.5, 0.500008, 0.5][i] ?? NaN }),
    ]),
  );
  const text = markdown(sweep, [buildTable(sweep, results, 'accuracy'), buildTable(sweep, results, 'auc')]);
  assert.match(text, '| A\\|x | 50.00 ± 0.00 |');
  assert.match(text, '| B\\|x against A\\|x | 0.00 [0.00, 0.00] |');
  assert.not.match(text, /[−+]0\.00/);
  const empty = [buildTable(sweep, new Map(), 'accuracy')];
  assert.match(markdown(sweep, empty), '- missing: B|x, seed 1, 2');
  assert.not.match(markdown(sweep, empty), '| ---');
  assert.is(latex(empty), '');
});

test('the array job of Slurm is a script that runs one cell a task', () => {
  const script = slurmScript({
    name: 'my sweep',
    cells: ['a', "b'c"],
    command: ['s.yaml', '--set', 'x=1 2'],
    folder: '/here',
    logs: '/a "b" 50%',
  });
  assert.match(script, '#SBATCH --array=0-1');
  // sbatch splits the line at blanks, and takes a per cent sign for a variable.
  assert.match(script, '#SBATCH --output="/a \\"b\\" 50%%/slurm-%A_%a.log"\n');
  assert.match(script, '#SBATCH --job-name=my_sweep');
  assert.is(spawnSync('bash', ['-n'], { input: script }).status, 0);
  const shown = script.replace(/^cd .*$/m, '').replace('exec ', "printf '%s|' ");
  const { stdout } = spawnSync('bash', {
    input: shown,
    env: { ...process.env, SLURM_ARRAY_TASK_ID: '1' },
    encoding: 'utf8',
  });
  assert.match(stdout, "turl.js|ablate|s.yaml|--set|x=1 2|--cell|b'c|");
});

const turl = join(import.meta.dirname, '../../bin/turl.js');

test('killed and started again: the same tables; a failed cell is named and stops no other', async ({
  folder,
}) => {
  const sweep = put(
    folder,
    'base: base.yaml\narms: [{ name: A }, { name: B, set: { loss.margin: 0 } }]\nseeds: [1]\n',
  );
  const args = (name: string) => [
    turl,
    'ablate',
    sweep,
    '--out',
    join(folder, name),
    '--runs',
    join(folder, `${name}-runs`),
  ];
  const run = (name: string, ...more: string[]) =>
    spawnSync(process.execPath, [...args(name), ...more], { encoding: 'utf8' });
  const tables = (name: string) =>
    ['table.md', 'table.tex', 'results.csv'].map((file) => readFileSync(join(folder, name, file), 'utf8'));
  const whole = run('whole');
  assert.is(whole.status, 0, whole.stderr);
  const cells = () =>
    existsSync(join(folder, 'killed/cells'))
      ? readdirSync(join(folder, 'killed/cells')).filter(
          (name) => name.endsWith('.json') && !name.startsWith('.'),
        ).length
      : 0;
  await new Promise<void>((resolve) => {
    const child = spawn(process.execPath, args('killed'), { stdio: 'ignore', detached: true });
    const timer = setInterval(() => {
      if (cells() < 1) return;
      clearInterval(timer);
      process.kill(-(child.pid ?? 0), 'SIGKILL'); // its children too
    }, 2);
    child.on('close', () => resolve());
  });
  assert.is(cells(), 1);
  assert.match(run('killed', '--dry-run').stdout, /2 cells, 1 done/);
  assert.is(run('killed').status, 0);
  assert.equal(tables('killed'), tables('whole'));
  const again = run('whole');
  assert.not.match(again.stderr, 'step');
  // What was found for another experiment is kept: nothing runs, nothing is written.
  const [cell, directory] = [join(folder, 'whole/cells/A-seed1.json'), join(folder, 'whole-runs/A-seed1')];
  for (const more of [[], ['--dry-run']]) {
    const changed = run('whole', '--set', 'train.steps=7', ...more);
    assert.is(changed.status, 2);
    assert.match(
      changed.stderr,
      `A-seed1: expected train.steps to be 6, as in ${cell}, found 7, the first of 2 cells that differ: remove ${cell} and ${directory} to run the cell again`,
    );
  }
  assert.equal(tables('whole'), tables('killed'));
  rmSync(cell);
  assert.match(
    run('whole', '--cell', 'A-seed1', '--set', 'loss.margin=7').stderr,
    `as in ${directory}, found 7, the first of 2 cells that differ: remove ${directory} to run`,
  );
  assert.equal(tables('whole'), tables('killed'));
  // What fails at once leaves nothing.
  assert.is(run('none/within', '--data', join(folder, 'nope')).status, 2);
  assert.equal(
    [existsSync(join(folder, 'none')), existsSync(join(folder, 'none/within-runs'))],
    [false, false],
  );
  const failed = run('failed', '--cell', 'A-seed1', 'B-seed1', '--set', 'evaluate.pair_count=5000');
  assert.is(failed.status, 2);
  const asked = /2 of 2 cells failed: A-seed1, B-seed1 \(A-seed1: pairs: expected/;
  assert.ok(asked.test(failed.stderr), failed.stderr);
  assert.match(run('failed', '--cell', 'Z').stderr, /expected one of A-seed1, B-seed1, got Z/);
});

test('an interrupt of the sweep alone stops the cell under way, which keeps a checkpoint', async ({
  folder,
}) => {
  const sweep = put(
    folder,
    'base: base.yaml\nset: { train.steps: 3000, train.checkpoint_every: 3000 }\nseeds: [1]\n',
  );
  const runs = join(folder, 'runs');
  const child = spawn(process.execPath, [
    turl,
    'ablate',
    sweep,
    '--out',
    join(folder, 'out'),
    '--runs',
    runs,
  ]);
  let text = '';
  child.stderr.setEncoding('utf8').on('data', (more: string) => {
    if (!/: step/.test(text) && /: step/.test(text + more)) child.kill('SIGINT');
    text += more;
  });
  const code = await new Promise((resolve) => child.on('close', resolve));
  assert.is(code, 0, text);
  assert.match(text, 'stopped: the same command goes on');
  const [, step] = readdirSync(join(runs, 'base-seed1/checkpoints'));
  assert.match(step ?? '', /^step-(?!003000)/);
});

test('a sweep with nothing to test on is refused before anything is trained', ({ folder }) => {
  const text = 'base: base.yaml\nset: { data.held_out_identities: 0 }\nseeds: [1]\n';
  const pairs = 'tests: [{ name: lfw, set: { evaluate.pairs: lfw.bin } }]\n';
  refuseUntested(loadSweep(put(folder, text + pairs)));
  const file = put(folder, text);
  refuseUntested(loadSweep(file, ['evaluate.pairs=lfw.bin']));
  const { status, stderr } = spawnSync(process.execPath, [turl, 'ablate', file, '--dry-run'], {
    encoding: 'utf8',
  });
  assert.is(status, 2);
  assert.match(stderr, /sweep\.yaml: expected pairs to test on \(.*\), found none for cell base-seed1/);
});

test('a run without a checkpoint goes on, unless a process is in it', ({ folder }) => {
  const sweep = put(folder, 'base: base.yaml\nseeds: [1]\n');
  const runs = join(folder, 'runs');
  const directory = join(runs, 'base-seed1');
  const [cell] = loadSweep(sweep).cells;
  if (!cell) throw new Error('no cell');
  RunDirectory.create({ ...cell.config, name: cell.id, work_dir: directory }).close();
  const kept = readFileSync(join(directory, 'config.yaml'), 'utf8');
  const places = ['--out', join(folder, 'out'), '--runs', runs];
  const run = (...more: string[]) =>
    spawnSync(process.execPath, [turl, 'ablate', sweep, ...places, ...more], { encoding: 'utf8' });
  // Where the tables cannot go is found out before anything is trained.
  const taken = join(folder, 'taken');
  mkdirSync(join(taken, 'table.md'), { recursive: true });
  assert.match(run('--out', taken).stderr, /^turl: cannot write .*table\.md: it is a folder\n$/);
  assert.equal(readdirSync(taken), ['table.md']);
  const release = lockRunDirectory(directory);
  const refused = run();
  release();
  assert.is(refused.status, 2);
  assert.match(
    refused.stderr,
    `base-seed1: ${directory} is in use by process ${process.pid}: wait for it, or choose another folder with --runs`,
  );
  assert.is(readFileSync(join(directory, 'config.yaml'), 'utf8'), kept);
  assert.is(run().status, 0);
  // A run that was killed between its last checkpoint and `latest` goes on from that.
  rmSync(join(folder, 'out'), { recursive: true });
  writeFileSync(join(directory, 'checkpoints/latest'), 'step-000004.safetensors\n');
  assert.match(run('--dry-run').stdout, 'begun, at step 4');
});

test('a cell that starts from the run of another waits for it', ({ folder }) => {
  const sweep = put(
    folder,
    `base: base.yaml
set: { data.sampling: { identities: 2, images: 2 } }
arms: [{ name: A }, { name: B, start: A, set: { stage: uncertainty, evaluate.score: uncertainty, train.steps: 2 } }]
seeds: [1]
`,
  );
  const places = ['--out', join(folder, 'out'), '--runs', join(folder, 'runs')];
  const run = (...more: string[]) =>
    spawnSync(process.execPath, [turl, 'ablate', sweep, ...places, ...more], { encoding: 'utf8' });
  assert.match(
    run('--cell', 'B-seed1').stderr,
    'B-seed1: it starts from the run of A-seed1, which is not done',
  );
  const { status, stderr } = run('--jobs', '2');
  assert.is(status, 0, stderr);
  assert.ok(stderr.indexOf('A-seed1: done') < stderr.indexOf('B-seed1: step'));
  assert.match(readFileSync(join(folder, 'out/table.md'), 'utf8'), '| B against A |');
  // Slurm gets it as a second array, after the first: here an sbatch that prints what it is given.
  const bin = join(folder, 'bin');
  mkdirSync(bin);
  writeFileSync(join(bin, 'sbatch'), '#!/bin/sh\necho "$@" >> "$(dirname "$0")/calls"\necho 77\n', {
    mode: 0o755,
  });
  rmSync(join(folder, 'out'), { recursive: true });
  const submit = () =>
    spawnSync(process.execPath, [turl, 'ablate', sweep, ...places, '--launcher', 'slurm'], {
      encoding: 'utf8',
      env: { ...process.env, PATH: `${bin}:${process.env['PATH'] ?? ''}` },
    });
  const slurm = submit();
  assert.is(slurm.status, 0, slurm.stderr);
  assert.equal(readFileSync(join(bin, 'calls'), 'utf8').trim().split('\n'), [
    `--parsable ${join(folder, 'runs/array.sh')}`,
    `--parsable --dependency=afterany:77 ${join(folder, 'runs/array-2.sh')}`,
  ]);
  // What was submitted before is not to be submitted again.
  for (const [fails, expected] of [
    [
      'echo "sbatch: error: no such partition" >&2; exit 1',
      /^turl: sbatch: error: no such partition; the array job is in .*array\.sh, then .*array-2\.sh: submit it where Slurm takes it\n$/,
    ],
    [
      'if [ $# = 2 ]; then echo 77; else exit 1; fi',
      /^turl: sbatch failed without a word; the array job is in [^ ]*array-2\.sh, with --dependency=afterany:77: submit it/m,
    ],
  ] as const) {
    writeFileSync(join(bin, 'sbatch'), `#!/bin/sh\n${fails}\n`);
    const refused = submit();
    assert.is(refused.status, 2);
    assert.match(refused.stderr, expected);
  }
});

test.run();
