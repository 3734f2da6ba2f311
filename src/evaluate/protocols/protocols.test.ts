// The figures of every protocol on sets written in its files, against a plain computation in doubles that shares no code with ours: all
// scores in a list, thresholds tried one by one, ranks by sorting.
import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import sharp from 'sharp';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { templateOf } from '../../align/similarity.js';
import { configFrom } from '../../config/index.js';
import { readMat } from '../../data/formats/mat.js';
import { train } from '../../train/trainer.js';
import { randomValues } from '../../testing.js';
import { UserError } from '../../tensor/errors.js';
import { writeEmbeddings } from '../embeddings-file.js';
import { openProtocol } from './index.js';
import type { ImagePlaces } from './protocol.js';
import { embedProtocol, evaluateProtocol } from './run.js';
import { figuresOf, protocolCsv, protocolTable } from './table.js';
import {
  writeIjb,
  writeIjba,
  writeIjbs,
  writeMegaFace,
  writeTinyFace,
  writeYtf,
  type PlainSet,
} from './testing.js';

const test = suite<{ folder: string }>('protocols');
test.before((context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'turl-protocols-'));
});
test.after(({ folder }) => rmSync(folder, { recursive: true }));

const size = 12;

/** Embeddings of the images, some people hard to tell apart; those in `missing` have none. */
async function embed(folder: string, { images }: PlainSet, missing: readonly string[]) {
  const people = [...new Set(images.values())];
  const names = [...images.keys()].filter((name) => !missing.includes(name)).reverse();
  const embedding = new Float32Array(names.length * size);
  names.forEach((name, row) => {
    const own = randomValues(size, 1000 + people.indexOf(images.get(name) ?? ''));
    const noise = randomValues(size, 5000 + row);
    const values = own.map((value, i) => value + 1.1 * (noise[i] ?? 0));
    const norm = Math.hypot(...values);
    embedding.set(
      values.map((value) => value / norm),
      row * size,
    );
  });
  const file = join(folder, 'embeddings.safetensors');
  await writeEmbeddings(file, {
    features: { embedding, confidence: undefined, size, groups: 1 },
    names,
    identities: names.map(() => ''),
    about: { flip: 'false' },
  });
  const vectors = new Map(
    names.map((name, row) => [name, [...embedding.slice(row * size, (row + 1) * size)]]),
  );
  return { file, vectors };
}

// ---- the plain computation ----
type Vectors = Map<string, number[]>;
const meanOf = (list: number[][]) =>
  (list[0] ?? []).map((_, i) => list.reduce((sum, v) => sum + (v[i] ?? 0), 0) / list.length);
const average = (list: number[]) => list.reduce((a, b) => a + b, 0) / list.length;

function plainTemplates(set: PlainSet, vectors: Vectors): Vectors {
  const found: Vectors = new Map();
  for (const [id, { media }] of set.templates) {
    const known = media
      .map((images) => images.flatMap((name) => (vectors.has(name) ? [vectors.get(name) ?? []] : [])))
      .filter((images) => images.length > 0);
    if (known.length > 0) found.set(id, meanOf(known.map(meanOf)));
  }
  return found;
}
function plainScore(templates: Vectors, a: string, b: string): number {
  const [x, y] = [templates.get(a), templates.get(b)];
  if (!x || !y) return -Infinity;
  const dot = (u: number[], v: number[]) => u.reduce((sum, value, i) => sum + value * (v[i] ?? 0), 0);
  return dot(x, y) / Math.sqrt(dot(x, x) * dot(y, y));
}
function plainTar(genuine: number[], impostor: number[], far: number): number {
  const share = (scores: number[], t: number) => scores.filter((score) => score >= t).length / scores.length;
  const thresholds = [Infinity, ...genuine, ...impostor].filter((t) => t > -Infinity);
  return Math.max(...thresholds.filter((t) => share(impostor, t) <= far).map((t) => share(genuine, t)));
}
function plainSearch(
  set: PlainSet,
  templates: Vectors,
  { gallery, probes }: { gallery: string[]; probes: string[] },
) {
  const lists = probes.map((probe) => {
    const person = set.templates.get(probe)?.person;
    const entries = gallery
      .filter((entry) => entry !== probe)
      .map((entry) => ({
        hit: set.templates.get(entry)?.person === person,
        score: plainScore(templates, probe, entry),
      }))
      .sort((a, b) => b.score - a.score || Number(a.hit) - Number(b.hit));
    return { mated: entries.some(({ hit }) => hit), entries };
  });
  const mated = lists.filter((list) => list.mated);
  const others = lists.filter((list) => !list.mated).map(({ entries }) => entries[0]?.score ?? -Infinity);
  const placed = (list: (typeof lists)[number]) =>
    list.entries.flatMap(({ hit, score }, i) => (hit && score > -Infinity ? [i + 1] : []));
  return {
    rank: (rank: number) => average(mated.map((list) => Number((placed(list)[0] ?? Infinity) <= rank))),
    meanAveragePrecision: average(
      mated.map((list) => {
        const mates = list.entries.filter(({ hit }) => hit).length;
        return placed(list).reduce((sum, place, i) => sum + (i + 1) / place, 0) / mates;
      }),
    ),
    tpir: (fpir: number) => {
      const hits = mated.map(({ entries: [first] }) => (first?.hit ? first.score : -Infinity));
      const thresholds = [Infinity, ...hits, ...others].filter((t) => t > -Infinity);
      const share = (scores: number[], t: number) =>
        scores.filter((score) => score >= t).length / scores.length;
      return Math.max(...thresholds.filter((t) => share(others, t) <= fpir).map((t) => share(hits, t)));
    },
  };
}

