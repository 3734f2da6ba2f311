import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../tensor/errors.js';
import { configFrom, configSchemaJson, configToYaml, loadConfig } from './index.js';

const experiments = join(import.meta.dirname, '../../experiments');

const test = suite<{ folder: string }>('config');
test.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'turl-config-'));
});
test.after.each((context) => rmSync(context.folder, { recursive: true }));

function write(folder: string, name: string, text: string): string {
  const file = join(folder, name);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
  return file;
}

function messageOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof UserError) return error.message;
    throw error;
  }
  throw new Error('no error was raised');
}

/** The message for a file with this text, its folder taken out. */
function complaint(folder: string, text: string, overrides: string[] = []): string {
  const file = write(folder, 'a.yaml', text);
  return messageOf(() => loadConfig(file, overrides)).replaceAll(`${folder}/`, '');
}

test('an empty mapping is the full method of the paper', ({ folder }) => {
  const config = loadConfig(write(folder, 'empty.yaml', '{}'));
  assert.is(config.name, 'empty');
  assert.is(config.loss.margin, 30);
  assert.is(config.loss.groups, 16);
  assert.is(config.model.embedding_size, 512);
  assert.equal([config.loss.lambda_reg, config.loss.lambda_cls, config.loss.lambda_adv], [0.001, 2, 2]);
  assert.equal(config.augment.blur, {
    probability: 0.3,
    sizes: [3, 5, 7, 9, 11],
    method: 'gaussian',
    factors: [2, 3, 4, 5, 6],
  });
  assert.equal(config.augment.pose, { probability: 0.3, yaw: [40, 60] });
});

test('all experiments load, and survive being written and read again', ({ folder }) => {
  const files = readdirSync(experiments, { recursive: true, encoding: 'utf8' }).filter(
    (f) => f.endsWith('.yaml') && !f.startsWith('ablation'), // those are sweeps
  );
  assert.ok(files.length >= 8);
  for (const file of files) {
    const config = loadConfig(join(experiments, file));
    assert.ok(config.purpose.length > 10, `${file} says what it is for`);
    assert.equal(loadConfig(write(folder, 'again.yaml', configToYaml(config))), config);
  }
});

test('each arm of the paper adds one thing to the one before', () => {
  const leaves = (value: unknown, at = ''): [string, unknown][] =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.entries(value).flatMap(([key, inner]) => leaves(inner, `${at}.${key}`))
      : [[at, JSON.stringify(value)]];
  const changes = (from: string, to: string) => {
    const [a, b] = [from, to].map(
      (arm) => new Map(leaves(loadConfig(join(experiments, 'paper', `${arm}.yaml`)))),
    );
    return [...(b ?? [])]
      .filter(([key, value]) => a?.get(key) !== value && !/^.(name|purpose)$/.test(key))
      .map(([key]) => key);
  };
  const probabilities = ['blur', 'occlusion', 'pose'].map((kind) => `.augment.${kind}.probability`);
  assert.equal(changes('baseline', 'va'), [...probabilities, '.train.epochs']);
  assert.equal(changes('va', 'ci'), ['.loss.type', '.loss.lambda_reg']);
  assert.equal(changes('ci', 'me'), ['.loss.groups']);
  assert.equal(changes('me', 'de'), ['.loss.lambda_cls', '.loss.lambda_adv']);
});

test('the last arm is the full method: only its own settings differ from the defaults', () => {
  const de = loadConfig(join(experiments, 'paper/de.yaml'));
  const { loss, augment, model, optimizer } = configFrom({});
  assert.equal(
    { loss: de.loss, augment: de.augment, model: de.model, optimizer: de.optimizer },
    { loss, augment, model, optimizer },
  );
});

test('experiments/schema.json is up to date (node scripts/write-config-schema.mjs writes it)', () => {
  assert.is(readFileSync(join(experiments, 'schema.json'), 'utf8'), configSchemaJson());
});

test('unknown keys: line, nearest name in the section, the same name elsewhere, or all names', ({
  folder,
}) => {
  assert.is(
    complaint(folder, 'purpose: x\nloss:\n  margn: 3\n'),
    'a.yaml:3: loss.margn: unknown key, did you mean "margin"?',
  );
  assert.is(
    complaint(folder, 'lr: 0.1\n'),
    'a.yaml:1: lr: unknown key, did you mean "discriminator.optimizer.lr"?',
  );
  assert.is(
    complaint(folder, 'augment:\n  blur:\n    strength: 3\n'),
    'a.yaml:3: augment.blur.strength: unknown key, expected one of probability, sizes, method, factors',
  );
  assert.is(
    complaint(folder, 'evaluate:\n  degrade:\n    - blur: 3\n    - blurr: 5\n'),
    'a.yaml:4: evaluate.degrade.1.blurr: unknown key, did you mean "blur"?',
  );
  assert.match(complaint(folder, '__proto__: 3\n'), 'a.yaml:1: __proto__: unknown key');
});

