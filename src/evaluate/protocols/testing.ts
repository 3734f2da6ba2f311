/**
 * Sets for the tests, in the very files of each protocol: people with several images each, drawn by a fixed sequence. What was written is
 * also given plainly, so that a test can compute the figures without reading it again.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { deflateSync } from 'node:zlib';
import { randomValues } from '../../testing.js';

export interface PlainTemplate {
  person: string;
  /** Names of images by medium. */
  media: string[][];
}

export interface PlainPair {
  a: string;
  b: string;
  genuine: boolean;
  fold: number;
}

export interface PlainSet {
  templates: Map<string, PlainTemplate>;
  /** By split. */
  pairs: PlainPair[][];
  /** By task, by gallery or split: names of templates. */
  searches: { gallery: string[]; probes: string[] }[][];
  /** Each image's person. */
  images: Map<string, string>;
}

const empty = (): PlainSet => ({ templates: new Map(), pairs: [], searches: [], images: new Map() });

function write(file: string, text: string | Buffer): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
}

/** Whole numbers below n, the same each time. */
function numbers(seed: number): (n: number) => number {
  const values = randomValues(100_000, seed);
  let at = 0;
  return (n) => Math.floor((((values[at++ % values.length] ?? 0) + 1) / 2) * n);
}

/** Templates of one to three media with one to three images. */
function addTemplates(
  set: PlainSet,
  ids: readonly string[],
  person: string,
  next: (n: number) => number,
  file: (image: number) => string,
): void {
  for (const id of ids) {
    const media = Array.from({ length: 1 + next(3) }, () =>
      Array.from({ length: 1 + next(3) }, () => {
        const name = file(set.images.size + 1);
        set.images.set(name, person);
        return name;
      }),
    );
    set.templates.set(id, { person, media });
  }
}

function drawPairs(
  set: PlainSet,
  ids: readonly string[],
  count: number,
  next: (n: number) => number,
): PlainPair[] {
  return Array.from({ length: count }, (_, i) => {
    const a = ids[next(ids.length)] ?? '';
    const person = set.templates.get(a)?.person;
    const same = ids.filter((id) => set.templates.get(id)?.person === person && id !== a);
    const b =
      i % 3 === 0 && same.length > 0 ? (same[next(same.length)] ?? '') : (ids[next(ids.length)] ?? '');
    return { a, b, genuine: person === set.templates.get(b)?.person, fold: i % 10 };
  });
}

/** IJB-B and IJB-C. Person p has three templates; the first is in the gallery of odd or even people, except for every fifth person. */
export function writeIjb(dir: string, name: 'ijbb' | 'ijbc', people: number): PlainSet {
  const set = empty();
  const next = numbers(3);
  const templatesOf = Array.from({ length: people }, (_, p) =>
    [1, 2, 3].map((k) => String(10 * (p + 1) + k)),
  );
  templatesOf.forEach((ids, p) => addTemplates(set, ids, String(500 + p), next, (image) => `${image}.jpg`));
  const file = (rest: string) => join(dir, 'meta', `${name}_${rest}`);
  const media = new Map<string, number>();
  write(
    file('face_tid_mid.txt'),
    [...set.templates]
      .flatMap(([id, template]) =>
        template.media.flatMap((images, m) => {
          const medium = `${id} ${m}`;
          media.set(medium, media.get(medium) ?? 7000 + media.size);
          return images.map((image) => `${image} ${id} ${media.get(medium)}\n`);
        }),
      )
      .join(''),
  );
  set.pairs = [drawPairs(set, templatesOf.flat(), 40 * people, next)];
  write(
    file('template_pair_label.txt'),
    (set.pairs[0] ?? []).map(({ a, b, genuine }) => `${a} ${b} ${Number(genuine)}\n`).join(''),
  );
  const table = (ids: readonly string[]) =>
    'TEMPLATE_ID,SUBJECT_ID,FILENAME,SIGHTING_ID,FACE_X,FACE_Y,FACE_WIDTH,FACE_HEIGHT\n' +
    ids
      .flatMap((id) => {
        const { person = '', media: own = [] } = set.templates.get(id) ?? {};
        return own.flat().map((image, i) => `${id},${person},img/${image},${i},1,2,30,40\n`);
      })
      .join('');
  const galleries = [1, 2].map((n) =>
    templatesOf.flatMap((ids, p) => (p % 5 > 0 && p % 2 === n % 2 ? [ids[0] ?? ''] : [])),
  );
  const probes = templatesOf.flatMap((ids) => ids.slice(1));
  const letter = name === 'ijbb' ? 'S' : 'G';
  galleries.forEach((gallery, n) => write(file(`1N_gallery_${letter}${n + 1}.csv`), table(gallery)));
  write(file('1N_probe_mixed.csv'), table(probes));
  set.searches = [galleries.map((gallery) => ({ gallery, probes }))];
  return set;
}