function compare(found: { name: string; value: number }[], expected: Record<string, number>): void {
  assert.equal(
    found.map(({ name }) => name),
    Object.keys(expected),
  );
  for (const { name, value } of found) {
    const wanted = expected[name] ?? NaN;
    assert.ok(Math.abs(value - wanted) <= 1e-9, `${name}: ${value}, expected ${wanted}`);
  }
  // A figure that is 0 or 1 everywhere would show little.
  assert.ok(found.some(({ value }) => value > 0.05 && value < 0.95));
}

const plainPairs = (set: PlainSet, templates: Vectors, part: number) => {
  const scored = (set.pairs[part] ?? []).map((pair) => ({
    ...pair,
    score: plainScore(templates, pair.a, pair.b),
  }));
  const of = (genuine: boolean) => scored.filter((one) => one.genuine === genuine).map(({ score }) => score);
  return { scored, genuine: of(true), impostor: of(false) };
};

const searchFigures = (
  set: PlainSet,
  templates: Vectors,
  task: number,
  ranks: number[],
  fpir: number[],
  precision = false,
): Record<string, number> => {
  const parts = (set.searches[task] ?? []).map((part) => plainSearch(set, templates, part));
  return Object.fromEntries([
    ...ranks.map((rank) => [`rank ${rank}`, average(parts.map((part) => part.rank(rank)))] as const),
    ...(precision ? [['mAP', average(parts.map((part) => part.meanAveragePrecision))] as const] : []),
    ...fpir.map((limit) => [`TPIR @ FPIR ${limit}`, average(parts.map((part) => part.tpir(limit)))] as const),
  ]);
};

/** Measures with two images missing and one template without any, which the protocol's result names. */
async function measured(folder: string, protocol: string, set: PlainSet, lost: string | undefined) {
  const dir = join(folder, protocol);
  const missing = [...(lost === undefined ? [] : (set.templates.get(lost)?.media.flat() ?? []))];
  missing.push([...set.images.keys()].at(-1) ?? '');
  const { file, vectors } = await embed(dir, set, missing);
  const request = { protocol, dir, embeddings: file, overrides: [], resamples: 20 };
  const evaluation = await evaluateProtocol(request);
  const named = evaluation.failed.images.map((image) => image.file);
  // Frames of videos and TinyFace's distractors are those there are.
  const listed = missing.filter((name) => protocol !== 'ytf' && !name.startsWith('Gallery_Distractor'));
  assert.equal(named.sort(), listed.sort());
  const [version] = evaluation.versions;
  const tasks = version?.tasks ?? [];
  for (const task of tasks)
    for (const { interval, value, name } of figuresOf(task))
      // A rate that one or two impostor pairs decide is an extreme value, which resamples seldom reach: its interval leans to one side.
      if (interval && !name.startsWith('TAR'))
        assert.ok(interval.low <= value && value <= interval.high, `${name} is outside of its interval`);
  return { evaluation, tasks, templates: plainTemplates(set, vectors) };
}

