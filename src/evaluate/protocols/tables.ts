/**
 * IJB-A and IJB-S: tables of faces with TEMPLATE_ID, SUBJECT_ID, FILE and MEDIA_ID or SIGHTING_ID, from which templates are made. A
 * file that shows several of the listed faces has a crop for each: FILE with _SIGHTING_ID before its extension.
 */
import { existsSync } from 'node:fs';
import { extname, join } from 'node:path';
import { UserError } from '../../tensor/errors.js';
import { ijbFpir, ijbRanks } from './ijb.js';
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
import type { Comparisons, ProtocolSet, SearchPart } from './protocol.js';

/** The templates of several tables. */
class FaceTables {
  readonly templates = new TemplateTable();
  readonly #people = new Numbering<number>();
  /** For each file the sightings that it shows, for each sighting the faces: template and medium. */
  readonly #faces = new Map<string, Map<string, { template: number; medium: string }[]>>();

  /** The table's templates, once each, in its order. `space` keeps apart templates that have the same number elsewhere. */
  read(table: string, space: string): Int32Array {
    const listed = new Set<number>();
    for (const { template: id, subject, file, medium, sighting, line } of readFaceTable(table)) {
      const template = this.templates.template(`${space}${id}`);
      const person = this.#people.of(subject);
      const known = this.templates.person(template);
      if (known >= 0 && known !== person)
        throw malformed(
          table,
          line,
          `template ${id} to be of subject ${this.#people.keys[known] ?? ''} as before`,
          String(subject),
        );
      this.templates.setPerson(template, person);
      const sightings = this.#faces.get(file) ?? new Map<string, { template: number; medium: string }[]>();
      this.#faces.set(file, sightings);
      const faces = sightings.get(sighting) ?? [];
      sightings.set(sighting, faces);
      // Where no medium is told, each file is one. A template may be listed again, as a probe and in a gallery.
      const own = medium || file;
      if (!faces.some((face) => face.template === template && face.medium === own))
        faces.push({ template, medium: own });
      listed.add(template);
    }
    if (listed.size === 0) throw new UserError(`${table}: expected faces of templates, found none`);
    return Int32Array.from(listed);
  }