const tableHead =
  'TEMPLATE_ID,SUBJECT_ID,FILE,MEDIA_ID,SIGHTING_ID,FRAME,FACE_X,FACE_Y,FACE_WIDTH,FACE_HEIGHT\n';

/** Rows of templates whose names in the set are `prefix` and a number. */
function faceTable(set: PlainSet, prefix: string, ids: readonly string[]): string {
  const rows = ids.flatMap((id) => {
    const { person = '', media = [] } = set.templates.get(id) ?? {};
    return media.flatMap((images, m) =>
      images.map((image) => {
        const [, file = image, own] = /^(.*)_s(\d+)\.png$/.exec(image) ?? [];
        return `${id.slice(prefix.length)},${person},${own === undefined ? image : `${file}.png`},${id.length}${m},${own === undefined ? image.replace(/\D/g, '') : `s${own}`},,1,2,3,4\n`;
      }),
    );
  });
  return tableHead + rows.join('');
}

/** IJB-A in two splits. One photograph shows two people: it has two crops. */
export function writeIjba(dir: string, people: number): PlainSet {
  const set = empty();
  const next = numbers(4);
  set.searches = [[]];
  for (const split of [1, 2]) {
    const make = (kind: string) => {
      const prefix = `split ${split} ${kind} `;
      const ids = Array.from({ length: people }, (_, p) =>
        [1, 2, 3].map((k) => `${prefix}${10 * (p + 1) + k}`),
      );
      ids.forEach((own, p) =>
        addTemplates(set, own, String(p + 1), next, (image) =>
          split === 1 && kind === '1:1' && image <= 2 ? `img/both_s${image}.png` : `img/${image}.png`,
        ),
      );
      return { prefix, ids };
    };
    const verify = make('1:1');
    const place = (task: string, name: string) =>
      join(dir, `IJB-A_${task}_sets`, `split${split}`, `${name}_${split}.csv`);
    write(place('11', 'verify_metadata'), faceTable(set, verify.prefix, verify.ids.flat()));
    const pairs = drawPairs(set, verify.ids.flat(), 20 * people, next);
    const bare = (id: string) => id.slice(verify.prefix.length);
    write(place('11', 'verify_comparisons'), pairs.map(({ a, b }) => `${bare(a)},${bare(b)}\n`).join(''));
    set.pairs.push(pairs);
    const searched = make('1:N');
    const gallery = searched.ids.flatMap((ids, p) => (p % 4 > 0 ? [ids[0] ?? ''] : []));
    const probes = searched.ids.flatMap((ids) => ids.slice(1));
    write(place('1N', 'search_gallery'), faceTable(set, searched.prefix, gallery));
    write(place('1N', 'search_probe'), faceTable(set, searched.prefix, probes));
    set.searches[0]?.push({ gallery, probes });
  }
  return set;
}