/** What is found in a folder of images is what their names tell. */
function findsInFolder(folder: string, protocol: string, set: PlainSet): void {
  const [dir, images] = [join(folder, protocol), join(folder, `${protocol} images`)];
  const names = [...set.images.keys(), 'Gallery_Distractor/more/1.jpg'];
  for (const name of [...names, 'Gallery_Distractor/notes.txt', `${dirname(names[0] ?? '')}/notes.txt`]) {
    mkdirSync(dirname(join(images, name)), { recursive: true });
    writeFileSync(join(images, name), '');
  }
  const files = (places: ImagePlaces) => [...openProtocol(protocol, dir, places).files].sort();
  assert.equal(files({ images }), files({ names }));
}

const far = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1];
for (const name of ['ijbb', 'ijbc'] as const)
  test(`${name}: pairs of templates and both galleries`, async ({ folder }) => {
    const set = writeIjb(join(folder, name), name, 40);
    const { evaluation, tasks, templates } = await measured(folder, name, set, '21');
    assert.equal(evaluation.failed.templates, ['21']);
    const { genuine, impostor } = plainPairs(set, templates, 0);
    const [pairs, searches] = tasks.map(figuresOf);
    compare(
      pairs ?? [],
      Object.fromEntries(
        far.map((limit) => [
          `TAR @ FAR ${limit < 1e-3 ? limit.toExponential() : limit}`,
          plainTar(genuine, impostor, limit),
        ]),
      ),
    );
    compare(searches ?? [], searchFigures(set, templates, 0, [1, 5, 10], [0.01, 0.1]));
    assert.match(protocolTable(evaluation), /failures to enrol: \d+ images, 1 template\n/);
    assert.is((await protocolCsv(evaluation)).trim().split('\n').length, 1 + 6 + 5);
  });

test('ijba: means over splits, one file with two faces', async ({ folder }) => {
  const set = writeIjba(join(folder, 'ijba'), 24);
  const { tasks, templates } = await measured(folder, 'ijba', set, 'split 2 1:N 12');
  const [pairs, searches] = tasks.map(figuresOf);
  const splits = [0, 1].map((part) => plainPairs(set, templates, part));
  compare(
    pairs ?? [],
    Object.fromEntries(
      [1e-3, 1e-2, 1e-1].map((limit) => [
        `TAR @ FAR ${limit}`,
        average(splits.map(({ genuine, impostor }) => plainTar(genuine, impostor, limit))),
      ]),
    ),
  );
  compare(searches ?? [], searchFigures(set, templates, 0, [1, 5, 10], [0.01, 0.1]));
  assert.ok(openProtocol('ijba', join(folder, 'ijba')).files.includes('img/both_s1.png'));
});

test('ijbs: single, booking, and surveillance where no template is compared with itself', async ({
  folder,
}) => {
  const set = writeIjbs(join(folder, 'ijbs'), 30);
  const { tasks, templates } = await measured(folder, 'ijbs', set, 'surveillance 21');
  assert.equal(
    tasks.map(({ name }) => name),
    ['surveillance to single', 'surveillance to booking', 'surveillance to surveillance'],
  );
  tasks.forEach((task, k) =>
    compare(figuresOf(task), searchFigures(set, templates, k, [1, 5, 10], [0.01, 0.1])),
  );
});

test('tinyface: ranks and mean average precision among distractors', async ({ folder }) => {
  const set = writeTinyFace(join(folder, 'tinyface'), 40);
  const { tasks, templates } = await measured(folder, 'tinyface', set, 'Gallery_Match/3_0.jpg');
  const [task] = tasks;
  if (!task) throw new Error('no task');
  compare(figuresOf(task), searchFigures(set, templates, 0, [1, 5, 10, 20], [], true));
  findsInFolder(folder, 'tinyface', set);
  const list = join(folder, 'tinyface/Testing_Set/probe_img_ID_pairs.mat');
  assert.equal(readMat(list).get('n'), [1]); // in a short element, behind a short name
});