test('wrong values: line, key, what was expected and what was found', ({ folder }) => {
  for (const [text, expected] of [
    ['loss:\n  margin: much', '2: loss.margin: expected a number, got "much"'],
    ['seed: 1.5', '1: seed: expected a whole number, got 1.5'],
    ['seed: -1', '1: seed: expected at least 0, got -1'],
    ['optimizer:\n  lr: 0', '2: optimizer.lr: expected more than 0, got 0'],
    ['loss:\n  lambda_reg: .nan', '2: loss.lambda_reg: expected a number, got NaN'],
    ['model:', '1: model: expected a mapping (key: value), got nothing'],
    [
      'device: cdua',
      '1: device: expected one of "cpu", "cuda", "emulated" (did you mean "cuda"?), got "cdua"',
    ],
    ['model:\n  blocks: [1, 2]', '2: model.blocks: expected 4 items, got [1,2]'],
    [
      'augment:\n  blur:\n    sizes:\n      - 3\n      - 4',
      '5: augment.blur.sizes.1: expected an odd kernel size between 3 and 11, got 4',
    ],
    ['loss:\n  groups: 7', '2: loss.groups: expected a divisor of model.embedding_size (512), got 7'],
    [
      'data:\n  source: synthetic',
      '2: data.identities: expected how many identities to generate, got nothing',
    ],
    [
      'data:\n  source: synthetic\n  identities: 4\n  path: faces',
      '4: data.path: expected data.source photographs with it (--data sets both), got faces beside generated faces',
    ],
    [
      'schedule:\n  milestones: [0.5, 0.5]',
      '2: schedule.milestones: expected ascending fractions, got [0.5, 0.5]',
    ],
    ['augment:\n  blur:\n    probability: 2', '3: augment.blur.probability: expected at most 1, got 2'],
    [
      'augment:\n  pose:\n    yaw: [60, 40]',
      '3: augment.pose.yaw: expected the smaller value first, got [60, 40]',
    ],
    [
      'data:\n  sampling: { identities: 3, images: 2 }',
      '2: data.sampling: expected identities times images to be train.batch_size (256), got 3 x 2',
    ],
    [
      'evaluate:\n  score: uncertainty\nloss:\n  type: cosface',
      '2: evaluate.score: expected another score, since loss.type cosface has no confidences, got uncertainty',
    ],
    ['evaluate:\n  far: [0.1, 0.01, 1e-1]', '2: evaluate.far: expected each once, got 0.1 twice'],
    [
      'evaluate:\n  degrade: [{ blur: 9 }, { yaw: 20 }, { blur: 9 }]',
      '2: evaluate.degrade: expected each once, got {"blur":9} twice',
    ],
    ['data:\n  workers: 2000', '2: data.workers: expected at most 1024, got 2000'],
    [
      'stage: uncertainty\nfrom: x\ndata:\n  sampling: { identities: 256, images: 1 }',
      '4: data.sampling.images: expected at least 2 images of an identity in a batch, for genuine pairs, got 1',
    ],
    [
      'data:\n  image_size: 100\nmodel:\n  input_size: 112',
      '4: model.input_size: expected at most data.image_size (100), got 112',
    ],
    [
      'evaluate:\n  pairs: a.txt',
      '2: evaluate.images: expected the image folder that evaluate.pairs names, got nothing',
    ],
    [
      'evaluate:\n  degrade: [{}]',
      '2: evaluate.degrade.0: expected one or more of blur, occlusion and yaw, got {}',
    ],
    ['name: a/b', '1: name: expected letters, digits, dots, dashes and underscores, got "a/b"'],
  ] as const)
    assert.is(complaint(folder, text), `a.yaml:${expected}`);
});

test('every mistake is reported, one a line', ({ folder }) => {
  assert.is(complaint(folder, 'seed: x\nloss:\n  margn: 3\n').split('\n').length, 2);
});