/** IJB-S. In the surveillance test galleries and probes share templates. */
export function writeIjbs(dir: string, people: number): PlainSet {
  const set = empty();
  const next = numbers(5);
  for (const test of ['single', 'booking', 'surveillance']) {
    const prefix = `${test} `;
    const ids = Array.from({ length: people }, (_, p) =>
      [1, 2, 3].map((k) => `${prefix}${10 * (p + 1) + k}`),
    );
    ids.forEach((own, p) => addTemplates(set, own, String(p + 1), next, (image) => `${test}/${image}.png`));
    const shared = test === 'surveillance';
    const probes = ids.flatMap((own) => own.slice(shared ? 0 : 1));
    const parts = [1, 2].map((n) => ({
      gallery: ids.flatMap((own, p) => (p % 5 > 0 && p % 2 === n % 2 ? own.slice(0, shared ? 2 : 1) : [])),
      probes,
    }));
    parts.forEach(({ gallery }, n) =>
      write(join(dir, `ijbs_${test}_gallery_G${n + 1}.csv`), faceTable(set, prefix, gallery)),
    );
    write(join(dir, `ijbs_${test}_probe.csv`), faceTable(set, prefix, probes));
    set.searches.push(parts);
  }
  return set;
}

/** Each image a template of its own name. */
function addImage(set: PlainSet, name: string, person: string): string {
  set.images.set(name, person);
  set.templates.set(name, { person, media: [[name]] });
  return name;
}

// MATLAB 5: elements of a tag and data, padded to 8 bytes; up to 4 bytes of data lie in the tag.
function element(type: number, data: Buffer): Buffer {
  const tag = Buffer.alloc(8);
  if (data.length > 0 && data.length <= 4) {
    tag.writeUInt32LE((data.length << 16) | type, 0);
    data.copy(tag, 4);
    return tag;
  }
  tag.writeUInt32LE(type, 0);
  tag.writeUInt32LE(data.length, 4);
  return Buffer.concat([tag, data, Buffer.alloc((8 - (data.length % 8)) % 8)]);
}
const int32 = (...values: number[]) => Buffer.from(Int32Array.from(values).buffer);
function matMatrix(name: string, kind: number, rows: number, columns: number, ...content: Buffer[]): Buffer {
  const head = [element(6, int32(kind, 0)), element(5, int32(rows, columns)), element(1, Buffer.from(name))];
  return element(14, Buffer.concat([...head, ...content]));
}

/** A list of images and people as TinyFace has them, with compressed variables and text in UTF-8, or neither. */
export function matList(
  kind: string,
  names: readonly string[],
  ids: readonly number[],
  compressed: boolean,
): Buffer {
  const cells = names.map((name) =>
    matMatrix(
      '',
      4,
      1,
      name.length,
      compressed
        ? element(16, Buffer.from(name))
        : element(4, Buffer.from(Uint16Array.from(name, (c) => c.charCodeAt(0)).buffer)),
    ),
  );
  const variables = [
    matMatrix('n', 9, 1, 1, element(2, Buffer.of(1))),
    matMatrix(`${kind}_set`, 1, names.length, 1, ...cells),
    matMatrix(`${kind}_ids`, 11, ids.length, 1, element(4, Buffer.from(Uint16Array.from(ids).buffer))),
  ].map((variable) => {
    if (!compressed) return variable;
    const data = deflateSync(variable);
    const tag = Buffer.alloc(8);
    tag.writeUInt32LE(15, 0);
    tag.writeUInt32LE(data.length, 4);
    return Buffer.concat([tag, data]);
  });
  const head = Buffer.alloc(128, ' ');
  head.write('MATLAB 5.0 MAT-file');
  head.writeUInt16LE(0x0100, 124);
  head.write('IM', 126);
  return Buffer.concat([head, ...variables]);
}