test('megaface: one mate at a time among more and more distractors', async ({ folder }) => {
  const set = writeMegaFace(join(folder, 'megaface'), 20);
  const { tasks, templates } = await measured(folder, 'megaface', set, 'facescrub/person 2/0.png');
  const [task] = tasks;
  if (!task) throw new Error('no task');
  const probes = set.searches[0]?.[0]?.probes ?? [];
  const ordered = probes.flatMap((a) =>
    probes.filter((b) => a !== b && set.images.get(a) === set.images.get(b)).map((b) => [a, b] as const),
  );
  const expected = Object.fromEntries(
    set.lists.map((list) => [
      `rank 1 of ${list.length}`,
      average(
        ordered.map(([a, b]) => {
          const mate = plainScore(templates, a, b);
          return Number(mate > -Infinity && list.every((other) => plainScore(templates, a, other) < mate));
        }),
      ),
    ]),
  );
  const genuine = ordered.filter(([a, b]) => a < b).map(([a, b]) => plainScore(templates, a, b));
  const impostor = probes.flatMap((a) => (set.lists[2] ?? []).map((b) => plainScore(templates, a, b)));
  // With fewer than a million pairs FAR 1e-6 allows none: the genuine ones above the highest impostor.
  const highest = impostor.reduce((a, b) => Math.max(a, b));
  expected['TAR @ FAR 1e-6'] = genuine.filter((score) => score > highest).length / genuine.length;
  compare(figuresOf(task), expected);
});

test('ytf: pairs of videos in their splits', async ({ folder }) => {
  const set = writeYtf(join(folder, 'ytf'), 30);
  const { tasks, templates } = await measured(folder, 'ytf', set, 'Some_Body3/0');
  const [task] = tasks;
  if (task?.kind !== 'folds') throw new Error('no task');
  const { genuine, impostor, scored } = plainPairs(set, templates, 0);
  const figures = figuresOf(task);
  for (const limit of [1e-3, 1e-2])
    assert.ok(
      Math.abs(
        (figures.find(({ name }) => name === `TAR @ FAR ${limit}`)?.value ?? NaN) -
          plainTar(genuine, impostor, limit),
      ) <= 1e-9,
    );
  const folds = Array.from({ length: 10 }, (_, left) => {
    const others = scored.filter(({ fold }) => fold !== left);
    const known = [...new Set(others.map(({ score }) => score))]
      .filter((t) => t > -Infinity)
      .sort((a, b) => b - a);
    const right = (list: typeof scored, t: number) =>
      list.filter(({ score, genuine: same }) => score >= t === same).length / list.length;
    let [best, at] = [right(others, Infinity), Infinity];
    known.forEach((score, i) => {
      const share = right(others, score);
      if (share > best) [best, at] = [share, (score + (known[i + 1] ?? score)) / 2];
    });
    return right(
      scored.filter(({ fold }) => fold === left),
      at,
    );
  });
  assert.ok(Math.abs((figures[0]?.value ?? NaN) - average(folds)) <= 1e-9);
  assert.ok(average(folds) > 0.6 && average(folds) < 1);
  findsInFolder(folder, 'ytf', set);
});