test('malformed YAML: file and line', ({ folder }) => {
  assert.match(
    complaint(folder, 'seed: 1\nloss:\n  groups: [1,\n  margin: 3\n'),
    /^a\.yaml:\d: malformed YAML: /,
  );
  assert.match(complaint(folder, 'seed: 1\nseed: 2\n'), 'a.yaml:2: malformed YAML: Map keys must be unique');
  assert.is(
    complaint(folder, 'seed: 1\n---\nseed: 2\n'),
    'a.yaml:2: malformed YAML: expected one document, found a second one',
  );
  assert.match(complaint(folder, 'seed: *missing\n'), /^a\.yaml: .*alias/);
  assert.is(
    complaint(folder, 'seed: 1\n? [a, b]\n: 2\n'),
    'a.yaml:2: malformed YAML: expected text as a key',
  );
  for (const round of ['train: &t {x: *t}\n', 'evaluate: {degrade: &a [*a]}\n'])
    assert.is(
      complaint(folder, round),
      'a.yaml: expected no alias (*) inside what it stands for (&), found one',
    );
  assert.is(loadConfig(write(folder, 'a.yaml', 'loss: {margin: &m 4, groups: *m}\n')).loss.groups, 4);
  assert.is(complaint(folder, '- 1\n'), 'a.yaml:1: expected a mapping (key: value), got [1]');
  assert.is(complaint(folder, ''), 'a.yaml:1: expected a mapping (key: value), got nothing');
});

test('extends: merged through folders; a mistake in a base is shown in the base', ({ folder }) => {
  write(folder, 'base/root.yaml', 'purpose: base\nloss:\n  margin: 3\n  scale: 9\ntrain: {steps: 5}\n');
  write(folder, 'base/middle.yaml', 'extends: root.yaml\nloss:\n  margin: 4\n');
  const leaf = write(folder, 'leaf.yaml', 'extends: base/middle.yaml\nloss: {groups: 8}\n');
  const config = loadConfig(leaf);
  assert.equal([config.loss.margin, config.loss.scale, config.loss.groups, config.train.steps], [4, 9, 8, 5]);
  assert.equal([config.name, config.purpose], ['leaf', '']);
  write(folder, 'base/root.yaml', 'loss:\n  scle: 9\n');
  assert.match(
    messageOf(() => loadConfig(leaf)),
    /base\/root\.yaml:2: loss\.scle: unknown key, did you mean "scale"\?$/,
  );
});

test('extends: circles and missing files', ({ folder }) => {
  write(folder, 'b.yaml', 'extends: a.yaml\n');
  assert.is(
    complaint(folder, 'extends: b.yaml\n'),
    'b.yaml:1: extends goes round in a circle: a.yaml -> b.yaml -> a.yaml',
  );
  const missing = complaint(folder, 'seed: 1\nextends: bb.yaml\n');
  assert.match(missing, /^a\.yaml:2: extends: no such file: bb\.yaml, did you mean ".*b\.yaml"\?$/);
  assert.match(complaint(folder, 'extends: 3\n'), 'a.yaml:1: extends: expected a file name, got 3');
  assert.match(
    messageOf(() => loadConfig(folder)),
    'is a folder, expected a YAML file',
  );
  assert.is(
    messageOf(() => loadConfig('.')),
    '. is a folder, expected a YAML file',
  );
});

test('--set: values as in YAML, the same checks, the override named', ({ folder }) => {
  const file = write(folder, 'a.yaml', 'loss: {margin: 3}\n');
  const config = loadConfig(file, [
    'loss.margin=4',
    'schedule.milestones=[0.2, 0.8]',
    'train.clip_norm=null',
    'data.path=/a b=c',
    { source: '--seed 5', path: 'seed', value: 5 },
  ]);
  assert.equal(
    [config.loss.margin, config.train.clip_norm, config.data.path, config.seed],
    [4, null, '/a b=c', 5],
  );
  assert.equal(config.schedule.milestones, [0.2, 0.8]);
  for (const [override, expected] of [
    ['loss.margn=3', '--set loss.margn=3: loss.margn: unknown key, did you mean "margin"?'],
    ['loss.margin=x', '--set loss.margin=x: loss.margin: expected a number, got "x"'],
    ['model.embedding_size=100', /^--set model.embedding_size=100: loss.groups: expected a divisor/],
    ['__proto__.x=1', /^--set __proto__\.x=1: __proto__: unknown key/],
    ['seed', '--set seed: expected key.key=value, for example loss.margin=20'],
    ['a..b=1', '--set a..b=1: expected key.key=value, for example loss.margin=20'],
    ['train=&a {steps: *a}', /^--set train=&a \{steps: \*a\}: expected no alias \(\*\) inside/],
    ['seed=[1', /^--set seed=\[1: the value is not valid YAML/],
  ] as const) {
    const message = messageOf(() => loadConfig(file, [override]));
    if (typeof expected === 'string') assert.is(message, expected);
    else assert.match(message, expected);
  }
});

test('nothing can be changed afterwards', () => {
  const config = configFrom({ loss: { margin: 2 } });
  assert.throws(() => Object.assign(config.loss, { margin: 3 }), /read only/);
  assert.throws(() => Object.assign(config.augment.blur.sizes, [1]), /read only/);
});

test.run();