  /** Gives the templates their images: call it when all tables have been read. */
  finish(): string[] {
    const files: string[] = [];
    for (const [file, sightings] of this.#faces)
      for (const [sighting, faces] of sightings) {
        const end = extname(file);
        const crop =
          sightings.size === 1 ? file : `${file.slice(0, file.length - end.length)}_${sighting}${end}`;
        const image = files.push(crop) - 1;
        for (const { template, medium } of faces) this.templates.addImage(template, medium, image);
      }
    return files;
  }
}

function readPairs(file: string, space: string, templates: TemplateTable): Comparisons {
  const [first, second, genuine] = [new Int32List(), new Int32List(), new Int32List()];
  for (const { text, line } of readLines(file)) {
    const [a, b, ...more] = text.split(',').map((cell) => wholeNumber(cell.trim()));
    if (a === undefined || b === undefined || more.length > 0)
      throw malformed(file, line, 'TEMPLATE,TEMPLATE', text);
    const [x, y] = [templates.find(`${space}${a}`), templates.find(`${space}${b}`)];
    if (x === undefined || y === undefined)
      throw malformed(file, line, 'two templates of verify_metadata', text);
    first.push(x);
    second.push(y);
    genuine.push(Number(templates.person(x) === templates.person(y)));
  }
  return { first: first.toArray(), second: second.toArray(), genuine: Uint8Array.from(genuine.toArray()) };
}

/**
 * IJB-A: DIR/IJB-A_11_sets/splitN/verify_metadata_N.csv and verify_comparisons_N.csv, DIR/IJB-A_1N_sets/splitN/search_gallery_N.csv and
 * search_probe_N.csv, N from 1 to 10 (or fewer), and the aligned crops in DIR/images.
 */
export function openIjba(dir: string): ProtocolSet {
  const place = (set: string, n: number, name: string) =>
    join(dir, `IJB-A_${set}_sets`, `split${n}`, `${name}_${n}.csv`);
  const splits = (set: string, name: string) =>
    Array.from({ length: 10 }, (_, i) => i + 1).filter((n) => existsSync(place(set, n, name)));
  const tables = new FaceTables();
  const pairs = splits('11', 'verify_metadata').map((n) => {
    const space = `split ${n} 1:1 `;
    tables.read(place('11', n, 'verify_metadata'), space);
    return {
      name: `split ${n}`,
      ...readPairs(oneOf([place('11', n, 'verify_comparisons')]), space, tables.templates),
    };
  });
  const searches = splits('1N', 'search_gallery').map((n): SearchPart => {
    const space = `split ${n} 1:N `;
    return {
      name: `split ${n}`,
      gallery: tables.read(place('1N', n, 'search_gallery'), space),
      probes: tables.read(oneOf([place('1N', n, 'search_probe')]), space),
    };
  });
  if (pairs.length + searches.length === 0)
    throw new UserError(
      `expected the file ${place('11', 1, 'verify_metadata')} or ${place('1N', 1, 'search_gallery')}, found neither`,
    );
  const files = tables.finish();
  return {
    title: 'IJB-A',
    rule: 'figures are means over the splits found',
    root: join(dir, 'images'),
    files,
    landmarks: null,
    media: tables.templates.media(),
    templateName: (template) => tables.templates.name(template),
    people: tables.templates.people(),
    tasks: [
      ...(pairs.length > 0
        ? [{ kind: 'verification' as const, name: '1:1', far: [1e-3, 1e-2, 1e-1], parts: pairs }]
        : []),
      ...(searches.length > 0
        ? [
            {
              kind: 'identification' as const,
              name: '1:N',
              ranks: ijbRanks,
              fpir: ijbFpir,
              averagePrecision: false,
              parts: searches,
            },
          ]
        : []),
    ],
  };
}

export const surveillanceTests = ['single', 'booking', 'surveillance'] as const;

/**
 * IJB-S: probes are people in surveillance videos; galleries are single photographs, sets of booking photographs, or the videos
 * themselves. The set's agreement does not allow its metadata to be passed on, so they are expected as tables of this form:
 * DIR/ijbs_TEST_gallery_G1.csv, _G2.csv and ijbs_TEST_probe.csv, TEST being single, booking or surveillance, in the columns of IJB-B's,
 * and the aligned crops in DIR/images. A template has the same number in all of them.
 */
export function openIjbs(dir: string): ProtocolSet {
  const place = (test: string, rest: string) => join(dir, `ijbs_${test}_${rest}.csv`);
  const found = surveillanceTests.filter((test) => existsSync(place(test, 'probe')));
  if (found.length === 0)
    throw new UserError(
      `expected the file ${surveillanceTests.map((test) => place(test, 'probe')).join(' or ')}, found none`,
    );
  const tables = new FaceTables();
  const tasks = found.map((test) => {
    const space = `${test} `;
    const probes = tables.read(place(test, 'probe'), space);
    const parts = [1, 2].map((n): SearchPart => ({
      name: `gallery ${n}`,
      gallery: tables.read(oneOf([place(test, `gallery_G${n}`)]), space),
      probes,
    }));
    return {
      kind: 'identification' as const,
      name: `surveillance to ${test}`,
      ranks: ijbRanks,
      fpir: ijbFpir,
      averagePrecision: false,
      parts,
    };
  });
  const files = tables.finish();
  return {
    title: 'IJB-S',
    rule:
      'all probes against each of the two galleries, figures the means over both; a template is not compared with itself; ' +
      'a probe whose person is not in a gallery has no mate there',
    root: join(dir, 'images'),
    files,
    landmarks: null,
    media: tables.templates.media(),
    templateName: (template) => tables.templates.name(template),
    people: tables.templates.people(),
    tasks,
  };
}