test('what is malformed is told by file and line', ({ folder }) => {
  const complains = (protocol: string, dir: string, file: string, text: string, expected: RegExp) => {
    const path = join(dir, file);
    const before = readFileSync(path);
    appendFileSync(path, text);
    assert.throws(
      () => openProtocol(protocol, dir, { names: [] }),
      (error: Error) => error instanceof UserError && expected.test(error.message),
      `${file} ${text}`,
    );
    writeFileSync(path, before);
  };
  const dir = (name: string) => {
    const path = join(folder, `bad-${name}`);
    mkdirSync(path);
    return path;
  };
  const ijb = dir('ijb');
  writeIjb(ijb, 'ijbc', 6);
  const at = (file: string, rest: string) => new RegExp(`${file}:\\d+: expected ${rest}`);
  complains(
    'ijbc',
    ijb,
    'meta/ijbc_face_tid_mid.txt',
    '9.jpg 1\n',
    at('mid.txt', 'IMAGE TEMPLATE MEDIUM.*found "9.jpg 1"'),
  );
  complains(
    'ijbc',
    ijb,
    'meta/ijbc_template_pair_label.txt',
    '11 12 2\n',
    at('label.txt', 'TEMPLATE TEMPLATE 1 or 0, found "11 12 2"'),
  );
  complains(
    'ijbc',
    ijb,
    'meta/ijbc_template_pair_label.txt',
    '11 99 1',
    at('label.txt', 'two templates that have images'),
  );
  complains(
    'ijbc',
    ijb,
    'meta/ijbc_1N_probe_mixed.csv',
    '12,x,a.jpg,1,1,2,3,4\n',
    at('mixed.csv', '8 cells'),
  );
  complains(
    'ijbc',
    ijb,
    'meta/ijbc_1N_probe_mixed.csv',
    '12,777,a.jpg,1,1,2,3,4\n',
    at('mixed.csv', 'template 12 to be of subject 500'),
  );
  complains(
    'ijbc',
    ijb,
    'meta/ijbc_1N_gallery_G2.csv',
    '98,777,a.jpg,1,1,2,3,4\n',
    at('G2.csv', 'a template that has images'),
  );
  const [ijba, ytf, tiny, mega] = [dir('ijba'), dir('ytf'), dir('tinyface'), dir('megaface')];
  writeIjba(ijba, 6);
  complains(
    'ijba',
    ijba,
    'IJB-A_11_sets/split2/verify_comparisons_2.csv',
    '11\n',
    at('comparisons_2.csv', 'TEMPLATE,TEMPLATE, found "11"'),
  );
  writeYtf(ytf, 6);
  complains(
    'ytf',
    ytf,
    'splits.txt',
    '1, 2, A/0, B, 1\n',
    at('splits.txt', 'split, number, NAME/VIDEO, NAME/VIDEO, 1 or 0'),
  );
  writeTinyFace(tiny, 6);
  complains(
    'tinyface',
    tiny,
    'Testing_Set/probe_img_ID_pairs.mat',
    'more bytes',
    /pairs.mat: expected a MATLAB 5 file, found/,
  );
  writeMegaFace(mega, 6);
  const list = 'devkit/templatelists/facescrub_features_list.json';
  complains('megaface', mega, list, '}', /features_list.json: expected JSON with a list "path", found/);
  const changed = (
    protocol: string,
    dir: string,
    file: string,
    line: RegExp,
    to: string,
    expected: RegExp,
  ) => {
    const path = join(dir, file);
    const before = readFileSync(path, 'utf8');
    writeFileSync(path, before.replaceAll(line, to));
    assert.throws(() => openProtocol(protocol, dir, { names: [] }), expected);
    writeFileSync(path, before);
  };
  const labels = 'meta/ijbc_template_pair_label.txt';
  changed(
    'ijbc',
    ijb,
    labels,
    /^\d+ \d+ 0\n/gm,
    '',
    /1:1, all: expected genuine and impostor pairs, found [1-9]\d* and 0$/,
  );
  changed(
    'ijbc',
    ijb,
    labels,
    /^\d+ \d+ 1\n/gm,
    '',
    /1:1, all: expected genuine and impostor pairs, found 0 and [1-9]\d*$/,
  );
  const probes = 'meta/ijbc_1N_probe_mixed.csv';
  changed(
    'ijbc',
    ijb,
    probes,
    /^(\d+),/gm,
    '$1,9',
    /1:N: expected a probe of somebody in the gallery, found none/,
  );
  changed(
    'ytf',
    ytf,
    'splits.txt',
    /^2,.*\n/gm,
    '',
    /expected pairs in each of \d+ splits, found none in split 2/,
  );
  for (const [line, found] of [
    [/^\d.*, 0\n/gm, '100 and 0'],
    [/^\d.*, 1\n/gm, '0 and 100'],
  ] as const)
    changed(
      'ytf',
      ytf,
      'splits.txt',
      line,
      '',
      new RegExp(`pairs of videos: expected genuine and impostor pairs, found ${found}$`),
    );
  assert.throws(
    () => openProtocol('ijbs', ytf),
    /expected the file .*ijbs_single_probe.csv or .*, found none/,
  );
  for (const name of ['lfw', 'constructor'])
    assert.throws(
      () => openProtocol(name, ytf),
      (error: Error) =>
        error instanceof UserError &&
        error.message.endsWith(`expected ijba, ijbb, ijbc, ijbs, tinyface, megaface, ytf, got ${name}`),
    );
});

