/**
 * IJB-B and IJB-C as InsightFace distributes them. DIR/meta (or DIR itself) has
 *   ijbc_face_tid_mid.txt           IMAGE TEMPLATE MEDIUM
 *   ijbc_template_pair_label.txt    TEMPLATE TEMPLATE 1|0                            for verification
 *   ijbc_1N_gallery_G1.csv, _G2.csv, ijbc_1N_probe_mixed.csv (IJB-B: S1, S2)         for identification
 *   ijbc_name_5pts_score.txt        IMAGE, x and y of five points, the detector's score
 * and DIR/loose_crop the images.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { UserError } from '../../tensor/errors.js';
import {
  Int32List,
  malformed,
  Numbering,
  oneOf,
  readFaceTable,
  readLines,
  TemplateTable,
  wholeNumber,
} from './metadata.js';
import type { Comparisons, ProtocolSet, SearchPart, Task } from './protocol.js';

/** Each gallery has its own part: a probe whose person is in the other gallery has no mate in this one. */
export const ijbRanks = [1, 5, 10] as const;
export const ijbFpir = [0.01, 0.1] as const;
export const ijbFar = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1] as const;

function readTemplates(file: string, templates: TemplateTable): string[] {
  const images = new Numbering<string>();
  for (const { text, line } of readLines(file)) {
    const [name, tid, mid, ...more] = text.split(/\s+/);
    const [template, medium] = [wholeNumber(tid), wholeNumber(mid)];
    if (!name || template === undefined || medium === undefined || more.length > 0)
      throw malformed(file, line, 'IMAGE TEMPLATE MEDIUM, the last two whole numbers', text);
    templates.addImage(templates.template(String(template)), String(medium), images.of(name));
  }
  if (images.keys.length === 0) throw new UserError(`${file}: expected images of templates, found none`);
  return images.keys;
}

function readComparisons(file: string, templates: TemplateTable): Comparisons {
  const [first, second, genuine] = [new Int32List(), new Int32List(), new Int32List()];
  for (const { text, line } of readLines(file)) {
    const [a, b, label, ...more] = text.split(/\s+/);
    if (
      wholeNumber(a) === undefined ||
      wholeNumber(b) === undefined ||
      !/^[01]$/.test(label ?? '') ||
      more.length
    )
      throw malformed(file, line, 'TEMPLATE TEMPLATE 1 or 0', text);
    const [x, y] = [templates.find(String(Number(a))), templates.find(String(Number(b)))];
    if (x === undefined || y === undefined)
      throw malformed(file, line, 'two templates that have images', text);
    first.push(x);
    second.push(y);
    genuine.push(Number(label));
  }
  return {
    first: first.toArray(),
    second: second.toArray(),
    genuine: Uint8Array.from(genuine.toArray()),
  };
}

/** The templates that a table lists, once each, in its order; their people are noted. */
function readList(file: string, templates: TemplateTable, people: Numbering<number>): Int32Array {
  const listed = new Set<number>();
  for (const { template: id, subject, line } of readFaceTable(file)) {
    const template = templates.find(String(id));
    if (template === undefined) throw malformed(file, line, 'a template that has images', String(id));
    const person = people.of(subject);
    const known = templates.person(template);
    if (known >= 0 && known !== person)
      throw malformed(
        file,
        line,
        `template ${id} to be of subject ${people.keys[known] ?? ''} as before`,
        String(subject),
      );
    templates.setPerson(template, person);
    listed.add(template);
  }
  if (listed.size === 0) throw new UserError(`${file}: expected templates, found none`);
  return Int32Array.from(listed);
}

export function openIjb(dir: string, name: 'ijbb' | 'ijbc'): ProtocolSet {
  const meta = existsSync(join(dir, 'meta')) ? join(dir, 'meta') : dir;
  const file = (rest: string) => join(meta, `${name}_${rest}`);
  const templates = new TemplateTable();
  const files = readTemplates(oneOf([file('face_tid_mid.txt')]), templates);
  const tasks: Task[] = [];
  const pairs = file('template_pair_label.txt');
  const probeList = file('1N_probe_mixed.csv');
  if (existsSync(pairs))
    tasks.push({
      kind: 'verification',
      name: '1:1',
      far: ijbFar,
      parts: [{ name: 'all', ...readComparisons(pairs, templates) }],
    });
  if (existsSync(probeList)) {
    const people = new Numbering<number>();
    const probes = readList(probeList, templates, people);
    const parts = [1, 2].map((n): SearchPart => {
      const list = oneOf([file(`1N_gallery_G${n}.csv`), file(`1N_gallery_S${n}.csv`)]);
      return { name: `gallery ${n}`, gallery: readList(list, templates, people), probes };
    });
    tasks.push({
      kind: 'identification',
      name: '1:N',
      ranks: ijbRanks,
      fpir: ijbFpir,
      averagePrecision: false,
      parts,
    });
  }
  if (tasks.length === 0) throw new UserError(`expected the file ${pairs} or ${probeList}, found neither`);
  const landmarks = file('name_5pts_score.txt');
  return {
    title: name === 'ijbb' ? 'IJB-B' : 'IJB-C',
    rule:
      'verification: the listed pairs of templates; identification: the mixed probes against each of the two galleries, ' +
      'figures the means over both; a probe whose person is in the other gallery only has no mate',
    root: join(dir, 'loose_crop'),
    files,
    landmarks: existsSync(landmarks) ? landmarks : null,
    media: templates.media(),
    templateName: (template) => templates.name(template),
    people: templates.people(),
    tasks,
  };
}
