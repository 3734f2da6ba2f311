/** Photographs searched in a gallery that distractors fill up: TinyFace and MegaFace. Each image is a template. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { byName } from '../../data/formats/identities.js';
import { readMat } from '../../data/formats/mat.js';
import { isImageName } from '../../data/image-file.js';
import { UserError } from '../../tensor/errors.js';
import { Numbering, oneOf } from './metadata.js';
import type { ImagePlaces, ProtocolSet } from './protocol.js';

/** Images of a folder and those below it, by ascending names. */
function imagesBelow(root: string, folder: string): string[] {
  return readdirSync(join(root, folder))
    .sort(byName)
    .flatMap((name) => {
      const path = `${folder}/${name}`;
      if (isImageName(name)) return [path];
      return statSync(join(root, path)).isDirectory() ? imagesBelow(root, path) : [];
    });
}

const count = (length: number, from = 0) => Int32Array.from({ length }, (_, i) => from + i);

/** The images and people of a list in MATLAB's format. */
function readTinyFaceList(file: string, kind: 'gallery' | 'probe'): { names: string[]; ids: number[] } {
  const variables = readMat(file);
  const [names, ids] = [variables.get(`${kind}_set`), variables.get(`${kind}_ids`)];
  const text = Array.isArray(names) ? names.filter((one) => typeof one === 'string') : [];
  const numbers = Array.isArray(ids) ? ids.filter((one) => typeof one === 'number') : [];
  if (text.length === 0 || text.length !== numbers.length)
    throw new UserError(
      `${file}: expected as many names in ${kind}_set as numbers in ${kind}_ids, found ${text.length} and ${numbers.length}`,
    );
  return { names: text, ids: numbers };
}

/**
 * TinyFace: DIR (or DIR/Testing_Set) has the folders Probe, Gallery_Match and Gallery_Distractor, and the lists
 * probe_img_ID_pairs.mat and gallery_match_img_ID_pairs.mat.
 */
export function openTinyFace(dir: string, { images, names }: ImagePlaces): ProtocolSet {
  const lists = existsSync(join(dir, 'Testing_Set')) ? join(dir, 'Testing_Set') : dir;
  const root = images ?? lists;
  const probe = readTinyFaceList(oneOf([join(lists, 'probe_img_ID_pairs.mat')]), 'probe');
  const match = readTinyFaceList(oneOf([join(lists, 'gallery_match_img_ID_pairs.mat')]), 'gallery');
  const folder = 'Gallery_Distractor';
  if (!names && !existsSync(join(root, folder)))
    throw new UserError(`expected the folder ${join(root, folder)}, found none`);
  const distractors = names?.filter((name) => name.startsWith(`${folder}/`)) ?? imagesBelow(root, folder);
  const files = [
    ...probe.names.map((name) => `Probe/${name}`),
    ...match.names.map((name) => `Gallery_Match/${name}`),
    ...distractors,
  ];
  const probes = probe.names.length;
  return {
    title: 'TinyFace',
    rule: 'each probe against all images of Gallery_Match and Gallery_Distractor, each of them an entry of its own',
    root,
    files,
    landmarks: null,
    media: undefined,
    templateName: (template) => files[template] ?? '',
    people: Int32Array.from([...probe.ids, ...match.ids, ...distractors.map(() => -1)]),
    tasks: [
      {
        kind: 'identification',
        name: '1:N',
        ranks: [1, 5, 10, 20],
        fpir: [],
        averagePrecision: true,
        parts: [{ name: 'all', gallery: count(files.length - probes, probes), probes: count(probes) }],
      },
    ],
  };
}

const listSchema = z.object({
  path: z.array(z.string().min(1)).min(1),
  id: z.array(z.union([z.string(), z.number()])).optional(),
});

function readJson(file: string): z.infer<typeof listSchema> {
  let found: unknown;
  try {
    found = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    const reason = error instanceof SyntaxError ? error.message : 'a file that cannot be read';
    throw new UserError(`${file}: expected JSON with a list "path", found ${reason}`);
  }
  const parsed = listSchema.safeParse(found);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new UserError(
      `${file}: expected {"path": [names], "id": [people]}, found at ${issue?.path.join('.') || 'the top'}: ${issue?.message ?? ''}`,
    );
  }
  return parsed.data;
}

/** Numbers of distractors of the devkit's lists. */
const sizes = [10, 100, 1000, 10_000, 100_000, 1_000_000] as const;

/**
 * MegaFace, challenge 1: DIR/templatelists (or DIR/devkit/templatelists) has facescrub_features_list.json, the probes with their people,
 * and megaface_features_list.json_SIZE_1 for each number of distractors; the images are in DIR/facescrub and DIR/megaface.
 */
export function openMegaFace(dir: string): ProtocolSet {
  const scrub = oneOf(
    ['templatelists', 'devkit/templatelists'].map((lists) =>
      join(dir, lists, 'facescrub_features_list.json'),
    ),
  );
  const probes = readJson(scrub);
  const { path: paths, id: ids } = probes;
  if (!ids || ids.length !== paths.length)
    throw new UserError(
      `${scrub}: expected the person of each of ${paths.length} paths in "id", found ${ids?.length ?? 0}`,
    );
  const listOf = (size: number) => `${scrub.replace(/facescrub_features/, 'megaface_features')}_${size}_1`;
  const found = sizes.filter((size) => existsSync(listOf(size)));
  if (found.length === 0)
    throw new UserError(`expected the file ${sizes.map(listOf).join(' or ')}, found none`);
  const distractors = new Numbering<string>();
  const member: number[] = [];
  const counted = found.map((size, bit) => {
    const list = listOf(size);
    const own = new Set(readJson(list).path);
    for (const path of own) {
      const at = distractors.of(path);
      member[at] = (member[at] ?? 0) | (1 << bit);
    }
    return own.size;
  });
  const people = new Numbering<string>();
  const files = [
    ...paths.map((path) => `facescrub/${path}`),
    ...distractors.keys.map((path) => `megaface/${path}`),
  ];
  return {
    title: 'MegaFace, challenge 1',
    rule:
      'rank 1: share of all ordered pairs of two images of one person, probe and mate, for which no distractor scores as high with the probe ' +
      'as the mate or higher; verification: all pairs of one person against all pairs of a probe and a distractor of the largest list',
    root: dir,
    files,
    landmarks: null,
    media: undefined,
    templateName: (template) => files[template] ?? '',
    people: Int32Array.from([...ids.map((id) => people.of(String(id))), ...distractors.keys.map(() => -1)]),
    tasks: [
      {
        kind: 'distractors',
        name: 'leave one out',
        probes: count(paths.length),
        distractors: count(distractors.keys.length, paths.length),
        sizes: counted,
        member: Int32Array.from(member),
        far: [1e-6],
      },
    ],
  };
}