/** A picture of noise that stands for an image of the person: nothing is recognised in it, the way from file to figure is what counts. */
const picture = (seed: number, side: number) =>
  sharp(
    Uint8Array.from(randomValues(side * side * 3, seed), (value) => 127 * (value + 1)),
    { raw: { width: side, height: side, channels: 3 } },
  )
    .png()
    .toBuffer();

test('from images: the same as from their embeddings in a file; broken images are failures; points align', async ({
  folder,
}) => {
  const [run, dir] = [join(folder, 'run'), join(folder, 'images')];
  await train(
    configFrom({
      work_dir: run,
      model: {
        name: 'iresnet-small',
        input_size: 32,
        embedding_size: 16,
        channels: [4, 4, 8, 8],
        blocks: [1, 1, 1, 1],
      },
      data: { source: 'synthetic', identities: 4, images_per_identity: 4, image_size: 34, workers: 0 },
      loss: { groups: 4, margin: 2, confidence: { initial: 4 } },
      train: { batch_size: 8, steps: 2 },
      evaluate: { bootstrap: 10, degrade: [] },
    }),
  );
  const set = writeIjb(dir, 'ijbc', 8);
  mkdirSync(join(dir, 'loose_crop'));
  const names = [...set.images.keys()];
  const template = templateOf(34);
  // Each photograph holds its crop twice as large, 5 pixels from the left and 8 from the top.
  const points = names.map(
    (name) => `${name} ${template.map(([x, y]) => `${2 * x + 5} ${2 * y + 8}`).join(' ')} 0.9\n`,
  );
  for (const [i, name] of names.entries())
    writeFileSync(join(dir, 'loose_crop', name), i === 0 ? 'no image' : await picture(i, 90));
  writeFileSync(join(dir, 'meta', 'ijbc_name_5pts_score.txt'), points.slice(0, -1).join(''));
  const request = { protocol: 'ijbc', dir, run, overrides: [] };
  const found = await evaluateProtocol({ ...request, score: 'uncertainty', fusion: 'precision' });
  assert.equal(
    found.failed.images.map(({ file }) => file),
    [names[0], names.at(-1)],
  );
  assert.is(found.failed.images[1]?.reason, 'no points in the landmark file');
  assert.match(found.protocol.alignment, /five points in ijbc_name_5pts_score.txt/);
  assert.match(found.protocol.score, /Eq. 16/);
  const file = join(folder, 'ijbc.safetensors');
  await writeEmbeddings(file, await embedProtocol(run, { protocol: 'ijbc', dir, images: undefined }, []));
  const again = await evaluateProtocol({
    ...request,
    embeddings: file,
    score: 'uncertainty',
    fusion: 'precision',
  });
  assert.equal(again.versions, found.versions);
  // Keys given for embeddings in a file are followed without a run too.
  const overrides = ['score=uncertainty', 'fusion=precision', 'bootstrap=10'].map((key) => `evaluate.${key}`);
  const alone = await evaluateProtocol({ ...request, run: undefined, embeddings: file, overrides });
  assert.equal(alone.versions, found.versions);
  assert.is(again.protocol.alignment, found.protocol.alignment);

  // Crops made before, in a folder of their own, are taken as they are.
  const images = join(folder, 'crops');
  mkdirSync(images);
  for (const name of names) writeFileSync(join(images, name), await picture(1, 34));
  const crops = await evaluateProtocol({
    ...request,
    images,
    overrides: ['evaluate.degrade=[{blur: 3}]'],
    degraded: true,
  });
  assert.is(crops.protocol.alignment, 'as the images are');
  assert.equal(
    crops.versions.map(({ version }) => version),
    ['clean', 'blur=3'],
  );
  // All images are alike, and equal scores count against the system: nobody is found or accepted.
  const [task] = crops.versions[0]?.tasks ?? [];
  assert.ok(task && figuresOf(task).every(({ value }) => value === 0));
  await evaluateProtocol({ ...request, dir: folder }).then(
    () => assert.unreachable(),
    (error: unknown) => assert.match(String(error), /expected the file .*ijbc_face_tid_mid.txt, found none/),
  );
});

test.run();