/** TinyFace: people with one to three probes and as many in the gallery, and three distractors a person. */
export function writeTinyFace(dir: string, people: number): PlainSet {
  const set = empty();
  const next = numbers(6);
  const [probes, gallery, distractors] = [[], [], []] as [string[], string[], string[]];
  const [probeIds, galleryIds] = [[], []] as [number[], number[]];
  for (let p = 1; p <= people; p++) {
    for (let k = next(3); k >= 0; k--) {
      probes.push(addImage(set, `Probe/${p}_${k}.jpg`, String(p)));
      probeIds.push(p);
    }
    for (let k = next(3); k >= 0; k--) {
      gallery.push(addImage(set, `Gallery_Match/${p}_${k}.jpg`, String(p)));
      galleryIds.push(p);
    }
    for (let k = 0; k < 3; k++)
      distractors.push(addImage(set, `Gallery_Distractor/${3 * p + k}.jpg`, `nobody ${3 * p + k}`));
  }
  const bare = (names: readonly string[]) => names.map((name) => name.slice(name.indexOf('/') + 1));
  const place = (name: string) => join(dir, 'Testing_Set', name);
  write(place('probe_img_ID_pairs.mat'), matList('probe', bare(probes), probeIds, true));
  write(place('gallery_match_img_ID_pairs.mat'), matList('gallery', bare(gallery), galleryIds, false));
  set.searches = [[{ gallery: [...gallery, ...distractors], probes }]];
  return set;
}

/** MegaFace with lists of 10, 100 and 1,000 distractors, each list in an order of its own; the largest does not hold all of the others. */
export function writeMegaFace(dir: string, people: number): PlainSet & { lists: string[][] } {
  const set = empty();
  const next = numbers(7);
  const probes: string[] = [];
  for (let p = 1; p <= people; p++)
    for (let k = 1 + next(4); k >= 0; k--)
      probes.push(addImage(set, `facescrub/person ${p}/${k}.png`, String(p)));
  const lists = [10, 100, 1000].map((size, at) =>
    Array.from({ length: size }, (_, i) => `megaface/${(i * 7 + at) % 1009}/a.jpg`),
  );
  for (const name of new Set(lists.flat())) addImage(set, name, 'nobody');
  const place = (name: string) => join(dir, 'devkit', 'templatelists', name);
  const bare = (names: readonly string[]) => names.map((name) => name.slice(name.indexOf('/') + 1));
  write(
    place('facescrub_features_list.json'),
    JSON.stringify({ path: bare(probes), id: probes.map((name) => set.images.get(name)) }),
  );
  for (const list of lists)
    write(place(`megaface_features_list.json_${list.length}_1`), JSON.stringify({ path: bare(list) }));
  set.searches = [[{ gallery: [], probes }]];
  return { ...set, lists };
}

/** YouTube Faces: two videos a person, 20 pairs in each of 10 splits. */
export function writeYtf(dir: string, people: number): PlainSet {
  const set = empty();
  const next = numbers(8);
  const videos = Array.from({ length: people }, (_, p) => [0, 3].map((v) => `Some_Body${p}/${v}`));
  for (const [p, own] of videos.entries())
    for (const video of own) {
      const frames = Array.from({ length: 1 + next(4) }, (_, i) => `${video}/0.${i}.jpg`);
      for (const frame of frames) set.images.set(frame, String(p));
      set.templates.set(video, { person: String(p), media: [frames] });
    }
  const pairs: PlainPair[] = [];
  for (let fold = 0; fold < 10; fold++)
    for (let i = 0; i < 20; i++) {
      const [a, b] = [next(people), next(people)];
      const genuine = i % 2 === 0;
      const other = genuine ? a : a === b ? (a + 1) % people : b;
      pairs.push({ a: videos[a]?.[0] ?? '', b: videos[other]?.[1] ?? '', genuine, fold });
    }
  set.pairs = [pairs];
  write(
    join(dir, 'splits.txt'),
    'split number, pair number in split, first name, second name, is same\n' +
      pairs
        .map(({ a, b, genuine, fold }, i) => `${fold + 1}, ${(i % 20) + 1}, ${a}, ${b}, ${Number(genuine)}\n`)
        .join(''),
  );
  return set;
}
